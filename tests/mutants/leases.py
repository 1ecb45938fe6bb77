"""A lease in two messages: the claim, and the settlement."""

from tests.mutants import Mutant

LEASED = "tests/execution/test_leased.py"
COUNTS = "tests/execution/test_counts.py"
REPLIES = "tests/faults/test_lost_replies.py"

MUTANTS = [
    Mutant(
        "lease: settle twice",
        "leased.py",
        "        if self.has_settled:\n            raise",
        "        if False:\n            raise",
        "tests/execution/test_leased.py -k settles_once",
    ),
    Mutant(
        "lease: take over beside a mark that is being committed",
        "querysets.py",
        "effect_begun_at=Now(), lease_expires_at=after(claim.lease), policy=policy",
        "effect_begun_at=Now(), policy=policy",
        "tests/execution/test_leased.py -k sign_of_life",
    ),
    Mutant(
        "lease: ask about a doubt that is younger than a lease",
        "querysets.py",
        "            # A sign of life, since which a provider may be at work.\n"
        "            lease_expires_at=after(claim.lease),",
        "",
        "tests/execution/test_leased.py -k has_a_whole_lease",
    ),
    Mutant(
        "lease: take a claim for one's own that somebody has ended",
        "leased.py",
        "is_running = seen.state is State.RUNNING and seen.lease_left > 0",
        "is_running = True",
        "tests/execution/test_leased.py -k somebody_has_spoken",
    ),
    Mutant(
        "lease: begin a repeat that the provider does not know any more",
        "querysets.py",
        "Q(effect_begun_at=None) | Q(repeat_until=None) | Q(repeat_until__gt=Now())\n        )\n"
        "        changed",
        "\n        )\n        changed",
        "tests/execution/test_leased.py -k does_not_know_any_more",
    ),
    Mutant(
        "lease: take a message for parked before that is committed",
        "leased.py",
        "self._persistently(lambda: self.delivery.park(",
        "self._insist(lambda: self.delivery.park(",
        "tests/contrib/test_celery.py -k is_not_committed",
    ),
    Mutant(
        "lease: park in somebody else's transaction",
        "parking.py",
        "    storage.refuse_foreign_transaction()\n    with storage",
        "    with storage",
        "tests/contrib/test_celery.py -k not_parked_in_a_transaction",
    ),
    Mutant(
        "lease: join a transaction across one that commits elsewhere",
        "attempts.py",
        "return attempt if attempt is not None and attempt.connection is connection else None",
        "return next(attempt.within(connection), None) if attempt else None",
        "tests/shards/test_shards.py -k commits_elsewhere",
    ),
    Mutant(
        "lease: claim a key whose lock somebody holds",
        "storage/postgresql.py",
        " WHERE current_setting('idempotency.locked')::boolean\n",
        " WHERE true\n",
        f"{LEASED} -k while_a_transaction_runs",
    ),
    Mutant(
        "lease: claim a key that an older secret's record answers",
        "storage/postgresql.py",
        "key_hash = ANY(%(hashes)s))",
        "key_hash = %(key_hash)s)",
        f"{LEASED} -k rotation",
    ),
    Mutant(
        "lease: do not flush a first claim",
        "storage/postgresql.py",
        '";".join([READ_COMMITTED, FLUSHED,',
        '";".join([READ_COMMITTED, "SELECT 1",',
        f"{LEASED} -k flushed",
    ),
    Mutant(
        "lease: leave what the lock came to behind on the backend",
        "storage/postgresql.py",
        "set_config('idempotency.locked', locked::text, true)",
        "set_config('idempotency.locked', locked::text, false)",
        "tests/storage/test_one_backend.py -k behind",
    ),
    Mutant(
        "lease: leave a connection that waits for a reply to others",
        "storage/base.py",
        "        finally:\n            if not self.in_test_case:\n",
        "        finally:\n            if False:\n",
        "tests/concurrency/test_soft_time_limit.py -k claim_is_made",
    ),
    Mutant(
        "lease: let the lookup of a repeated message leave one, too",
        "transactional.py",
        "with self.storage.one_message():",
        "if True:",
        "tests/concurrency/test_soft_time_limit.py -k repeated_message",
    ),
    Mutant(
        "lease: hold a claim under another hash than its record's",
        "leased.py",
        "self.claim = self._claim_under(seen.key_hash)\n                self.number",
        "self.number",
        f"{REPLIES} -k take_over",
    ),
    Mutant(
        "lease: release what was never claimed",
        "leased.py",
        "            self.claim = None  # there is nothing to release\n",
        "",
        f"{COUNTS} -k leased_delivery_whose_key_is_busy",
    ),
    Mutant(
        "lease: open a transaction for a duplicate",
        "leased.py",
        "            return self.judge(look) or self._take_over()",
        "            return self._take_over()",
        f"{COUNTS} -k its_duplicate_one",
    ),
    Mutant(
        "lease: settle in a transaction what one message settles",
        "leased.py",
        "if not self.storage.in_test_case and self._persistently(",
        "if False and self._persistently(",
        f"{COUNTS} -k its_duplicate_one",
    ),
    Mutant(
        "lease: take a settlement whose reply was lost for a lost lease",
        "leased.py",
        "        if self.storage.has_ended(claim, State.SUCCEEDED):\n",
        "        if False:\n",
        f"{REPLIES} -k leased_job_survives",
    ),
    Mutant(
        "lease: settle what somebody else has claimed since",
        "querysets.py",
        "        changed = self.held_by(claim).update(\n            state=State.SUCCEEDED,",
        "        changed = self.filter(key_hash=claim.key_hash, state=State.RUNNING).update(\n"
        "            state=State.SUCCEEDED,",
        f"{LEASED} -k a_stale_claim",
    ),
]
