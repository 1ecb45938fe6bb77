"""Sequences of events that break a careless build: each of these is one."""

from tests.mutants import Mutant

COMMITS = "tests/attacks/test_commits.py"
CLAIMS = "tests/attacks/test_claims.py"
FAULTS = "tests/faults/test_lost_replies.py"

MUTANTS = [
    Mutant(
        "attack: wait for a note as long as a commit takes",
        "storage/base.py",
        "                self.wait_at_most(timedelta(seconds=1))",
        "                pass",
        f"{COMMITS} -k never_ends",
    ),
    Mutant(
        "attack: give up when somebody else's note came first",
        "calls.py",
        "TRIES = 3",
        "TRIES = 1",
        f"{COMMITS} -k noted_while_another",
    ),
    Mutant(
        "attack: judge the lock before the record",
        "calls.py",
        "        if known is not None:\n            if known.state",
        "        if not look.locked:\n            raise self.busy(seen=look.seen)\n"
        "        if known is not None:\n            if known.state",
        f"{COMMITS} -k somebody_looks",
    ),
    Mutant(
        "attack: wait for the lock of a key",
        "storage/postgresql.py",
        'f"pg_try_advisory_xact_lock({n})"',
        'f"(SELECT true FROM pg_advisory_xact_lock({n}))"',
        f"{COMMITS} -k each_other_s_keys",
    ),
    Mutant(
        "attack: hold the key of a start for no time",
        "transactional.py",
        "GRACE = timedelta(seconds=5)",
        "GRACE = timedelta(0)",
        "tests/execution/test_deaths.py -k holds_the_key_before",
    ),
    Mutant(
        "attack: purge by what was seen before",
        "maintenance.py",
        "    return batch._raw_delete(batch.db)",
        "    due = list(batch.values_list('pk', flat=True))\n"
        "    return batch.model._default_manager.filter(pk__in=due).delete()[0]",
        f"{CLAIMS} -k purge",
    ),
    Mutant(
        "attack: fence by the number of the attempt",
        "querysets.py",
        "return self.filter(key_hash=claim.key_hash, claim_id=claim.id)",
        "return self.filter(key_hash=claim.key_hash, attempt=1)",
        f"{CLAIMS} -k row_was_deleted",
    ),
    Mutant(
        "attack: publish one of the messages that waited for a doubt",
        "parking.py",
        "    for row in list(parked):",
        "    for row in list(parked)[:1]:",
        f"{CLAIMS} -k chain_and_a_chord",
    ),
    Mutant(
        "attack: let a record's conflict be no error",
        "storage/postgresql.py",
        "        return INSERT, parameters\n",
        '        return INSERT + " ON CONFLICT DO NOTHING", parameters\n',
        "tests/attacks/test_storm.py -k COMMITTED",
    ),
    Mutant(
        "attack: leave a settling block to a connection that is gone",
        "leased.py",
        "with self._persistently(self._begin_settling):",
        "with self._begin_settling():",
        f"{FAULTS} -k settling_block",
    ),
    Mutant(
        "attack: end an attempt whose mark finds nobody",
        "leased.py",
        "self._persistently(self.storage.refuse_foreign_transaction)",
        "self.storage.refuse_foreign_transaction()",
        f"{FAULTS} -k away_for_a_while",
    ),
    Mutant(
        "attack: take a lost connection for an open transaction",
        "storage/base.py",
        "            self._forget_lost_connection()\n",
        "            pass\n",
        f"{FAULTS} -k somebody_has_met",
    ),
]
