"""Signals, logs, redaction, and what a body does outside of its transaction."""

from tests.mutants import Mutant

SIGNALS = "tests/execution/test_signals.py"
OUTSIDE = "tests/execution/test_outside.py"
LOGS = "tests/operations/test_logs.py"
CELERY = "tests/contrib/test_celery.py"

MUTANTS = [
    Mutant(
        "tell nobody of a success",
        "transactional.py",
        "        if not outcome.replayed:\n            self._tell_success()\n",
        "",
        f"{SIGNALS} -k first_run",
    ),
    Mutant(
        "tell of a replay as of a success",
        "transactional.py",
        "if not outcome.replayed:",
        "if True:",
        f"{SIGNALS} -k first_run",
    ),
    Mutant(
        "tell of no success after a hook failed",
        "transactional.py",
        "                self._tell_success()\n                raise  # an on_commit",
        "                raise  # an on_commit",
        f"{SIGNALS} -k hook_of_the_body_fails",
    ),
    Mutant(
        "tell of no success whose COMMIT was not answered",
        "transactional.py",
        "                self._tell_success()\n                for _, hook",
        "                for _, hook",
        "tests/faults/test_lost_replies.py -k transactional_job_survives",
    ),
    Mutant(
        "tell of a nested success before its caller has committed",
        "transactional.py",
        "events.tell_with_commit(signals.attempt_succeeded, self._success())",
        "self._tell_success()",
        f"{SIGNALS} -k 'rolls_back_with_its_caller or takes_a_child_back'",
    ),
    Mutant(
        "tell of a leased success before it is settled",
        "leased.py",
        "        if not self._settle(claim, text):",
        "        self._tell(signals.attempt_succeeded, duration=self.duration)\n"
        "        if not self._settle(claim, text):",
        f"{SIGNALS} -k after_its_commit",
    ),
    Mutant(
        "tell of no claim",
        "leased.py",
        "self._tell(signals.attempt_claimed)",
        "pass",
        f"{SIGNALS} -k from_its_claim",
    ),
    Mutant(
        "let a receiver that fails undo the work",
        "events.py",
        "signal.send_robust(",
        "signal.send(",
        f"{SIGNALS} -k receiver_that_fails",
    ),
    Mutant(
        "tell of a storm only what is written down",
        "events.py",
        "    tell(SIGNALS[kind], about)\n    if kind",
        "    if not _rare([Event(kind, about)], about['using']):\n        return\n"
        "    tell(SIGNALS[kind], about)\n    if kind",
        f"{SIGNALS} -k storm",
    ),
    Mutant(
        "tell of what is done to a record before it is committed",
        "events.py",
        "    tell_with_commit(SIGNALS[kind], about)",
        "    tell(SIGNALS[kind], about)",
        f"{SIGNALS} -k told_with_its_commit",
    ),
    Mutant(
        "tell of a deferral that could not be published",
        "contrib/celery.py",
        "        try:\n            copy.apply_async()",
        "        events.announce(Kind.DEFERRED, about)\n"
        "        try:\n            copy.apply_async()",
        f"{CELERY} -k 'cannot_be_published'",
    ),
    Mutant(
        "tell the text of a note that must be hidden",
        "logs.py",
        'note and redacted("note", note)',
        "note",
        f"{LOGS} -k said_by_one_function",
    ),
    Mutant(
        "tell the text of a traceback that must be hidden",
        "logs.py",
        "logger.addFilter(RedactTracebacks())\n",
        "",
        f"{LOGS} -k text_of_a_traceback",
    ),
    Mutant(
        "tell what a broken function was to hide",
        "redaction.py",
        'return f"(not shown: REDACT raised {type(error).__name__})"',
        "return text",
        f"{LOGS} -k 'said_by_one_function or not_there'",
    ),
    Mutant(
        "tell in the admin what must be hidden",
        "admin/base.py",
        "return row and redact(row)",
        "return row",
        "tests/operations/test_admin.py -k must_not_be_shown",
    ),
    Mutant(
        "tell in a terminal what must be hidden",
        "management/commands/idempotency_show.py",
        "_told(redact(event))",
        "_told(event)",
        "tests/operations/test_commands.py -k must_not_be_shown",
    ),
    Mutant(
        "tell of each hook",
        "outside.py",
        "        _hooks_said.add(scope)\n",
        "",
        f"{OUTSIDE} -k hook_that_the_body_leaves",
    ),
    Mutant(
        "tell of a write by another job of ours",
        "outside.py",
        'is_ours = "idempotency_" in sql',
        "is_ours = False",
        f"{OUTSIDE} -k protected_by_its_own_record",
    ),
    Mutant(
        "tell of no write elsewhere",
        "outside.py",
        "attempt is not None and attempt.connection is not there:",
        "False:",
        f"{OUTSIDE} -k another_alias",
    ),
    Mutant(
        "tell of a doubt only when the reply came",
        "calls.py",
        "            self.doubted = seen\n",
        "            self.doubted = seen if seen.state is State.FAILED else None\n",
        "tests/faults/test_lost_replies.py -k found_is_told",
    ),
    Mutant(
        "tell of a lost lease when it was the reply that was lost",
        "leased.py",
        "return is_resent and self.storage.has_ended(self._held, state)",
        "return False",
        "tests/faults/test_lost_replies.py -k end_whose_reply",
    ),
    Mutant(
        "tell slow receivers of a claim without a heartbeat",
        "leased.py",
        "                heartbeat.enter_context(self._heartbeat(self._held))\n"
        "                self._tell(signals.attempt_claimed)\n",
        "                self._tell(signals.attempt_claimed)\n"
        "                heartbeat.enter_context(self._heartbeat(self._held))\n",
        f"{SIGNALS} -k slow_receiver",
    ),
    Mutant(
        "tell of a lost lease in the transaction that rolls back",
        "leased.py",
        "raise (lost := self._stale(claim))",
        "raise self._lease_lost(claim)",
        f"{SIGNALS} -k lost_in_a_settling_block",
    ),
    Mutant(
        "tell of a nested duplicate inside of its caller's transaction",
        "calls.py",
        "events.tell_with_commit(signals.duplicate_replayed, about)",
        "events.tell(signals.duplicate_replayed, about)",
        f"{SIGNALS} -k 'rolls_back_is_not_told or statement_fails'",
    ),
    Mutant(
        "tell of no write through a connection that the body opens",
        "outside.py",
        '@receiver(connection_created, dispatch_uid="idempotency.outside")\n',
        "",
        f"{OUTSIDE} -k another_alias",
    ),
    Mutant(
        "tell of a write twice when its connection was opened twice",
        "outside.py",
        " and say_write not in wrappers:",
        ":",
        f"{OUTSIDE} -k each_only_once",
    ),
    Mutant(
        "tell what one database is asked",
        "outside.py",
        "len(list(connections)) > 1 and ",
        "",
        f"{OUTSIDE} -k one_database",
    ),
    Mutant(
        "tell of our own hooks as of the body's",
        "outside.py",
        'any(getattr(hook, "func", None) is not tell for _, hook, *_ in hooks)',
        "True",
        f"{OUTSIDE} -k nested_call_of_ours",
    ),
    Mutant(
        "tell the log whatever a publisher calls a message",
        "logs.py",
        "return text if WORD.fullmatch(text) else json.dumps(text)",
        "return text",
        f"{LOGS} -k begin_another_line",
    ),
    Mutant(
        "tell of a deferral, and let a limit there undo it",
        "contrib/celery.py",
        "except Exception:  # a soft time limit",
        "except ArithmeticError:  # a soft time limit",
        f"{CELERY} -k limit_while_a_deferral",
    ),
]
