"""Which faults strike, and in which order: decided by the seed."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

PROMISES = ("transactional", "HOLD", "RETRY", "ask")
#: Those whose effect is not a row.
OUTSIDE = PROMISES[1:]
#: Where a process can suffer an order that is given with a message.
PLACES = ("delivery", "body", "effect", "end")
#: What a server does to its sender.
SENDING = (
    "kill process before acceptance",
    "kill process after acceptance",
    "hang up after acceptance",
)


class Card(NamedTuple):
    """A fault, and the promise that it is ordered for; None strikes whatever is there."""

    fault: str
    promise: str | None = None

    @property
    def is_kill(self) -> bool:
        return is_kill(self.fault)


def is_kill(fault: str) -> bool:
    """Whether it ends something by SIGKILL."""
    return fault.startswith("kill") or fault == "crash the broker"


#: A deck: what is cheap strikes every promise, a worker's death one that the seed chooses.
CARDS = Counter(
    {
        **{Card(f"kill process {place}", promise): 1 for place in PLACES for promise in PROMISES},
        **{
            Card(f"freeze process {place}", promise): 1
            for place in ("body", "effect")
            for promise in PROMISES
        },
        **{Card(fault, promise): 1 for fault in SENDING for promise in OUTSIDE},
        **{Card(f"kill worker {place}", "any"): 1 for place in PLACES},
        # The one whose rows tell whether a stale settlement was refused; it takes somebody who
        # takes over before it wakes.
        Card("freeze process effect", "RETRY"): 4,
        Card("freeze process delivery", "any"): 1,
        Card("freeze process end", "any"): 1,
        Card("kill process"): 8,
        Card("kill worker"): 2,
        Card("freeze worker"): 2,
        Card("end a backend"): 6,
        Card("crash the broker"): 1,
        Card("crash PostgreSQL"): 1,
    }
)
#: How many cards a deck has for each kill.
PER_KILL = CARDS.total() / sum(number for card, number in CARDS.items() if card.is_kill)


def cards(chance: random.Random) -> Iterator[Card]:
    """Deck after deck, shuffled."""
    while True:
        deck = list(CARDS.elements())
        chance.shuffle(deck)
        for card in deck:
            yield card._replace(promise=chance.choice(PROMISES)) if card.promise == "any" else card
