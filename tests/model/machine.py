"""Deliveries, operators and time, in any order, on the app and on the model beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
)

from idempotency import current_attempt
from idempotency.exceptions import NotInDoubt, NotSettled
from idempotency.maintenance import purge, sweep
from idempotency.resolution import allow_again, resolve
from idempotency.testing.records import let_time_pass
from tests.model.actual import HOUR, Actual, Process, end_as, said_of
from tests.model.expected import TOLD, VERDICTS, Attempt, Ending, Expected, Policy

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


class Machine(RuleBasedStateMachine):
    """Deliveries of a few keys at once: their records never touch each other."""

    attempts = Bundle("attempts")

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

    # -- deliveries --------------------------------------------------------------------------

    @precondition(lambda self: self.free)
    @rule(
        target=attempts,
        key=keys,
        which=st.integers(0, 4),
        fingerprint=st.sampled_from("fffffg"),
        redelivered=st.booleans(),
        answer=answers,
        ending=st.none() | endings,
        acts=st.booleans(),
        nested=st.lists(
            st.tuples(keys, endings.filter(lambda each: each.how != "died"), nested_policies),
            max_size=2,
        ),
        gives_up=st.booleans(),
    )
    def deliver(self, key, which, fingerprint, redelivered, answer, ending, acts, nested, gives_up):
        """A new message, or one that may have been here before; its body may stay open."""
        task_id, fingerprint, known = self.message(key, which, fingerprint)
        redelivered = redelivered and known
        with self.step():
            attempt = self.start(key, task_id, fingerprint, redelivered, answer, gives_up)
            if attempt is None:
                return multiple()
            leased = attempt.policy.is_leased
            if ending is None and (leased or not self.is_sqlite):
                return attempt
            self.finish(attempt, ending or Ending("returned", TOLD), acts, [] if leased else nested)
        return multiple()

    def message(self, key: str, which: int, fingerprint: str) -> tuple[str, str, bool]:
        """One of the key's messages, or a new one, and whether it may have been here before."""
        messages = self.messages[key]
        if which < len(messages):
            return *messages[which], True
        self.number += 1
        messages.append((f"{key}{self.number}", fingerprint))
        return *messages[-1], False

    def may_pass_time(self) -> bool:
        """Not within a transaction: for it, the clock stands still in the rows that it has seen."""
        return all(attempt.policy.is_leased for attempt in self.open)

    def start(self, key, task_id, fingerprint, redelivered=True, answer="truth", gives_up=False):
        """The attempt whose body has begun, or None."""
        self.number += 1
        attempt = Attempt(
            name=f"{task_id} #{self.number}",
            key=key,
            task_id=task_id,
            policy=self.policies[key],
            fingerprint=fingerprint,
            redelivered=redelivered,
        )
        process = self.free.pop()
        with self.asked(answer) as said:
            expects = self.expected.deliver(attempt, said[key])
            got = self.actual.deliver(process, attempt)
        assert said_of(got) == expects, got
        if expects == "body":
            self.open[attempt] = process
            self.meet(attempt, got)
            return attempt
        self.free.append(process)
        if expects == "replay":
            self.check_result(got, self.expected.records[key].result)
        if expects == "AlreadyRunning" and gives_up:
            self.actual.give_up(attempt)
            self.expected.give_up(key, task_id)
        return None

    def meet(self, attempt: Attempt, got: Any) -> None:
        assert (got.number, got.key_hash) == (attempt.number, self.actual.hashes[attempt.key].hex)
        known = self.actual.provider_keys
        assert known.setdefault((attempt.key, attempt.generation), got.provider_key) == (
            got.provider_key
        )
        if attempt.policy.is_leased or attempt.noted:
            claim_id = self.actual.claim_of(attempt.key)
            assert self.actual.claims.setdefault(claim_id, attempt.name) == attempt.name
            if attempt.policy.is_leased and attempt not in self.claimants:
                self.claimants.append(attempt)

    @staticmethod
    def check_result(outcome: Any, expects: str | None) -> None:
        assert json.dumps(outcome.result) == (expects or "null")

    @precondition(lambda self: self.free and self.may_pass_time())
    @rule(
        target=attempts, key=keys, which=st.integers(0, 4), acts=st.booleans(), dies=st.booleans()
    )
    def lapse(self, key: str, which: int, acts: bool, dies: bool) -> Any:
        """A delivery that dies, or that is stopped until its lease has run out."""
        task_id, fingerprint, redelivered = self.message(key, which, "f")
        with self.step():
            attempt = self.start(key, task_id, fingerprint, redelivered)
            if attempt is not None and acts:
                self.act(attempt)
            if attempt is not None and (dies or not attempt.policy.is_leased):
                self.finish(attempt, Ending("died"))
        self.pass_time(25)
        return attempt if attempt in self.open else multiple()

    # -- in the body -------------------------------------------------------------------------

    def act(self, attempt: Attempt) -> Exception | None:
        """The effect, once in each body. Returns the LeaseLost by which it is forbidden."""
        if attempt.acted:
            return None
        process = self.open[attempt]
        if not attempt.policy.is_leased:
            row = attempt.key, attempt.epoch, "row"
            process.ask(partial(self.actual.add_row, *row))
            attempt.rows[row] += 1
        else:
            if attempt.policy.marks_effect and not attempt.begun:
                expects = self.expected.mark(attempt)
                got = process.ask(lambda: current_attempt().effect_begins() or "marked")
                assert (got if got == "marked" else said_of(got)) == expects, got
                if expects == "LeaseLost":
                    return got
            [used] = {
                used
                for (key, generation), used in self.actual.provider_keys.items()
                if (key, generation) == (attempt.key, attempt.generation)
            }
            self.actual.outside.append((attempt.key, attempt.epoch, used))
        attempt.acted = True
        return None

    def finish(self, attempt, ending, acts=False, nested=(), lost=None) -> None:
        """``lost`` is the LeaseLost that its body lets pass."""
        process = self.open[attempt]
        if (ending.how == "returned" or acts) and attempt.settled is None:
            lost = self.act(attempt)
        if lost is not None:
            ending = Ending("LeaseLost")
        if ending.how == "refused" and attempt.acted:
            ending = Ending("unclear")  # it is no liar
        doom = self.nest(attempt, nested)
        expects = self.expected.end(attempt, ending, doom=doom)
        last = partial(end_as, ending, lost)
        got = process.die() if ending.how == "died" else process.end(last)
        assert said_of(got) == expects, got
        if expects == "body":  # somebody was faster, and all of it was rolled back
            self.meet(attempt, got)
            self.finish(attempt, ending, acts)
            return
        del self.open[attempt]
        self.free.append(process)
        if expects == "replay":
            self.check_result(got, self.expected.records[attempt.key].result)
        elif expects == "returned" and (text := attempt.settled or ending.result):
            self.check_result(got, text)

    def nest(self, attempt, nested) -> str | None:
        """Calls inside of its transaction, whose errors it swallows."""
        doom = None
        for key, ending, policy in nested:
            expects = self.expected.join(attempt, key, ending, policy)
            epoch = self.expected.epochs[key]
            join = partial(self.actual.join, attempt, key, epoch, ending, policy)
            got = self.open[attempt].ask(join)
            assert said_of(got) == expects, got
            if expects in ("AlreadyRunning", "InDoubt", "Exhausted"):
                doom = expects
        return doom

    @rule(attempt=attempts)
    def begin_effect(self, attempt: Attempt) -> None:
        with self.step():
            if attempt in self.open and (lost := self.act(attempt)):
                self.finish(attempt, Ending("LeaseLost"), lost=lost)

    @precondition(lambda self: self.claimants)
    @rule(key=keys)
    def come_back(self, key: str) -> None:
        """All that ever claimed the key send their heartbeats, and stale ones all that they could
        have sent: it comes late, and does nothing."""
        with self.step():
            for attempt in [each for each in self.claimants if each.key == key]:
                assert self.actual.renew(attempt) == self.expected.renew(attempt)
                record = self.expected.records.get(key)
                if record is None or record.claim is not attempt:
                    assert self.actual.late_writes(attempt) == set()

    @rule(attempt=attempts, result=results)
    def settle(self, attempt: Attempt, result: str) -> None:
        if attempt not in self.open or not attempt.policy.is_leased or attempt.settled:
            return
        with self.step():
            if lost := self.act(attempt):
                self.finish(attempt, Ending("LeaseLost"), lost=lost)
                return
            expects = self.expected.settle(attempt, result)
            got = self.open[attempt].ask(partial(self.actual.settle, attempt, result))
            assert (said_of(got) if isinstance(got, Exception) else "settled") == expects, got
            if expects == "LeaseLost":
                self.finish(attempt, Ending("LeaseLost"), lost=got)

    @rule(attempt=consumes(attempts), ending=endings, acts=st.booleans())
    def end(self, attempt: Attempt, ending: Ending, acts: bool) -> None:
        if attempt in self.open:
            with self.step():
                self.finish(attempt, ending, acts)

    # -- operators, and time -----------------------------------------------------------------

    @precondition(lambda self: self.expected.records)
    @rule(key=keys, policy=policies)
    def deploy(self, key: str, policy: Policy) -> None:
        self.policies[key] = policy

    @precondition(lambda self: self.expected.records)
    @rule(
        key=keys,
        answer=st.sampled_from(["truth", "truth", "truth", "lie"]),
        result=results,
        is_broker_up=st.sampled_from([True, True, False]),
    )
    def resolve(self, key: str, answer: str, result: str, is_broker_up: bool) -> None:
        with self.step():
            epoch, resolved = self.expected.epochs[key], self.resolved(key)
            answer = self.answer_for(key, answer)
            self.actual.is_broker_up = is_broker_up
            expects = self.expected.resolve(key, answer, result, up=is_broker_up)
            verdict = self.actual.verdict(answer, result)
            try:
                resolve(self.actual.hashes[key], verdict, reason="seen", using=self.using)
            except NotInDoubt:
                assert expects == "NotInDoubt"
            else:
                assert expects == "resolved"
            self.actual.is_broker_up = True
            self.judge_verdict(key, epoch, answer, resolved)

    @precondition(lambda self: self.expected.records)
    @rule(key=keys, is_broker_up=st.sampled_from([True, True, False]))
    def allow_again(self, key: str, is_broker_up: bool) -> None:
        with self.step():
            self.actual.is_broker_up = is_broker_up
            expects = self.expected.allow_again(key, up=is_broker_up)
            try:
                allow_again(self.actual.hashes[key], reason="once more", using=self.using)
            except NotSettled:
                assert expects == "NotSettled"
            else:
                assert expects == "allowed"
            self.actual.is_broker_up = True

    @precondition(lambda self: self.expected.records)
    @precondition(lambda self: self.may_pass_time())
    @rule(hours=st.sampled_from([7, 25, 25, 49, 241]))
    def pass_time(self, hours: int) -> None:
        with self.step():
            self.expected.now += hours
            let_time_pass(hours * HOUR, using=self.using)

    @precondition(lambda self: self.expected.records)
    @rule(answer=answers)
    def sweep(self, answer: str) -> None:
        with self.step(), self.asked(answer) as said:
            self.expected.sweep(said)
            sweep(using=self.using)

    @precondition(lambda self: self.expected.records)
    @rule()
    def purge(self) -> None:
        with self.step():
            self.expected.purge()
            purge(using=self.using)

    # -- the end -----------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.is_sound:
                self.leave_every_state()
        finally:
            for process in self.open.values():
                process.die()
            self.actual.remove()

    def leave_every_state(self) -> None:
        """All processes die; then, by deliveries, time and an honest operator, every message is
        answered and every key succeeds."""
        for attempt in list(self.open):
            self.end(attempt, Ending("died"), False)
        for key in KEYS:
            record = self.expected.records.get(key)
            task_id, fingerprint = f"{key}-last", (record and record.fingerprint) or "f"
            self.messages[key].append((task_id, fingerprint))
            self.expected.queue.add(task_id)
        for _ in range(6):
            if not self.expected.queue and not self.expected.parked:
                break
            self.pass_time(25)
            self.sweep("truth")
            for key in KEYS:
                self.operate(key)
            self.deliver_the_queue()
        assert not self.expected.queue, "messages that nobody can answer"
        assert not self.actual.parked(), "messages that nobody publishes"
        for key in KEYS:
            assert self.expected.records[key].state == "succeeded"
            if (key, self.expected.epochs[key]) not in self.spoilt:
                assert self.has_happened(key), f"the effect of {key} is lost"

    def operate(self, key: str) -> None:
        record = self.expected.records.get(key)
        if record is not None and record.state == "in_doubt":
            self.resolve(key, "truth", TOLD, True)
        if record is not None and record.exhausted_at is not None:
            self.allow_again(key, True)

    def deliver_the_queue(self) -> None:
        for key in KEYS:
            for task_id, fingerprint in self.messages[key]:
                if task_id in self.expected.queue:
                    with self.step():
                        attempt = self.start(key, task_id, fingerprint)
                        if attempt is not None:
                            self.finish(attempt, Ending("returned", TOLD))
