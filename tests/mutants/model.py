"""What the model of record, attempts and operator must reject."""

from tests.mutants import Mutant

MODEL = "-p tests.model.unshrunk tests/model/test_stateful.py"
POSTGRESQL, SQLITE = f"{MODEL} -k postgresql", f"{MODEL} -k sqlite"
EXAMPLES = "tests/model/test_examples.py"
ENDS = "            settled_at=Now(),\n            lease_expires_at=None,\n"

MUTANTS = [
    Mutant(
        "model: let a failure renew an effect that is forgotten",
        "storage/base.py",
        "name: Case(When(is_new, then=None), default=F(name))",
        "name: F(name)",
        f"{EXAMPLES} -k forgotten_effect",
    ),
    Mutant(
        "model: allow again within the same generation",
        "querysets.py",
        'generation=F("generation") + 1,',
        'generation=F("generation"),',
        SQLITE,
    ),
    Mutant(
        "model: keep the token of the claim before",
        "querysets.py",
        "claim_id=claim.id,\n            claimed_at=Now(),",
        'claim_id=F("claim_id"),\n            claimed_at=Now(),',
        POSTGRESQL,
    ),
    Mutant(
        "model: purge what has not settled",
        "querysets.py",
        "state__in=[State.SUCCEEDED, State.FAILED], exhausted_at=None, expires_at__lte=Now()",
        "exhausted_at=None, expires_at__lte=Now()",
        SQLITE,
    ),
    Mutant(
        "model: replay a result that is false as none",
        "calls.py",
        "return otherwise if text is None else results.decode(text)",
        "return (results.decode(text) if text else None) or otherwise",
        SQLITE,
    ),
    Mutant(
        "model: claim what is exhausted",
        "calls.py",
        "        if seen.exhausted:\n",
        "        if False:\n",
        SQLITE,
    ),
    Mutant(
        "model: forget at a take-over that the effect had begun",
        "storage/base.py",
        '"effect_begun_at": F("effect_begun_at"),',
        '"effect_begun_at": Now() if begins else None,',
        SQLITE,
    ),
    Mutant(
        "model: count the provider's window from the last attempt",
        "storage/base.py",
        '                    "repeat_until": F("repeat_until"),\n',
        "",
        POSTGRESQL,
    ),
    Mutant(
        "model: take over with other arguments",
        "calls.py",
        "if seen.policy not in (None, TRANSACTIONAL):",
        "if False:",
        SQLITE,
    ),
    Mutant(
        "model: renew a claim that somebody has taken over",
        "querysets.py",
        "return self.held_by(claim).update(lease_expires_at",
        "held = self.filter(key_hash=claim.key_hash, state=State.RUNNING)\n"
        "        return held.update(lease_expires_at",
        SQLITE,
    ),
    Mutant(
        "model: give the provider the old key once it is allowed again",
        "attempts.py",
        'generation.to_bytes(8, "big")',
        "bytes(8)",
        POSTGRESQL,
    ),
    Mutant(
        "model: count the retention from the claim",
        "querysets.py",
        f"            result=result,\n{ENDS}            expires_at=after(claim.retention),\n",
        f"            result=result,\n{ENDS}",
        SQLITE,
    ),
    Mutant(
        "model: begin the effect when the lease has run out",
        "querysets.py",
        "held = self.held_by(claim).leased()",
        "held = self.held_by(claim)",
        SQLITE,
    ),
    Mutant(
        "model: resolve what is running",
        "resolution.py",
        "storage.records.lapsed().filter(effect_begun_at__isnull=False)",
        "storage.records.running().filter(effect_begun_at__isnull=False)",
        SQLITE,
    ),
    Mutant(
        "model: count the deaths of a key that is forgotten",
        "querysets.py",
        "deaths=None if seen.is_forgotten else seen.deaths or None,",
        "deaths=seen.deaths or None,",
        SQLITE,
    ),
    Mutant(
        "model: publish what waits for a key that is running",
        "maintenance.py",
        "return look.locked and (look.seen is None or look.seen.lease_left == 0)",
        "return True",
        POSTGRESQL,
    ),
    Mutant(
        "model: count on SQLite no death that is found",
        "storage/rows.py",
        "deaths=(row.deaths or 0) + (row.state == State.RUNNING),",
        "deaths=row.deaths or 0,",
        SQLITE,
    ),
    Mutant(
        "model: count on PostgreSQL no death that is found",
        "storage/rows.py",
        "deaths=(row.deaths or 0) + (row.state == State.RUNNING),",
        "deaths=row.deaths or 0,",
        POSTGRESQL,
    ),
    Mutant(
        "model: see on PostgreSQL what is forgotten as it was",
        "storage/rows.py",
        "expired=row.expires_at <= now,",
        "expired=False,",
        POSTGRESQL,
    ),
    Mutant(
        "model: end the doubt that another attempt has left",
        "querysets.py",
        "return doubt if claim_id is None else doubt.filter(claim_id=claim_id)",
        "return doubt",
        f"{EXAMPLES} -k no_doubt_but_its_own",
    ),
    Mutant(
        "model: ask while the provider may be at work",
        "calls.py",
        "        if seen.lease_left > 0:\n            early",
        "        if False:\n            early",
        f"{EXAMPLES} -k at_work",
    ),
    Mutant(
        "model: sweep up a doubt while the provider may be at work",
        "querysets.py",
        "Q(lease_expires_at=None) | Q(lease_expires_at__lte=Now())",
        "Q()",
        f"{EXAMPLES} -k at_work",
    ),
    Mutant(
        "model: claim inside of a transaction",
        "leased.py",
        "        self.storage.refuse_foreign_transaction()\n        try:\n"
        "            with self.storage.transaction(joined=self.storage.in_test_case):\n"
        "                look =",
        "        try:\n"
        "            with self.storage.transaction(joined=True):\n"
        "                look =",
        f"{EXAMPLES} -k is_refused",
    ),
    Mutant(
        "model: commit without the call that was busy",
        "transactional.py",
        "        outer.doomed_by = doom\n",
        "",
        f"{EXAMPLES} -k swallows",
    ),
    Mutant(
        "model: purge what a message waits for",
        "maintenance.py",
        "return _records(using).purgeable().filter(~Exists(parked))",
        "return _records(using).purgeable()",
        f"{EXAMPLES} -k 'message_waits and sqlite'",
    ),
    Mutant(
        "model: see on SQLite a window that never closes",
        "storage/rows.py",
        "repeatable=row.repeat_until is None or row.repeat_until > now,",
        "repeatable=True,",
        f"{EXAMPLES} -k window",
    ),
    Mutant(
        "model: see on SQLite a lease that never runs out",
        "storage/rows.py",
        "lease_left=max(lease_left.total_seconds(), 0.0),",
        "lease_left=abs(lease_left.total_seconds()),",
        f"{EXAMPLES} -k lease_holds",
    ),
    Mutant(
        "model: commit over a record that has changed",
        "storage/postgresql.py",
        "THEN 'succeeded' END,\n       attempt",
        "THEN 'succeeded' ELSE 'succeeded' END,\n       attempt",
        f"{EXAMPLES} -k allowed_again",
    ),
    Mutant(
        "model: take the policy of a claim away with a failed transaction",
        "storage/base.py",
        "policy=policy, **kept, **columns)",
        "policy=None, **kept, **columns)",
        f"{EXAMPLES} -k leaves_an_effect",
    ),
    Mutant(
        "model: forget with a failed start that an effect had begun",
        "transactional.py",
        "noted = self.storage.fail(self.claim, error, repeats=self.repeats)",
        "noted = self.storage.fail(self.claim, error, repeats=False)",
        f"{EXAMPLES} -k leaves_an_effect",
    ),
]
