"""What a storm must notice by itself: the oracle knows nothing of these lines."""

from tests.mutants import Mutant

STORM = "tests/chaos/test_storm.py -k every_fault"

MUTANTS = [
    Mutant(
        "storm: keep the record of a success under another key",
        "storage/postgresql.py",
        "VALUES (%(key_hash)s, CASE WHEN",
        "VALUES (gen_random_uuid(), CASE WHEN",
        STORM,
    ),
    Mutant(
        "storm: claim a key whose record answers",
        "leased.py",
        "                if answer is not None:\n"
        "                    return answer\n"
        "                self._insert(look)",
        "                self._insert(look)",
        STORM,
    ),
    Mutant(
        "storm: drop a busy message",
        "contrib/celery.py",
        "            copy.apply_async()",
        "            pass",
        STORM,
    ),
    Mutant(
        "storm: settle without the token",
        "querysets.py",
        "return self.filter(key_hash=claim.key_hash, claim_id=claim.id)",
        "return self.filter(key_hash=claim.key_hash)",
        STORM,
    ),
    Mutant(
        "storm: take an error after the effect began for none",
        "leased.py",
        "if not self.effect_begun or isinstance(cause, self.policy.no_effect_errors):",
        "if True:",
        STORM,
    ),
    Mutant(
        "storm: repeat a lapsed claim that nobody may repeat",
        "calls.py",
        "if seen.state is State.IN_DOUBT or seen.is_doubtful:",
        "if seen.state is State.IN_DOUBT:",
        STORM,
    ),
    Mutant(
        "storm: defer a message without its chain",
        "contrib/celery.py",
        "return self._task.signature_from_request(self._request, **options)",
        "return self._task.signature_from_request(self._request, **options).set(chain=None)",
        STORM,
    ),
    Mutant(
        "storm: acknowledge a message before its body",
        "../tests/chaos/tasks.py",
        '"acks_late": True,',
        '"acks_late": False,',
        STORM,
    ),
    Mutant(
        "storm: trust a lock that excludes nobody",
        "storage/postgresql.py",
        "class PostgreSQL(Storage):",
        'INSERT += " ON CONFLICT DO NOTHING"\n'
        "Key.lock_numbers = property(lambda key: (__import__('secrets').randbits(62),))\n\n\n"
        "class PostgreSQL(Storage):",
        STORM,
    ),
    Mutant(
        "storm: purge what is running",
        "querysets.py",
        "            state__in=[State.SUCCEEDED, State.FAILED], exhausted_at=None,"
        " expires_at__lte=Now()\n",
        "            state=State.RUNNING\n",
        STORM,
    ),
    Mutant(
        "storm: encode a result again for each replay",
        "calls.py",
        "return Outcome(decoded(seen.result), replayed=True)",
        "return Outcome(results.encode(decoded(seen.result), limit=9999), replayed=True)",
        STORM,
    ),
    Mutant(
        "storm: put retries into the key",
        "keys.py",
        "        key = self._key(call)\n",
        "        from celery import current_task\n\n"
        "        retries = current_task.request.retries if current_task else 0\n"
        "        key = [self._key(call), retries] if retries else self._key(call)\n",
        STORM,
    ),
]
