"""What a storm must notice by itself: the oracle knows nothing of these lines.

A full one, with every fault, takes a minute or two. What is seen with few faults, or with none, is
shown to a brief one, and three of these run with all other mutants.
"""

from dataclasses import replace

from tests.mutants import Mutant

STORMS = "tests/chaos/test_storm.py"
FULL, BRIEF = f"{STORMS} -k every_fault", f"{STORMS} -k 'another_broker and pgmq'"

OFTEN = [
    Mutant(
        "storm: keep the record of a success under another key",
        "storage/postgresql.py",
        "VALUES (%(key_hash)s, CASE WHEN",
        "VALUES (gen_random_uuid(), CASE WHEN",
        BRIEF,
    ),
    Mutant(
        "storm: purge what is alive",
        "querysets.py",
        "            state__in=[State.SUCCEEDED, State.FAILED], exhausted_at=None,"
        " expires_at__lte=Now()\n",
        "            state__in=[State.SUCCEEDED, State.RUNNING]\n",
        BRIEF,
    ),
    Mutant(
        "storm: defer a message without its chain",
        "contrib/celery.py",
        "return self._task.signature_from_request(self._request, **options)",
        "return self._task.signature_from_request(self._request, **options).set(chain=None)",
        BRIEF,
    ),
]
SELDOM = [
    Mutant(
        "storm: encode a result again for each replay",
        "calls.py",
        "return Outcome(decoded(seen.result), replayed=True)",
        "return Outcome(results.encode(decoded(seen.result), limit=9999), replayed=True)",
        BRIEF,
    ),
    Mutant(
        "storm: drop a busy message",
        "contrib/celery.py",
        "            copy.apply_async()",
        "            pass",
        BRIEF,
    ),
    Mutant(
        "storm: trust a lock that excludes nobody",
        "storage/postgresql.py",
        "def _record(entry: Entry,",
        "Key.lock_numbers = property(lambda key: (__import__('secrets').randbits(62),))\n\n\n"
        "def _record(entry, look, result):\n"
        "    sql, parameters = _careful(entry, look, result)\n"
        '    return sql + " ON CONFLICT DO NOTHING" * (sql == INSERT), parameters\n\n\n'
        "def _careful(entry: Entry,",
        FULL,
    ),
    Mutant(
        "storm: put retries into the key",
        "keys.py",
        "return key_of(self.scope, key, compared, secrets)",
        "from celery import current_task\n\n"
        '        again = "again " * current_task.request.retries if current_task else ""\n'
        "        return key_of(again + self.scope, key, compared, secrets)",
        FULL,
    ),
    Mutant(
        "storm: claim a key whose record answers",
        "leased.py",
        "    def _take_over(self) -> Seen | None:",
        "    judge = lambda self, look: None\n\n    def _take_over(self) -> Seen | None:",
        FULL,
    ),
    Mutant(
        "storm: settle without the token",
        "querysets.py",
        "return self.filter(key_hash=claim.key_hash, claim_id=claim.id)",
        "return self.filter(key_hash=claim.key_hash)",
        FULL,
    ),
    Mutant(
        "storm: take an error after the effect began for none",
        "leased.py",
        "if not self.effect_begun or isinstance(cause, self.policy.no_effect_errors):",
        "if True:",
        FULL,
    ),
    Mutant(
        "storm: repeat a lapsed claim that nobody may repeat",
        "calls.py",
        "        if seen.is_doubtful:\n            raise DoubtFoundError(seen)\n",
        "",
        FULL,
    ),
    Mutant(
        "storm: acknowledge a message before its body",
        "../tests/chaos/tasks.py",
        '"acks_late": True,',
        '"acks_late": False,',
        FULL,
    ),
]
MUTANTS = OFTEN + [replace(mutant, is_long=True) for mutant in SELDOM]
