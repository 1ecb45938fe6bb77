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
]
