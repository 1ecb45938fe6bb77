"""Which faults strike, and in which order: decided by the seed."""

import random
from collections.abc import Iterator

#: What a process suffers at a place that it reaches: the order is given with the message.
PLACES = ("delivery", "body", "effect", "end")
AIMED = [
    f"{what} {place}"
    for what in ("kill process", "kill worker", "freeze process")
    for place in PLACES
]
#: What a server does to its sender, once for each promise that has an effect outside.
SENDING = [
    "kill process before acceptance",
    "kill process after acceptance",
    "hang up after acceptance",
]
BLIND = ["kill process", "kill worker", "freeze worker", "end a backend"]
SERVERS = ["crash the broker", "crash PostgreSQL"]

#: How many of each there are in a deck.
CARDS = {
    **dict.fromkeys([card for card in AIMED if card.startswith("kill process")], 3),
    **dict.fromkeys([card for card in AIMED if card.startswith("kill worker")], 1),
    **dict.fromkeys([card for card in AIMED if card.startswith("freeze")], 1),
    **dict.fromkeys(SENDING, 6),
    "kill process": 8,
    "kill worker": 2,
    "freeze worker": 2,
    "end a backend": 6,
    "crash the broker": 1,
    "crash PostgreSQL": 1,
}


def is_kill(card: str) -> bool:
    """Whether it ends something by SIGKILL."""
    return card.startswith("kill") or card == "crash the broker"


#: How many cards a deck has for each kill.
PER_KILL = sum(CARDS.values()) / sum(n for card, n in CARDS.items() if is_kill(card))


def cards(chance: random.Random) -> Iterator[str]:
    """Deck after deck, shuffled; the first begins with one of each."""
    first = list(CARDS)
    chance.shuffle(first)
    rest = [card for card, number in CARDS.items() for _ in range(number - 1)]
    chance.shuffle(rest)
    yield from first + rest
    while True:
        deck = [card for card, number in CARDS.items() for _ in range(number)]
        chance.shuffle(deck)
        yield from deck
