"""Builds of a careless design: by name, whose design it is, and what reports it.

Whose it is, in the versions that `docs/explanation/compared-with.md` names: seen when they were
run, or read in their source. The table of `docs/explanation/storms.md` is made of these.
"""

from dataclasses import dataclass

from tests.mutants import Mutant

TRANSACTIONAL = "tests/execution/test_transactional.py"
LEASED = "tests/execution/test_leased.py"
CELERY = "tests/contrib/test_celery.py"

MUTANTS = [
    Mutant(
        "sabotage: keep the record of a success under another key",
        "storage/postgresql.py",
        "VALUES (%(key_hash)s, CASE WHEN",
        "VALUES (gen_random_uuid(), CASE WHEN",
        f"{TRANSACTIONAL} -k duplicate_is_answered",
    ),
    Mutant(
        "sabotage: encode a result again for each replay",
        "calls.py",
        "return Outcome(decoded(seen.result), replayed=True)",
        "return Outcome(results.encode(decoded(seen.result), limit=9999), replayed=True)",
        f"{TRANSACTIONAL} -k duplicate_is_answered",
    ),
    Mutant(
        "sabotage: take an error after the effect began for none",
        "leased.py",
        "if not self.effect_begun or isinstance(cause, self.policy.no_effect_errors):",
        "if True:",
        f"{LEASED} -k effect_began_is_a_doubt",
    ),
    Mutant(
        "sabotage: defer a message without its chain",
        "contrib/celery.py",
        "return self._task.signature_from_request(self._request, **options)",
        "return self._task.signature_from_request(self._request, **options).set(chain=None)",
        f"{CELERY} -k keeps_what_comes_after",
    ),
]


@dataclass(frozen=True)
class Sabotage:
    """One design.

    Attributes:
        is_: What it does, as a sentence.
        rivals: Whose design it is, and what became of an effect there.
        suite: The name of the mutant that a test must catch.
        storm: The name of the mutant that a storm must catch.
    """

    is_: str
    rivals: str
    suite: str
    storm: str


SABOTAGES = [
    Sabotage(
        "The unique key is ignored: who comes after a success runs.",
        "celery-once 3.0 and celery-singleton 0.3 delete their lock when the task has run",
        "sabotage: keep the record of a success under another key",
        "storm: keep the record of a success under another key",
    ),
    Sabotage(
        "The lock is taken for truth: who lost it commits all the same.",
        "drf-ik does not look again when it commits: a frozen view wrote its rows twice; "
        "django-idempotency-key 1.3 locks the look alone, and two at once both ran",
        "interleaved: take the lock for the truth",
        "storm: trust a lock that excludes nobody",
    ),
    Sabotage(
        "A busy message is dropped, for somebody runs it.",
        "fencekit's helper for Celery returns `None`: acknowledged, and lost if the holder dies; "
        "celery-singleton 0.3 drops a retry as its own duplicate",
        "drop a busy message",
        "storm: drop a busy message",
    ),
    Sabotage(
        "A settlement checks no token.",
        "Powertools 3.37, justonce 0.2 and drf-idempotency 1.0: a late writer overwrites, or "
        "deletes, what somebody else has completed",
        "drop the claim_id guard",
        "storm: settle without the token",
    ),
    Sabotage(
        'An exception is taken for "it did not happen".',
        "Powertools 3.37, idemkit 1.0, justonce 0.2 by default, drf-ik and drf-idempotency 1.0: "
        "raised after the effect and tried again, two effects",
        "sabotage: take an error after the effect began for none",
        "storm: take an error after the effect began for none",
    ),
    Sabotage(
        "A row is purged that is alive.",
        "Powertools 3.37 and celery-once 3.0: the record, or the lock, expires though its run "
        "goes on, and a second one starts",
        "purge what is in doubt",
        "storm: purge what is alive",
    ),
    Sabotage(
        "A replay gives another value than the first run.",
        'Powertools 3.37 replays `0`, `False`, `""`, `[]` and `{}` as `None`',
        "sabotage: encode a result again for each replay",
        "storm: encode a result again for each replay",
    ),
    Sabotage(
        "A deferral, or a skipped duplicate, loses the chain.",
        "Celery's `worker_deduplicate_successful_tasks` did, until "
        "[celery#10159](https://github.com/celery/celery/pull/10159)",
        "sabotage: defer a message without its chain",
        "storm: defer a message without its chain",
    ),
    Sabotage(
        "`retries` is a part of the key: a retry is another effect.",
        "none that was looked at",
        "put retries into the key",
        "storm: put retries into the key",
    ),
    Sabotage(
        "A claim that ran out is repeated, whatever its effect.",
        "Powertools 3.37, idemkit 1.0, justonce 0.2, drf-ik and drf-idempotency 1.0 wait, then "
        "run again: killed between effect and record, two effects",
        "crash: repeat a held effect whose claim ran out",
        "storm: repeat a lapsed claim that nobody may repeat",
    ),
    Sabotage(
        "A message is acknowledged before its body, and nothing refuses that.",
        "Celery's default, and so what is protected by celery-once 3.0 or celery-singleton 0.3 "
        "alone: killed before the effect, the job is lost",
        "kit: let a message die that nobody would deliver again",
        "storm: acknowledge a message before its body",
    ),
]
