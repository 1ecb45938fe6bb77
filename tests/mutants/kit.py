"""The test kit: what it would hide from a user's tests. Every name begins with "kit:"."""

from tests.mutants import Mutant

DELIVERIES = "tests/testing/test_deliveries.py"
DEATHS = "tests/testing/test_deaths.py"
ASSERTIONS = "tests/testing/test_assertions.py"
LEASED = "tests/testing/test_leased_in_a_test_case.py"

MUTANTS = [
    Mutant(
        "kit: let a dead process come to its next step",
        "testing/deaths.py",
        "return self.struck is not None",
        "return self.struck == moment",
        f"{DEATHS} -k catches_everything",
    ),
    Mutant(
        "kit: let a dead process send statements",
        "testing/deaths.py",
        "if death.struck is not None and not str(sql)",
        "if False and not str(sql)",
        f"{DEATHS} -k no_statement_is_sent",
    ),
    Mutant(
        "kit: let a body catch its own death",
        "testing/deaths.py",
        "class SimulatedCrash(BaseException):",
        "class SimulatedCrash(Exception):",
        f"{DEATHS} -k catches_everything",
    ),
    Mutant(
        "kit: end every_death() without a word when nothing was delivered",
        "testing/deaths.py",
        "        if not death.met:",
        "        if False:",
        f"{DEATHS} -k nothing_is_delivered_to",
    ),
    Mutant(
        "kit: let the process that is to die end by itself",
        "testing/dying.py",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "raise SystemExit(0)",
        f"{DEATHS} -k tidies_nothing",
    ),
    Mutant(
        "kit: let the process that is to die reach the database of the settings",
        "testing/dying.py",
        '        connections.settings[alias]["NAME"] = name',
        "        pass",
        f"{DEATHS} -k real_death_is_one",
    ),
    Mutant(
        "kit: simulate a death where a real one can be had",
        "testing/messages.py",
        "        simulates = in_test_case()",
        "        simulates = True",
        f"{DEATHS} -k real_death_is_one",
    ),
    Mutant(
        "kit: say nothing when a delivery did not come to the moment of its death",
        "testing/messages.py",
        "        elif isinstance(at, str):",
        "        elif False:",
        f"{DEATHS} -k does_not_come",
    ),
    Mutant(
        "kit: flag no message as redelivered",
        "testing/messages.py",
        "return self.deliveries > 1",
        "return False",
        f"{DELIVERIES} -k flagged_as_redelivered",
    ),
    Mutant(
        "kit: deliver a task that nothing protects",
        "testing/messages.py",
        "        if watch.key is None and error is None:",
        "        if False:",
        f"{DELIVERIES} -k without_protection",
    ),
    Mutant(
        "kit: forget the retries of what was published",
        "testing/messages.py",
        '    message.retries = options.get("retries") or 0',
        "",
        f"{DELIVERIES} -k retry_is_caught",
    ),
    Mutant(
        "kit: publish to the broker what the test is to deliver",
        "testing/tracing.py",
        "            if keep(task, args, kwargs, options):",
        "            if False:",
        f"{DELIVERIES} -k retry_is_caught",
    ),
    Mutant(
        "kit: publish parked messages to the broker",
        "testing/tracing.py",
        "if not keep(signature.type, signature.args, signature.kwargs, signature.options):",
        "if True:",
        f"{DEATHS} -k made_resolved",
    ),
    Mutant(
        "kit: give a task what no broker would carry",
        "testing/tracing.py",
        "    args, kwargs = loads(text, content_type, encoding, accept={content_type})",
        "",
        f"{DELIVERIES} -k those_that_a_worker_gets",
    ),
    Mutant(
        "kit: start a body before the others have looked",
        "testing/overlap.py",
        "            self._overlap.hold()",
        "            pass",
        f"{DELIVERIES} -k before_every_other",
    ),
    Mutant(
        "kit: let the others come before one holds its key",
        "testing/overlap.py",
        "            overlap.wait_for_a_holder()",
        "            pass",
        f"{DELIVERIES} -k not_before_one_holds",
    ),
    Mutant(
        "kit: deliver at the same time where the others see nothing",
        "testing/overlap.py",
        "    if in_test_case() or storage_for(using).connection.in_atomic_block:",
        "    if False:",
        f"{DELIVERIES} -k refused",
    ),
    Mutant(
        "kit: watch the inner call instead of the outer one",
        "testing/watching.py",
        "        if self._is_inside:",
        "        if False:",
        f"{DELIVERIES} -k call_inside",
    ),
    Mutant(
        "kit: never come to the moment after the commit",
        "testing/watching.py",
        "        self.meet(AFTER_COMMIT)",
        "",
        f"{DEATHS} -k has_its_effect_once",
    ),
    Mutant(
        "kit: let time run backwards",
        "testing/records.py",
        "ExpressionWrapper(F(name) - duration",
        "ExpressionWrapper(F(name) + duration",
        f"{DEATHS} -k retention_ends",
    ),
    Mutant(
        "kit: take two effects in doubt for what was promised",
        "testing/assertions.py",
        "(number <= 1 and state == State.IN_DOUBT)",
        "state == State.IN_DOUBT",
        f"{ASSERTIONS} -k twice_is_not",
    ),
    Mutant(
        "kit: take a missing effect for what was promised",
        "testing/assertions.py",
        "(number == 1 and state == State.SUCCEEDED)",
        "(number <= 1 and state == State.SUCCEEDED)",
        f"{ASSERTIONS} -k missing_without_a_doubt",
    ),
    Mutant(
        "kit: let a database error in a leased body end the test's transaction",
        "storage/base.py",
        "            if self.connection.needs_rollback or self._is_aborted():",
        "            if False:",
        f"{LEASED} -k database_error",
    ),
    Mutant(
        "kit: roll back what a leased body wrote before any error",
        "storage/base.py",
        "            if self.connection.needs_rollback or self._is_aborted():",
        "            if True:",
        f"{LEASED} -k what_a_body_raises",
    ),
]
