"""One class per fact. Each message says what is true, what it means and what to do."""


class IdempotencyError(Exception):
    """Base of all our errors.

    Attributes:
        key: The record's key hash as 32 hex digits, or None when there is no key yet.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class KeyMissing(IdempotencyError):
    """There is no key, so nothing would be protected. The body did not run."""


class KeyNotHashable(IdempotencyError, TypeError):
    """A value has no canonical form and so cannot be part of a key. The body did not run."""


class KeyReused(IdempotencyError):
    """The key was used before with other arguments. The body did not run."""


class KeyNested(IdempotencyError):
    """The key is already running on this connection, further up this very call stack."""


class AlreadyRunning(IdempotencyError):
    """Another attempt holds the key. The body did not run."""


class Exhausted(IdempotencyError):
    """Too many attempts on the key have died. The body did not run, and will not by itself."""


class InDoubt(IdempotencyError):
    """An earlier attempt stopped between its effect and its record. The body did not run."""


class InsideTransaction(IdempotencyError):
    """A transaction that is not ours is open, so the promise would not be ours to keep."""


class ManualCommit(IdempotencyError):
    """The connection is in manual commit mode, so nothing would be committed by itself."""


class NotCommitted(IdempotencyError):
    """The body returned, but its transaction could not be committed. Nothing of it stands."""


class BodyCommitted(IdempotencyError):
    """The body ended our transaction by itself. Part of its effect may stand without a record."""


class TransactionLost(IdempotencyError):
    """The connection or the transaction was lost too often to go on. Nothing is known to stand."""


class LeaseLost(IdempotencyError):
    """The lease expired and the claim is no longer this attempt's: it may settle nothing."""


class NoAttempt(IdempotencyError, LookupError):
    """No attempt is running here."""


class EffectNotMarked(IdempotencyError, TypeError):
    """The policy of the running attempt does not let the body do this."""


class NotInDoubt(IdempotencyError):
    """The record is not in doubt, so there is nothing to resolve."""


class NotSettled(IdempotencyError):
    """The record has neither succeeded nor failed, so it cannot be allowed again."""


class ResultNotStorable(IdempotencyError, TypeError):
    """The result cannot be stored, so it could not be replayed."""


class ResultNotStored(IdempotencyError):
    """The job succeeded without a stored result, and somebody waits for one."""


class ResultUnreadable(IdempotencyError):
    """The stored result cannot be read by this version of the code. The body did not run again."""
