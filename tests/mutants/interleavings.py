"""What goes wrong only in some order of messages."""

from tests.mutants import Mutant


def _among(*situations: str) -> str:
    names = " or ".join(f"[{name}]" for name in situations)
    return f'tests/interleavings/test_situations.py -k "{names}"'


MUTANTS = [
    Mutant(
        "interleaved: take a unique violation for a success",
        "transactional.py",
        "        self._explain(error)\n        if not isinstance(error, DatabaseError) or",
        "        if self.storage.is_record_changed(error):\n"
        "            return Outcome(None, replayed=True)\n"
        "        if not isinstance(error, DatabaseError) or",
        _among("transactional-without-locks"),
    ),
    Mutant(
        "interleaved: take the lock for the truth",
        "storage/postgresql.py",
        "THEN 'succeeded' END,\n       attempt",
        "THEN 'succeeded' ELSE 'succeeded' END,\n       attempt",
        _among("transactional-without-locks-after-a-failure"),
    ),
    Mutant(
        "interleaved: settle without the claim id",
        "querysets.py",
        "return self.claimed_by(claim).filter(state=State.RUNNING)",
        "return self.filter(key_hash=claim.key_hash, state=State.RUNNING)",
        _among("hold-marked"),
    ),
    Mutant(
        "interleaved: begin an effect whoever holds the claim",
        "querysets.py",
        "policy=policy\n        )\n        return changed == 1",
        "policy=policy\n        )\n        return changed >= 0",
        _among("hold-marked"),
    ),
    Mutant(
        "interleaved: take over what is not as it was seen",
        "querysets.py",
        "self.as_seen(seen).update(\n            state=State.RUNNING,",
        "self.filter(key_hash=seen.key_hash).update(\n            state=State.RUNNING,",
        _among("hold-marked-renewal"),
    ),
    Mutant(
        "interleaved: park a message though there is no doubt any more",
        "parking.py",
        "if not waited_for.select_for_update().first():",
        "if False:",
        _among("hold"),
    ),
    Mutant(
        "interleaved: put in doubt what has been settled since",
        "storage/base.py",
        "return self.records.as_seen(seen).put_in_doubt()",
        "return self.records.filter(key_hash=seen.key_hash).put_in_doubt()",
        _among("hold"),
    ),
    Mutant(
        "interleaved: believe that a start note is still there",
        "transactional.py",
        "        if self.claim is None or seen is None or seen.claim_id != self.claim.id:\n"
        "            return False\n"
        "        return look.locked and seen.state is State.RUNNING\n",
        "        return bool(self.claim and seen)\n",
        _among("transactional-redelivered"),
    ),
    Mutant(
        "interleaved: take the claim of another policy for a success",
        "transactional.py",
        "        self._explain(error)\n        if not isinstance(error, DatabaseError) or",
        "        if self.storage.is_record_changed(error):\n"
        "            return Outcome(None, replayed=True)\n"
        "        if not isinstance(error, DatabaseError) or",
        _among("mixed-without-locks"),
    ),
    Mutant(
        "interleaved: give the provider the key of the generation before",
        "attempts.py",
        'generation.to_bytes(8, "big")',
        "bytes(8)",
        _among("allowed-again-held"),
    ),
]
