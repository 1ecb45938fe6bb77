"""The table at the end. It counts what the servers have received, and nothing else."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Tally:
    """What became of the messages in one lane.

    Attributes:
        once: Received exactly once.
        doubled: Received twice or more.
        doubled_alone: Those among them that were published only once.
        lost: Never received.
    """

    once: int
    doubled: int
    doubled_alone: int
    lost: int

    @classmethod
    def of(cls, received: Counter[str], copies: Mapping[str, int]) -> Self:
        """Count; *copies* tells how often each recipient's message was published."""
        doubled = [recipient for recipient in copies if received[recipient] > 1]
        return cls(
            once=sum(received[recipient] == 1 for recipient in copies),
            doubled=len(doubled),
            doubled_alone=sum(copies[recipient] == 1 for recipient in doubled),
            lost=sum(received[recipient] == 0 for recipient in copies),
        )


def table(
    plain: Counter[str], ours: Counter[str], copies: Mapping[str, int], resolved: int, left: int
) -> str:
    """The table of both lanes."""
    anna = next(iter(copies))
    groups = {
        "mails": {to: n for to, n in copies.items() if not is_webhook(to)},
        "webhooks": {to: n for to, n in copies.items() if is_webhook(to)},
    }
    rows: list[tuple[str, object, object]] = [("", "plain Celery", "idempotent")]
    for name, group in groups.items():
        theirs, own = Tally.of(plain, group), Tally.of(ours, group)
        rows += [
            (f"{name} sent exactly once", theirs.once, own.once),
            (f"{name} sent twice or more", theirs.doubled, own.doubled),
            ("  though published only once", theirs.doubled_alone, own.doubled_alone),
            (f"{name} lost", theirs.lost, own.lost),
        ]
    rows += [
        ("in doubt, then resolved", "-", f"{resolved + left} -> {left}"),
        (f"{anna}'s inbox", _copies(plain[anna]), _copies(ours[anna])),
    ]
    return "\n".join(f"{name:<32}{one!s:>16}{two!s:>16}" for name, one, two in rows)


def is_webhook(recipient: str) -> bool:
    """Whether it is the path of a webhook, and no mail address."""
    return recipient.startswith("/")


def is_kept(received: Counter[str], copies: Mapping[str, int], left: int) -> bool:
    """Whether a lane has lost nothing, doubled nothing and left no doubt."""
    tally = Tally.of(received, copies)
    return not (tally.lost or tally.doubled or left)


def _copies(number: int) -> str:
    return "1 copy" if number == 1 else f"{number} copies"
