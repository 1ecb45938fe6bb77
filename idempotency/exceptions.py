"""One class per fact. Each message says what is true, what it means and what to do.

The first paragraph of a docstring is the fact, the second what to do: a page of the docs is made of
them.
"""


class IdempotencyError(Exception):
    """Base of all our errors.

    Attributes:
        key: The record's key hash as 32 hex digits, or None when there is no key yet.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class KeyMissing(IdempotencyError):
    """There is no key, so nothing would be protected. The body did not run.

    Send what the key is made of, or make the key of something that is always there.
    """


class KeyNotHashable(IdempotencyError, TypeError):
    """A value has no canonical form and so cannot be part of a key. The body did not run.

    Pass what JSON can hold: ``order.pk`` for an order, a list for a set.
    """


class ShardUnknown(IdempotencyError):
    """The callable of ``using=`` returned no database alias of this process. The body did not run.

    Add the alias to ``DATABASES`` everywhere before the callable returns it.
    """


class KeyReused(IdempotencyError):
    """The key was used before with other arguments. The body did not run.

    Use another key for another effect, or leave out of ``fingerprint=`` what may differ.
    """


class KeyNested(IdempotencyError):
    """The key is already running on this connection, further up this very call stack.

    Give the inner call a key or a scope of its own.
    """


class AlreadyRunning(IdempotencyError):
    """Another attempt holds the key, or publishes what follows it. The body did not run.

    Try again later, or wait: ``execute(..., wait=)``.
    """


class Exhausted(IdempotencyError):
    """Too many attempts on the key have died. The body did not run, and will not by itself.

    Find out what kills it, then allow it again: ``manage.py idempotency_allow_again``.
    """


class InDoubt(IdempotencyError):
    """An earlier attempt stopped between its effect and its record. The body did not run.

    Look at the other side, then resolve the doubt: ``manage.py idempotency_resolve``.
    """


class InsideTransaction(IdempotencyError):
    """A transaction that is not ours is open, so the promise would not be ours to keep.

    Call it outside of ``atomic()``; under ``ATOMIC_REQUESTS``, let the view be
    ``@transaction.non_atomic_requests``.
    """


class ManualCommit(IdempotencyError):
    """The connection is in manual commit mode, so nothing would be committed by itself.

    Switch autocommit on.
    """


class NotCommitted(IdempotencyError):
    """The body returned, but its transaction could not be committed. Nothing of it stands.

    Wrap what may fail in the body in its own ``atomic()``, and do not close its connection.
    """


class BodyCommitted(IdempotencyError):
    """The body ended our transaction by itself. Part of its effect may stand without a record.

    Do not commit, or switch autocommit, in a transactional body.
    """


class TransactionLost(IdempotencyError):
    """The connection or the transaction was lost too often to go on. Nothing is known to stand.

    Deliver it again: that is safe. If it comes often, look at the database.
    """


class LeaseLost(IdempotencyError):
    """The lease expired and the claim is no longer this attempt's: it may settle nothing.

    Read the record: it says what holds now. If it comes often, give it a longer ``lease=``.
    """


class NoAttempt(IdempotencyError, LookupError):
    """No attempt is running here.

    Call ``current_attempt()`` inside of a body, and in its thread.
    """


class EffectNotMarked(IdempotencyError, TypeError):
    """The policy of the running attempt does not let the body do this.

    Declare ``Leased(..., marks_effect=True)`` for ``effect_begins()``, and ``Leased`` for
    ``settling()``.
    """


class NotInDoubt(IdempotencyError):
    """The record is not in doubt, so there is nothing to resolve.

    Look at the record; under a live lease, wait until it has run out.
    """


class NotSettled(IdempotencyError):
    """The record has neither succeeded nor failed, so it cannot be allowed again.

    Wait until it has ended; resolve it first if it is in doubt.
    """


class NotRunning(IdempotencyError):
    """The record is not running under the claim that was meant, so there is nothing to release.

    Look at the record: resolve it if it is in doubt, allow it again if it has ended.
    """


class ClaimAlive(IdempotencyError):
    """The lease of the claim is alive, or its key is held, so its process may be alive as well.

    Wait until it has ended. Force the release only if you know that the process is dead.
    """


class ResultNotStorable(IdempotencyError, TypeError):
    """The result cannot be stored, so it could not be replayed.

    Return what JSON can hold, and less of it, or set ``store_result=False``.
    """


class ResultNotStored(IdempotencyError):
    """The job succeeded without a stored result, and somebody waits for one.

    Start the next step yourself, and let ``store_result`` be true from then on.
    """


class ResultUnreadable(IdempotencyError):
    """The stored result cannot be read by this version of the code. The body did not run again.

    Deploy the version that wrote it, or allow the key again if a repeat is right.
    """
