"""What is said of what is dropped, and of what cannot be done yet."""

from tests.mutants import Mutant

GATHERING = "tests/execution/test_gathering.py"
CHECKS = "tests/operations/test_celery_checks.py"
RESOLUTION = "tests/execution/test_resolution.py"
HELD = "tests/execution/test_under_the_lock.py"

MUTANTS = [
    Mutant(
        "tidy: drop events and say nothing",
        "events.py",
        "        if dropped:\n",
        "        if False:\n",
        f"{GATHERING} -k is_dropped_is_counted",
    ),
    Mutant(
        "tidy: say again what was dropped before",
        "events.py",
        "dropped, self._dropped = self._dropped, 0",
        "dropped = self._dropped",
        f"{GATHERING} -k is_dropped_is_counted",
    ),
    Mutant(
        "tidy: let the sweeper find first what has failed and may not be repeated",
        "resolution.py",
        "unseen = silent | storage.records.doubtful()",
        "unseen = silent",
        f"{RESOLUTION} -k knows_no_repeat",
    ),
    Mutant(
        "tidy: do not say that a delivery holds the key of what has failed",
        "resolution.py",
        'at this moment" if locked else ""',
        'at this moment" if False else ""',
        f"{HELD} -k operator",
    ),
    Mutant(
        "tidy: offer no button for what has failed and may not be repeated",
        "admin/operations.py",
        "records.resolvable() | records.doubtful()",
        "records.resolvable()",
        "tests/admin/test_settling.py -k knows_no_repeat",
    ),
    Mutant(
        "tidy: say nothing of a RabbitMQ that confirms nothing",
        "contrib/celery_checks/broker.py",
        'not in AMQP or options.get("confirm_publish")',
        "in AMQP",
        f"{CHECKS} -k confirms",
    ),
    Mutant(
        "tidy: ask every broker for the confirmation of RabbitMQ",
        "contrib/celery_checks/broker.py",
        'transport_of(app) not in AMQP or options.get("confirm_publish")',
        'options.get("confirm_publish")',
        f"{CHECKS} -k confirms",
    ),
]
