"""The algorithm. The two runners differ in where the COMMIT is:

Transactional:  BEGIN - look and lock - body - insert the record - COMMIT
Leased:         claim - COMMIT - body - settle if the fencing token still matches
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from idempotency.attempts import check_body, is_doomed
from idempotency.calls import Call, Outcome, Run
from idempotency.conf import conf
from idempotency.exceptions import AlreadyRunning
from idempotency.keys import digest
from idempotency.leased import LeasedRun
from idempotency.policies import Leased, Policy, Transactional, check_duration, check_policy
from idempotency.transactional import TransactionalRun

R = TypeVar("R")

#: Seconds between two looks at a busy key: doubled from the first to the second.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.5


def run(call: Call) -> Outcome[Any]:
    """The outcome of a call under its policy. Raises what :func:`execute` raises, and does not
    wait."""
    runner: Run
    if isinstance(call.policy, Leased):
        runner = LeasedRun(call, call.policy)
    else:
        runner = TransactionalRun(call)
    return runner.outcome()


def execute(
    function: Callable[[], R],
    *,
    key: object,
    scope: str,
    policy: Policy = Transactional(),  # noqa: B008 frozen
    fingerprint: object = None,
    wait: timedelta = timedelta(0),
    using: str | None = None,
    retention: timedelta | None = None,
    store_result: bool | None = None,
) -> Outcome[R]:
    """Run ``function()`` once for a key, from a view, a command or anywhere else.

    Args:
        key: What makes two calls the same intended effect: a JSON-like value, or a tuple of such.
        scope: What the key is unique within.
        policy: The promise. See :class:`Transactional` and :class:`Leased`.
        fingerprint: A JSON-like value that two calls with one key must share. None: not compared.
        wait: How long to wait while another attempt holds the key.
        using: Database alias. Default: the setting ``DATABASE``.
        retention: How long the settled record is kept. Default: the setting ``RETENTION``.
        store_result: Whether the result is stored. Default: the setting ``STORE_RESULT``.

    Raises:
        TypeError: ``policy`` is none, or ``function`` is async or a generator.
        ValueError: A duration is no timedelta, or not positive.
        KeyMissing: The key is None or empty.
        KeyNotHashable: The key or the fingerprint holds a value without canonical form.
        KeyReused: The key was used before with another fingerprint.
        AlreadyRunning: Another attempt holds the key, and still held it after ``wait``.
        InDoubt: An earlier attempt stopped between its effect and its record.
        InsideTransaction: A transaction that is not ours is open.
        NotCommitted, BodyCommitted: The body left a transaction that is not ours to commit.
        TransactionLost: The connection or the transaction was lost too often.
        LeaseLost: The lease ran out, and the claim is no longer this attempt's.
        ResultNotStorable: A transactional result cannot be stored; all is rolled back.
    """
    check_body(function)
    check_policy(policy)
    check_duration("retention", retention)
    if not isinstance(wait, timedelta):
        raise ValueError(f"wait must be a timedelta, got {wait!r} ({type(wait).__name__}).")
    call = Call(
        function=function,
        key=digest(key, scope=scope, fingerprint=fingerprint, secrets=conf().KEY_SECRETS),
        policy=policy,
        using=using,
        retention=retention,
        store_result=store_result,
    )
    deadline = time.monotonic() + wait.total_seconds()
    pause = SHORTEST_PAUSE
    while True:
        try:
            return run(call)
        except AlreadyRunning:
            left = deadline - time.monotonic()
            if left <= 0 or is_doomed():
                raise
        time.sleep(min(left, pause * random.uniform(0.5, 1)))  # noqa: S311 spreads the waiters
        pause = min(pause * 2, LONGEST_PAUSE)
