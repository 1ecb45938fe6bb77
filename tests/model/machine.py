"""Deliveries, operators and time, in any order, on the app and on the model beside it."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from idempotency.exceptions import NotInDoubt, NotSettled
from idempotency.maintenance import purge, sweep
from idempotency.resolution import allow_again, resolve
from idempotency.testing.records import let_time_pass
from tests.model.bodies import Bodies
from tests.model.process import HOUR
from tests.model.record import TOLD, Ending, Policy
from tests.model.steps import KEYS, answers, keys, policies, results


class Machine(Bodies):
    """All of it."""

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
