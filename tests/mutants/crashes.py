"""Steps that a crash between two messages must not tell apart."""

from tests.mutants import Mutant

POINTS = "tests/crashes/test_crash_points.py"

MUTANTS = [
    Mutant(
        "crash: repeat a held effect whose claim ran out",
        "calls.py",
        "        if seen.is_doubtful:\n            raise DoubtFoundError(seen)\n",
        "",
        f"{POINTS} -k HOLD-SIGKILL",
    ),
    Mutant(
        "crash: take over while the lease lives",
        "calls.py",
        "if seen.state is State.RUNNING and seen.lease_left > 0:",
        "if False:",
        f"{POINTS} -k RETRY-SIGKILL",
    ),
    Mutant(
        "crash: raise InDoubt without a parked message",
        "calls.py",
        "if self.delivery.park(self.storage.using, seen.key_hash, seen.generation):",
        "if True:",
        f"{POINTS} -k HOLD-SIGKILL",
    ),
    Mutant(
        "crash: leave a doubt without a parked message",
        "leased.py",
        "if not self._persistently(lambda: self.delivery.park(using, key_hash, generation)):",
        "if False:",
        f"{POINTS} -k HOLD-EXCEPTION",
    ),
    Mutant(
        "crash: begin the effect without waiting for its mark",
        "leased.py",
        "if not self._insist(lambda: self.storage.begin_effect(claim, policy=policy)):",
        "if False:",
        f"{POINTS} -k marks_effect-SIGKILL",
    ),
    Mutant(
        "crash: begin the effect though the lease ran out",
        "querysets.py",
        "held = self.held_by(claim).leased()",
        "held = self.held_by(claim)",
        f"{POINTS} -k marks_effect-FROZEN",
    ),
    Mutant(
        "crash: settle without the token",
        "querysets.py",
        "return self.filter(key_hash=claim.key_hash, claim_id=claim.id)",
        "return self.filter(key_hash=claim.key_hash)",
        f"{POINTS} -k RETRY-FROZEN",
    ),
    Mutant(
        "crash: let a woken attempt leave the doubt about itself",
        "leased.py",
        "        self.ended_own_doubt = self.storage.resolve_own_doubt(claim, happened=True,"
        " result=text)\n",
        "",
        f"{POINTS} -k HOLD-FROZEN",
    ),
    Mutant(
        "crash: meet one's own claim after a lost reply",
        "leased.py",
        "if seen is not None and self._is_held(seen):",
        "if False:",
        f"{POINTS} -k HOLD-CUT",
    ),
    Mutant(
        "crash: take a lost COMMIT for a failure",
        "transactional.py",
        "            return self._after_lost_commit(error)",
        "            raise error",
        f"{POINTS} -k Transactional-CUT",
    ),
    Mutant(
        "crash: commit the effect before the record",
        "storage/postgresql.py",
        '        self._send(f"{sql}; COMMIT", parameters)',
        '        self._send("COMMIT")\n        self._send(sql, parameters)',
        f"{POINTS} -k Transactional-SIGKILL",
    ),
    Mutant(
        "crash: settle a claim in doubt without publishing what waits",
        "resolution.py",
        "publish_parked(key_hash, using=using, dry_run=dry_run) if publish else "
        "Published()\n\n\n@dataclass",
        "Published()\n\n\n@dataclass",
        f"{POINTS} -k HOLD-SIGKILL",
    ),
]
