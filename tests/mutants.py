"""Break the app, one line at a time, and see a test fail each time: ``make mutants``.

A mutant that survives means a promise that no test keeps. Each runs in a copy of the checkout,
against a database of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from psycopg.conninfo import conninfo_to_dict, make_conninfo

CHECKOUT = Path(__file__).resolve().parent.parent
COPIED = ("idempotency", "notifications", "project", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """One breakage, and the tests of which at least one must fail."""

    breaks: str
    file: str
    before: str
    after: str
    tests: str

    def is_stale(self) -> bool:
        """Whether the line that it breaks is not there, or is not the only one."""
        return (CHECKOUT / "idempotency" / self.file).read_text().count(self.before) != 1

    def apply(self, checkout: Path) -> None:
        path = checkout / "idempotency" / self.file
        path.write_text(path.read_text().replace(self.before, self.after))


TRANSACTIONAL = "tests/execution/test_transactional.py"
LEASED = "tests/execution/test_leased.py"
RETRIED = "tests/execution/test_retried.py"
RESOLUTION = "tests/execution/test_resolution.py"
CELERY = "tests/contrib/test_celery.py"
REPLIES = "tests/faults/test_lost_replies.py"
STATISTICS = "tests/operations/test_statistics.py"
DEATHS = "tests/execution/test_deaths.py"
LIMIT = "tests/concurrency/test_soft_time_limit.py"
KEYS = "tests/unit/test_keys.py"
CONF = "tests/unit/test_conf.py"
COMMANDS = "tests/operations/test_commands.py"
SQLITE = "tests/storage/test_sqlite.py"

MUTANTS = [
    Mutant(
        "sweep with the tasks that are imported by chance",
        "maintenance.py",
        "jobs = all_jobs()",
        "from idempotency.jobs import jobs",
        "tests/execution/test_asked.py -k nobody_has_imported",
    ),
    Mutant(
        "load the tasks again while they are loaded",
        "jobs.py",
        "if not _loading:",
        "if True:",
        "tests/unit/test_jobs.py -k while_it_is_imported",
    ),
    Mutant(
        "never load again what could not be loaded",
        "jobs.py",
        "        finally:\n            _loading = False\n",
        "        finally:\n            pass\n",
        "tests/unit/test_jobs.py -k tried_again",
    ),
    Mutant(
        "roll back on SQLite a connection that is gone",
        "storage/sqlite.py",
        "if self.connection.connection is not None:",
        "if True:",
        "tests/storage/test_sqlite.py -k gone_already",
    ),
    Mutant(
        "read the settings before the checks have spoken",
        "management/base.py",
        "    def handle(self, *args: Any, **options: Any) -> None:\n",
        "    def check(self, *args: Any, **options: Any) -> None:\n        conf()\n\n"
        "    def handle(self, *args: Any, **options: Any) -> None:\n",
        "tests/operations/test_commands.py -k not_by_a_stack",
    ),
    Mutant(
        "read the broker of the first URL only by its text",
        "contrib/celery_checks.py",
        "app.connection_for_write().transport_cls",
        'str(app.conf.broker_url).partition(":")[0].partition("+")[0]',
        "tests/operations/test_celery_checks.py -k too_early",
    ),
    Mutant(
        "purge what is in doubt",
        "querysets.py",
        "state__in=[State.SUCCEEDED, State.FAILED], exhausted_at=None, expires_at__lte=Now()",
        "exhausted_at=None, expires_at__lte=Now()",
        f"{COMMANDS} -k leaves",
    ),
    Mutant(
        "purge what is exhausted",
        "querysets.py",
        "exhausted_at=None, expires_at__lte=Now()\n        )",
        "expires_at__lte=Now()\n        )",
        f"{COMMANDS} -k leaves",
    ),
    Mutant(
        "purge what a message waits for",
        "maintenance.py",
        ".filter(~Exists(parked))",
        "",
        f"{COMMANDS} -k leaves",
    ),
    Mutant(
        "purge what is not forgotten",
        "querysets.py",
        "exhausted_at=None, expires_at__lte=Now()\n        )",
        "exhausted_at=None\n        )",
        f"{COMMANDS} -k nothing_else",
    ),
    Mutant(
        "delete in a dry run",
        "maintenance.py",
        "    if dry_run:\n",
        "    if False:\n",
        f"{COMMANDS} -k dry_run",
    ),
    Mutant(
        "purge the first batch only",
        "maintenance.py",
        "done, low = done + number, high",
        "return number",
        f"{COMMANDS} -k nothing_else",
    ),
    Mutant(
        "accept on SQLite a transaction that the body has ended",
        "storage/sqlite.py",
        'self._send(f"RELEASE SAVEPOINT idempotency_{look.savepoint}")',
        "pass",
        f"{SQLITE} -k commits_by_itself",
    ),
    Mutant(
        "look on SQLite before becoming the writer",
        "storage/sqlite.py",
        "self._send(BECOME_WRITER)\n        self._send(f",
        "self._send(f",
        f"{SQLITE} -k writer_before_it_looks",
    ),
    Mutant(
        "take a busy SQLite for a failure of the job",
        "storage/sqlite.py",
        "return self.is_lock_timeout(error)",
        "return False",
        f"{SQLITE} -k while_another_writes",
    ),
    Mutant(
        "replay on SQLite what is forgotten",
        "storage/sqlite.py",
        "expired=record.expires_at <= now",
        "expired=False",
        f"{SQLITE} -k expired",
    ),
    Mutant(
        "ignore an option that is not known",
        "conf.py",
        "return unknown + [problem",
        "return [problem",
        f"{CONF} -k cannot_be_meant",
    ),
    Mutant(
        "show a secret that is refused",
        "conf.py",
        'shown = f"another {type(value).__name__}"',
        "shown = repr(value)",
        f"{CONF} -k cannot_be_meant",
    ),
    Mutant(
        "keep quiet when a worker starts",
        "contrib/celery_checks.py",
        "@celeryd_after_setup.connect\n",
        "",
        "tests/operations/test_celery_checks.py -k worker_logs",
    ),
    Mutant(
        "forget the first of two functions with one scope",
        "jobs.py",
        "known.name != job.name",
        "False",
        "tests/operations/test_checks.py -k one_scope",
    ),
    Mutant(
        "forget what a redelivered start left behind",
        "transactional.py",
        "if not self.storage.note_start(self.entry, self.claim, seen):",
        "if False:",
        f"{DEATHS} -k kills_its_worker",
    ),
    Mutant(
        "note nothing when the message says that it is new",
        "transactional.py",
        "raise StartedBeforeError if self.claim is None else RecordChangedError",
        "pass",
        f"{DEATHS} -k whatever_its_message",
    ),
    Mutant(
        "count a start that failed as a death",
        "transactional.py",
        "            self._end_start(error)\n            raise",
        "            raise",
        f"{DEATHS} -k ended_by_itself",
    ),
    Mutant(
        "ask with the arguments of whoever waits",
        "maintenance.py",
        "key_hash=record.key_hash, task_id=record.task_id",
        "key_hash=record.key_hash",
        f"{CELERY} -k no_other_task",
    ),
    Mutant(
        "exhaust what may have had an effect",
        "calls.py",
        "raise (DoubtFoundError if seen.effect_begun else DeathsFoundError)(seen)",
        "raise DeathsFoundError(seen)",
        f"{DEATHS} -k doubt_in_the_end",
    ),
    Mutant(
        "never stop",
        "calls.py",
        "raise (DoubtFoundError if seen.effect_begun else DeathsFoundError)(seen)",
        "pass",
        f"{DEATHS} -k kills_its_worker",
    ),
    Mutant(
        "let a delivery claim an exhausted record",
        "calls.py",
        "        if seen.exhausted:",
        "        if False:",
        f"{CELERY} -k exhausted",
    ),
    Mutant(
        "count deaths no further than a doubt",
        "querysets.py",
        "died = Case(When(state=State.RUNNING, then=1), default=0)",
        "died = 0",
        f"{DEATHS} -k through_doubts",
    ),
    Mutant(
        "settle without the token what somebody else has resolved",
        "querysets.py",
        "return doubt if claim_id is None else doubt.filter(claim_id=claim_id)",
        "return self.filter(key_hash=key_hash, state__in=[State.IN_DOUBT, State.FAILED])",
        f"{LEASED} -k doubt_was_resolved",
    ),
    Mutant(
        "say that an unclear end had no effect",
        "leased.py",
        "self.ended_own_doubt = not repeats and self.storage",
        "self.ended_own_doubt = self.storage",
        f"{RETRIED} -k provider_s_window",
    ),
    Mutant(
        "leave the messages of an own doubt to the sweeper",
        "leased.py",
        "        publish_parked(claim.key_hash, using=self.storage.using)",
        "        pass",
        f"{LEASED} -k comes_back",
    ),
    Mutant(
        "defer for ever",
        "contrib/celery.py",
        "if not is_old or self._text is None or busy.key is None:",
        "if True:",
        f"{CELERY} -k deferred_for_too_long",
    ),
    Mutant(
        "give up without keeping the message",
        "contrib/celery.py",
        "if not is_old or self._text is None or busy.key is None:",
        "if not is_old:",
        f"{CELERY} -k must_not_be_kept_never",
    ),
    Mutant(
        "keep the arguments of a message that must not be kept",
        "contrib/celery.py",
        "if not conf().STORE_MESSAGE:",
        "if False:",
        f"{CELERY} -k no_argument_is_kept",
    ),
    Mutant(
        "publish what gave up while its key is held",
        "maintenance.py",
        "return look.locked and (",
        "return (",
        f"{CELERY} -k deferred_for_too_long",
    ),
    Mutant(
        "publish what waits for an exhausted record",
        "maintenance.py",
        " | Q(exhausted_at__isnull=False)",
        "",
        f"{CELERY} -k exhausted",
    ),
    Mutant(
        "publish RabbitMQ's own notes again",
        "contrib/celery.py",
        "if not name.startswith(X_DEATH + without)",
        "if not name.startswith(without)",
        f"{CELERY} -k look_like_a_cycle",
    ),
    Mutant(
        "delay by less than a second",
        "contrib/celery.py",
        "return max(1.0, pause * random.uniform(0.5, 1))",
        "return pause * random.uniform(0.5, 1) / 2",
        f"{CELERY} -k busy_message_is_published",
    ),
    Mutant(
        "give each replayed callback an id of its own",
        "contrib/celery.py",
        "    delivery.name_callbacks()",
        "    pass",
        f"{CELERY} -k callbacks_keep",
    ),
    Mutant(
        "ignore the unique key's violation",
        "storage/postgresql.py",
        'return bool(_diagnosis(error).constraint_name == "idempotency_record_key_hash")',
        "return False",
        f"{TRANSACTIONAL} -k lock_lost",
    ),
    Mutant(
        "take any unique violation for a duplicate",
        "storage/postgresql.py",
        'return bool(_diagnosis(error).constraint_name == "idempotency_record_key_hash")',
        "return True",
        f"{TRANSACTIONAL} -k fails_at_commit",
    ),
    Mutant(
        "COMMIT behind an upsert that may change nothing",
        "storage/postgresql.py",
        "THEN 'succeeded' END,\n       attempt",
        "THEN 'succeeded' ELSE record.state END,\n       attempt",
        f"{TRANSACTIONAL} -k lock_lost",
    ),
    Mutant(
        "write the record outside of the transaction",
        "storage/postgresql.py",
        'self._send(f"{sql}; COMMIT", parameters)',
        'self._send(f"COMMIT; {sql}", parameters)',
        f"{TRANSACTIONAL} -k duplicate_is_answered",
    ),
    Mutant(
        "accept a record written by another transaction",
        "storage/postgresql.py",
        "CASE WHEN now() = %(begun_at)s THEN %(scope)s END",
        "CASE WHEN now() >= %(begun_at)s THEN %(scope)s END",
        f"{TRANSACTIONAL} -k commits_by_itself",
    ),
    Mutant(
        "skip the needs_rollback check",
        "storage/base.py",
        "if connection.needs_rollback:",
        "if False:",
        f"{TRANSACTIONAL} -k cannot_be_committed",
    ),
    Mutant(
        "skip the check for a swallowed database error",
        "storage/base.py",
        "if self._is_aborted():",
        "if False:",
        f"{TRANSACTIONAL} -k cannot_be_committed",
    ),
    Mutant(
        "skip the check for a closed connection",
        "storage/base.py",
        "if connection.closed_in_transaction or connection.connection is not raw:",
        "if False:",
        f"{TRANSACTIONAL} -k cannot_be_committed",
    ),
    Mutant(
        "do not flush a claim",
        "storage/postgresql.py",
        "set_config('synchronous_commit', 'on', true)",
        "current_setting('synchronous_commit')",
        f"{LEASED} -k flushed",
    ),
    Mutant(
        "call every database error transient",
        "storage/postgresql.py",
        "return state in LOST_TRANSACTION or state.startswith(LOST_CONNECTION)",
        "return True",
        f"{TRANSACTIONAL} -k own_integrity_error",
    ),
    Mutant(
        "call no lost transaction transient",
        "storage/postgresql.py",
        "return state in LOST_TRANSACTION or state.startswith(LOST_CONNECTION)",
        "return False",
        f"{TRANSACTIONAL} -k lost_transaction",
    ),
    Mutant(
        "take the end of an idle transaction for the body's failure",
        "storage/postgresql.py",
        'LOST_CONNECTION = ("08", "57P0", "25P03", "25P04")',
        'LOST_CONNECTION = ("08", "57P0")',
        f"{TRANSACTIONAL} -k lost_transaction",
    ),
    Mutant(
        "forget a job at once",
        "policies.py",
        "or duration <= timedelta(0)):",
        "or False):",
        "tests/execution/test_decorators.py -k retention",
    ),
    Mutant(
        "leave a connection with an open transaction behind",
        "storage/base.py",
        "        if not is_clean:\n",
        "        if False:\n",
        f"{LIMIT} {REPLIES}",
    ),
    Mutant(
        "run inside of somebody's transaction",
        "storage/base.py",
        "if connection.in_atomic_block or not self.is_idle():",
        "if not self.is_idle() and not connection.in_atomic_block:",
        f"{TRANSACTIONAL} {LEASED} -k 'transaction_it_is_refused'",
    ),
    Mutant(
        "note a failure over a record in any state",
        "storage/base.py",
        "failed = self.records.filter(key_hash=key_hash, state=State.FAILED, exhausted_at=None)",
        "failed = self.records.filter(key_hash=key_hash)",
        f"{TRANSACTIONAL} -k overtaken",
    ),
    Mutant(
        "read 'absent' after a lost COMMIT as rolled back",
        "transactional.py",
        "            if look.locked:\n                raise error",
        "            if True:\n                raise error",
        f"{REPLIES} -k still_in_progress",
    ),
    Mutant(
        "forget the on_commit hooks when the reply to COMMIT is lost",
        "transactional.py",
        "for _, hook, robust in self.hooks:",
        "for _, hook, robust in ():",
        f"{REPLIES} -k transactional",
    ),
    Mutant(
        "call a failing on_commit hook the job's failure",
        "transactional.py",
        "        self.committed = True",
        "        self.committed = self.sent = False",
        f"{TRANSACTIONAL} -k failing_hook",
    ),
    Mutant(
        "commit without a nested call that was busy",
        "transactional.py",
        "if attempt.doomed_by is not None:",
        "if False:",
        f"{TRANSACTIONAL} -k dooms",
    ),
    Mutant(
        "let a call wait for itself",
        "transactional.py",
        "if any(attempt.hashes & set(self.call.key.hashes) for attempt in running_here):",
        "if False:",
        f"{TRANSACTIONAL} -k inside_itself",
    ),
    Mutant(
        "lock the key under the first secret only",
        "storage/postgresql.py",
        "for n in key.lock_numbers)",
        "for n in key.lock_numbers[:1])",
        f"{TRANSACTIONAL} -k rotation",
    ),
    Mutant(
        "replay whatever the arguments",
        "calls.py",
        "and fingerprint != seen.fingerprint",
        "and fingerprint is None",
        f"{TRANSACTIONAL} {LEASED} -k arguments",
    ),
    Mutant(
        "run though the lock is somebody else's",
        "calls.py",
        "if not look.locked:",
        "if False:",
        f"{TRANSACTIONAL} -k while_one_runs",
    ),
    Mutant(
        "remember an expired record",
        "calls.py",
        "if seen is not None and not seen.is_forgotten:",
        "if seen is not None:",
        f"{TRANSACTIONAL} -k expired",
    ),
    Mutant(
        "take over a claim whose effect had begun",
        "calls.py",
        "seen.state is State.IN_DOUBT or seen.is_doubtful",
        "seen.state is State.IN_DOUBT",
        f"{LEASED} -k lapsed",
    ),
    Mutant(
        "take over a claim whose lease is alive",
        "calls.py",
        "if seen.state is State.RUNNING and seen.lease_left > 0:",
        "if False:",
        f"{LEASED} -k while_one_runs",
    ),
    Mutant(
        "call a lease a doubt that was renewed meanwhile",
        "calls.py",
        "            if not self.storage.doubt(seen):\n                return",
        "            if not self.storage.doubt(seen):\n                pass",
        f"{LEASED} -k renewed_since",
    ),
    Mutant(
        "repeat an effect that the provider has forgotten",
        "storage/rows.py",
        "(self.policy == OnDoubt.RETRY.value and self.repeatable)",
        "(self.policy == OnDoubt.RETRY.value)",
        f"{RETRIED} -k window",
    ),
    Mutant(
        "count the provider's window from the last claim",
        "storage/base.py",
        '"repeat_until": F("repeat_until")',
        '"expires_at": F("expires_at")',
        f"{RETRIED} -k first_claim",
    ),
    Mutant(
        "forget an effect that an earlier attempt may have had",
        "leased.py",
        "self.repeats = seen.effect_begun and not seen.is_forgotten",
        "self.repeats = False",
        f"{RETRIED} -k earlier_attempt",
    ),
    Mutant(
        "end a later doubt by an old answer",
        "querysets.py",
        "return doubt if claim_id is None else doubt.filter(claim_id=claim_id)",
        "return doubt",
        "tests/execution/test_asked.py -k only_the_doubt",
    ),
    Mutant(
        "ask while the provider may still be at work",
        "calls.py",
        '            raise self.busy(" It is in doubt, and too early',
        '            self.busy(" It is in doubt, and too early',
        "tests/execution/test_asked.py -k still_be_at_work",
    ),
    Mutant(
        "drop the claim_id guard",
        "querysets.py",
        "return self.filter(key_hash=claim.key_hash, claim_id=claim.id)",
        "return self.filter(key_hash=claim.key_hash)",
        f"{LEASED} -k stale_claim",
    ),
    Mutant(
        "take over a record that has changed since it was seen",
        "querysets.py",
        "changed = self.as_seen(seen).update(\n            state=State.RUNNING,",
        "changed = self.filter(key_hash=seen.key_hash).update(\n            state=State.RUNNING,",
        f"{LEASED} -k has_changed_since",
    ),
    Mutant(
        "begin the effect under a lease that ran out",
        "querysets.py",
        "self.held_by(claim).leased().update(effect_begun_at=Now())",
        "self.held_by(claim).update(effect_begun_at=Now())",
        f"{LEASED} -k cannot_begin",
    ),
    Mutant(
        "resolve what is not in doubt",
        "querysets.py",
        "doubt = self.filter(key_hash=key_hash, state=State.IN_DOUBT)",
        "doubt = self.filter(key_hash=key_hash)",
        f"{RESOLUTION} -k without_a_doubt",
    ),
    Mutant(
        "claim after the body",
        "leased.py",
        "answer = self.persist(self._claim, self.is_transient)",
        "self.call = __import__('dataclasses').replace(self.call, function=(\n"
        "                    lambda result: lambda: result)(self.call.function()))\n"
        "                answer = self.persist(self._claim, self.is_transient)",
        f"{LEASED} -k claim_is_committed",
    ),
    Mutant(
        "treat any exception as 'no effect'",
        "leased.py",
        "isinstance(cause, self.policy.no_effect_errors)",
        "isinstance(cause, Exception)",
        f"{LEASED} -k after_the_effect_began",
    ),
    Mutant(
        "treat no exception as 'no effect'",
        "leased.py",
        "or isinstance(cause, self.policy.no_effect_errors)",
        "or False",
        f"{LEASED} -k refusal",
    ),
    Mutant(
        "commit the settling rows of a lost lease",
        "leased.py",
        "if not self._succeed(claim, text):",
        "if not self._succeed(claim, text) and False:",
        f"{LEASED} -k settles_nothing",
    ),
    Mutant(
        "call a lost settlement a success",
        "leased.py",
        "if not sent or not self._insist(lambda: self.storage.has_succeeded(claim)):",
        "if not sent:",
        f"{REPLIES} -k never_arrived",
    ),
    Mutant(
        "never renew the lease",
        "heartbeat.py",
        "if not self._storage.renew(self._claim):",
        "if True:",
        f"{LEASED} -k heartbeat",
    ),
    Mutant(
        "renew the lease of a hung body for ever",
        "heartbeat.py",
        "and time.monotonic() < stop_at",
        "and True",
        f"{LEASED} -k hangs",
    ),
    Mutant(
        "park a message though the doubt is being resolved",
        "parking.py",
        "if not waited_for.select_for_update().first():",
        "if not waited_for.first():",
        f"{RESOLUTION} -k being_resolved",
    ),
    Mutant(
        "forget a message whose publishing failed",
        "parking.py",
        "            done += Published(waiting=1)",
        "            done += Published(waiting=1)\n            row.delete()",
        f"{RESOLUTION} -k publishing_fails",
    ),
    Mutant(
        "let another decorator hide the task from us",
        "contrib/celery.py",
        "if inspect.unwrap(task.run, stop=lambda wrapped: wrapped is function) is not function:",
        "if inspect.unwrap(task.run) is not function:",
        f"{CELERY} -k busy",
    ),
    Mutant(
        "settle inside a transaction that the body left open",
        "leased.py",
        "            self.storage.end_leftovers()",
        "            pass",
        f"{LEASED} -k leaves_open",
    ),
    Mutant(
        "delete a parked message after it was published",
        "parking.py",
        "                deleted, _ = parked.filter(pk=row.pk).delete()\n"
        "                if deleted:\n                    done += _publish(row)",
        "                done += _publish(row)\n            parked.filter(pk=row.pk).delete()",
        f"{CELERY} -k while_it_is_published",
    ),
    Mutant(
        "leave the message of a nested doubt to itself",
        "contrib/celery.py",
        "return self._park(using, UUID(error.key), reason)",
        "return True",
        f"{CELERY} -k nested_call_is_in_doubt",
    ),
    Mutant(
        "let an error's text hide the error",
        "storage/rows.py",
        '.encode(errors="replace").decode()',
        "",
        f"{LEASED} -k cannot_be_stored",
    ),
    Mutant(
        "let a body wrap the error of a busy nested call",
        "transactional.py",
        "if attempt.doomed_by not in (None, error):",
        "if False:",
        f"{TRANSACTIONAL} -k whatever_is_made",
    ),
    Mutant(
        "try again because a hook failed",
        "transactional.py",
        "return not self.committed and self.storage",
        "return self.storage",
        f"{TRANSACTIONAL} -k hook",
    ),
    Mutant(
        "read an instant without its offset",
        "storage/postgresql.py",
        'cursor.adapters.register_loader("timestamptz", TimestamptzLoader)',
        "pass",
        f"{TRANSACTIONAL} -k comes_twice",
    ),
    Mutant(
        "claim on a snapshot older than the lock",
        "storage/postgresql.py",
        'self._send("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")',
        "pass",
        f"{LEASED} -k rotation",
    ),
    Mutant(
        "let the heartbeat write the row that is being settled",
        "leased.py",
        "                self.storage.hold(claim)\n",
        "",
        f"{LEASED} -k repeatable_read",
    ),
    Mutant(
        "give up a settlement that met a lock",
        "leased.py",
        "                if self.storage.in_test_case:\n                    raise",
        "                if self.storage.is_lock_timeout(error):\n                    raise",
        f"{LEASED} -k lock_timeout",
    ),
    Mutant(
        "put retries into the key",
        "contrib/celery.py",
        "request.replaced_task_nesting or 0)",
        "request.retries or 0)",
        f"{CELERY} -k redelivery_and_retry",
    ),
    Mutant(
        "drop a busy message",
        "contrib/celery.py",
        "            copy.apply_async()",
        "            pass",
        f"{CELERY} -k busy",
    ),
    Mutant(
        "return when busy",
        "decorators.py",
        "                answer = delivery.answer(",
        "                return None\n                answer = delivery.answer(",
        f"{CELERY} -k busy",
    ),
    Mutant(
        "let autoretry_for take a message that is given back",
        "contrib/celery.py",
        "class Requeue(Reject, Ignore):",
        "class Requeue(Reject):",
        f"{CELERY} -k given_back",
    ),
    Mutant(
        "believe a Retry by itself",
        "contrib/celery.py",
        "return error.exc or error.__context__ if isinstance(error, Retry) else error",
        "return error",
        f"{CELERY} -k judged",
    ),
    Mutant(
        "lose the message that makes a doubt",
        "leased.py",
        "if not self._insist(lambda: self.delivery.park(using, key_hash, generation)):",
        "if False:",
        f"{CELERY} -k makes_a_doubt",
    ),
    Mutant(
        "lose the message that finds a doubt",
        "contrib/celery.py",
        "return self._park(using, key_hash, Reason.IN_DOUBT, generation)",
        "self._parked = True\n        return True",
        f"{CELERY} -k finds_a_doubt",
    ),
    Mutant(
        "fail the chord of a member in doubt",
        "contrib/celery.py",
        "if self._request.chord and self._text is not None:",
        "if False:",
        f"{CELERY} -k chord",
    ),
    Mutant(
        "count a failure as a duplicate",
        "statistics.py",
        'duplicates=Count("id", filter=Q(kind=Kind.DUPLICATE)),',
        'duplicates=Count("id"),',
        f"{STATISTICS} -k run_that_failed",
    ),
    Mutant(
        "count every duplicate as flagged by the broker",
        "statistics.py",
        "filter=Q(kind=Kind.DUPLICATE, redelivered=True)",
        "filter=Q(kind=Kind.DUPLICATE)",
        f"{STATISTICS} -k duplicates_of_a_worker",
    ),
    Mutant(
        "count a message each time that it waits",
        "statistics.py",
        "kind__in=[Kind.DUPLICATE, Kind.FAILED]",
        "kind__in=[Kind.DUPLICATE, Kind.FAILED, Kind.DEFERRED]",
        f"{STATISTICS} -k waited_for_its_key",
    ),
    Mutant(
        "count successes from before the period",
        "statistics.py",
        "state=State.SUCCEEDED, settled_at__gte=begin",
        "state=State.SUCCEEDED",
        f"{STATISTICS} -k before_the_period",
    ),
    Mutant(
        "count duplicates from before the period",
        "statistics.py",
        "Kind.FAILED], at__gte=begin",
        "Kind.FAILED]",
        f"{STATISTICS} -k before_the_period",
    ),
    Mutant(
        "take a sampled storm for all there was",
        "statistics.py",
        "is_lower_bound=scope in sampled",
        "is_lower_bound=False",
        f"{STATISTICS} -k storm",
    ),
]


@contextmanager
def copy_of_checkout():
    with tempfile.TemporaryDirectory() as directory:
        for name in COPIED:
            source, target = CHECKOUT / name, Path(directory) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield Path(directory)


def pytest(checkout: Path, tests: str, database: str) -> subprocess.CompletedProcess[str]:
    given = conninfo_to_dict(os.environ["DATABASE_URL"])
    command = f'"{sys.executable}" -m pytest -q -x --tb=line {tests}'
    return subprocess.run(  # noqa: S602 the command is ours
        command,
        shell=True,
        cwd=checkout,
        env={
            **os.environ,
            "DATABASE_URL": make_conninfo(**given | {"dbname": database}),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def survives(mutant: Mutant, databases: SimpleQueue[str]) -> str:
    """What is wrong with a mutant's run; empty when a test failed as it should."""
    database = databases.get()
    try:
        with copy_of_checkout() as checkout:
            mutant.apply(checkout)
            run = pytest(checkout, mutant.tests, database)
    finally:
        databases.put(database)
    if run.returncode == 1 and "FAILED" in run.stdout:
        return ""
    if run.returncode == 0:
        return f"survived {mutant.tests}"
    return f"pytest {mutant.tests} exited with {run.returncode}:\n{run.stdout}{run.stderr}"


def main(only: str = "") -> int:
    mutants = [mutant for mutant in MUTANTS if only in mutant.breaks]
    for mutant in filter(Mutant.is_stale, mutants):
        print(f"Bring this mutant up to date, {mutant.file} has changed: {mutant.breaks}")
        return 1
    databases: SimpleQueue[str] = SimpleQueue()
    workers = os.cpu_count() or 1
    for number in range(workers):
        databases.put(f"mutants_{number}")
    files = sorted({word for m in mutants for word in m.tests.split() if word.endswith(".py")})
    print(f"{len(mutants)} mutants. First the tests on the app as it is:", flush=True)
    with copy_of_checkout() as checkout:
        unbroken = pytest(checkout, " ".join(files), "mutants_0")
    if unbroken.returncode:
        print(f"They fail already, so no mutant would say anything:\n{unbroken.stdout}")
        return 1
    print(unbroken.stdout.strip().splitlines()[-1], flush=True)
    survivors = 0
    with ThreadPoolExecutor(workers) as pool:
        wrongs = pool.map(lambda mutant: survives(mutant, databases), mutants)
        for mutant, wrong in zip(mutants, wrongs, strict=True):
            survivors += bool(wrong)
            print(f"  {'SURVIVED' if wrong else 'caught  '}  {mutant.breaks}", flush=True)
            if wrong:
                print(f"            {wrong}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants were caught.")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
