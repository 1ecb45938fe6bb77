"""Deliveries, and what their bodies do, in any order."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, multiple, precondition, rule

from idempotency import current_attempt
from tests.model.process import end_as, said_of
from tests.model.record import TOLD, Attempt, Ending
from tests.model.steps import Steps, answers, endings, keys, nested_policies, results


class Bodies(Steps):
    """Bodies end at once, or stay open for many steps."""

    attempts = Bundle("attempts")

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
