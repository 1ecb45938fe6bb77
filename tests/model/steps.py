"""A step on the app and on the model beside it, and what is compared after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.model.actual import Actual
from tests.model.expected import Expected
from tests.model.process import Process
from tests.model.record import VERDICTS, Attempt, Ending, Policy

KEYS = "ab"
TRANSACTIONAL = Policy("transactional")
POLICIES = [TRANSACTIONAL] + [
    Policy(name, marks_effect=marks) for name in ("hold", "retry", "ask") for marks in (False, True)
]

keys = st.sampled_from(KEYS)
policies = st.sampled_from(POLICIES)
#: As JSON. All but the last two are false.
results = st.sampled_from(["null", "0", "false", '""', "[]", '"sent"', '{"a": 1}'])
endings = st.one_of(
    st.builds(Ending, st.just("returned"), st.none() | results),
    st.builds(Ending, st.sampled_from(["refused", "unclear", "died"])),
)
#: A leased call is refused inside of a transaction.
nested_policies = st.just(TRANSACTIONAL) | policies
#: What the provider says. An unknown answer and an error mean the same.
answers = st.sampled_from(["truth", "truth", "lie", "unknown", "raises"])


class Steps(RuleBasedStateMachine):
    """A few keys at once: their records never touch each other."""

    def __init__(self, using: str, processes: list[Process], ran: Counter[str]) -> None:
        """``ran`` counts examples and steps."""
        super().__init__()
        self.ran = ran
        ran["examples"] += 1
        self.using, self.is_sqlite = using, using == "sqlite"
        self.expected, self.actual = Expected(KEYS), Actual(using, KEYS)
        self.free = list(processes)
        #: Attempts whose bodies wait for the next step.
        self.open: dict[Attempt, Process] = {}
        #: Messages by key: task id and fingerprint.
        self.messages: dict[str, list[tuple[str, str]]] = {key: [] for key in KEYS}
        #: Epochs in which somebody was wrong, or hurried, so that nothing is promised.
        self.spoilt: set[tuple[str, int]] = set()
        self.claimants: list[Attempt] = []
        self.number = 0
        self.is_sound = True

    @initialize(policies=st.fixed_dictionaries(dict.fromkeys(KEYS, policies)))
    def declare(self, policies: dict[str, Policy]) -> None:
        self.policies = policies

    # -- what is compared --------------------------------------------------------------------

    @contextmanager
    def step(self) -> Iterator[None]:
        self.is_sound = False
        yield
        expected, actual = self.expected, self.actual
        assert actual.shown() == {key: expected.shown(key) for key in KEYS}
        assert actual.events() == expected.events
        assert actual.parked() == expected.parked
        assert actual.published == expected.published
        assert actual.rows() == expected.rows
        self.check_promises()
        self.is_sound = True
        self.ran["steps"] += 1

    def check_promises(self) -> None:
        """By what was done outside, and the rows: no record says anything here."""
        rows = self.actual.rows()
        for (key, epoch), policies in self.expected.policies.items():
            if (key, epoch) in self.spoilt or ("retry" in policies and len(policies) > 1):
                continue
            sent = [used for *where, used in self.actual.outside if where == [key, epoch]]
            # The provider knows a repeat by its key.
            outside = len(set(sent) if policies == {"retry"} else sent)
            assert outside + rows[key, epoch, "row"] <= 1, f"{key} had its effect twice"
            assert rows[key, epoch, "settled"] <= 1
        provider_keys = self.actual.provider_keys
        assert len(set(provider_keys.values())) == len(provider_keys)
        for key, used in self.actual.asked:
            assert used in {known for (of, _), known in provider_keys.items() if of == key}

    def has_happened(self, key: str) -> bool:
        epoch = self.expected.epochs[key]
        sent = any(where == [key, epoch] for *where, _ in self.actual.outside)
        return sent or self.expected.rows[key, epoch, "row"] > 0

    def answer_for(self, key: str, answer: str) -> str:
        if answer not in ("truth", "lie"):
            return answer
        return VERDICTS[self.has_happened(key) is not (answer == "truth")]

    def judge_verdict(self, key: str, epoch: int, answer: str, resolved: int) -> None:
        """Nothing is promised to who is told a lie, nor to who does not wait for an old holder."""
        if self.expected.events[key].count("resolved") > resolved:
            hurried = any(attempt.key == key for attempt in self.open)
            if answer != self.answer_for(key, "truth") or hurried:
                self.spoilt.add((key, epoch))

    @contextmanager
    def asked(self, answer: str) -> Iterator[dict[str, str]]:
        """The provider answers so, if it is asked."""
        said = self.actual.answers = {key: self.answer_for(key, answer) for key in KEYS}
        before = {key: (self.expected.epochs[key], self.resolved(key)) for key in KEYS}
        yield dict(said)
        for key, (epoch, resolved) in before.items():
            self.judge_verdict(key, epoch, said[key], resolved)

    def resolved(self, key: str) -> int:
        return self.expected.events[key].count("resolved")
