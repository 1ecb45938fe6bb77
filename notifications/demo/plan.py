"""What one seed decides: how often each message is published and which deliveries meet a fault."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

COPIES_OF_THE_FIRST = 3
"""The first message of the file is the one whose inbox is shown."""


class Fault(Enum):
    """What happens when a server sees a message for the first time in a lane."""

    KILL_BEFORE = auto()
    """The server has not taken it when the process that sends it is killed."""
    KILL_AFTER = auto()
    """It has taken the mail, and has not said so."""
    KILL_WORKER = auto()
    """The same, and the whole worker is killed."""
    HANG_UP = auto()
    """It has taken the mail, says nothing and hangs up."""


@dataclass(frozen=True)
class Plan:
    """The same for both lanes.

    Attributes:
        copies: How often each recipient's message is published.
        faults: What its first arrival at its server meets.
        blind_kills: Shares of the storm, between 0 and 1, after which a process is killed
            whatever it is doing.
        shuffle: Seed of every later choice, one generator per use.
    """

    copies: dict[str, int]
    faults: dict[str, Fault]
    blind_kills: tuple[float, ...]
    shuffle: int

    @classmethod
    def of(cls, recipients: Sequence[str], *, seed: int, kills: int) -> Self:
        """The plan for these messages, with *kills* SIGKILLs in each lane.

        Raises ``ValueError`` when there are fewer messages than faults, when there is no kill, or
        when a recipient has two messages: the servers tell them apart by their recipient.
        """
        if kills < 1:
            raise ValueError("KILLS must be 1 or more.")
        if len(set(recipients)) < len(recipients):
            raise ValueError("The demo needs a file with one message per recipient.")
        chance = random.Random(seed)  # noqa: S311 faults, not secrets
        copies = {recipient: chance.randint(1, 4) for recipient in recipients}
        copies[recipients[0]] = COPIES_OF_THE_FIRST
        blind = kills // 4
        aimed = _faults(kills - blind, hang_ups=max(1, len(recipients) // 40))
        # Not at the end of the file, so that the storm is still blowing.
        victims = recipients[1 : 1 + len(recipients) * 3 // 4]
        if len(victims) < len(aimed):
            raise ValueError(f"{len(recipients)} messages are too few for {kills} kills per lane.")
        faults = dict(zip(chance.sample(victims, len(aimed)), aimed, strict=True))
        return cls(
            copies=copies,
            faults={recipients[0]: Fault.KILL_AFTER, **faults},
            blind_kills=tuple(sorted(chance.uniform(0.05, 0.8) for _ in range(blind))),
            shuffle=chance.randrange(2**32),
        )


def _faults(kills: int, *, hang_ups: int) -> list[Fault]:
    workers = kills // 5
    singles = kills - workers - 1  # the first message of the file meets the last one
    faults = [Fault.KILL_WORKER] * workers + [Fault.HANG_UP] * hang_ups
    return faults + [(Fault.KILL_BEFORE, Fault.KILL_AFTER)[n % 2] for n in range(singles)]
