"""Deliveries of Celery, and messages that wait."""

from tests.mutants import Mutant

RESOLUTION = "tests/execution/test_resolution.py"
CELERY = "tests/contrib/test_celery.py"

MUTANTS = [
    Mutant(
        "answer a chord's member while its body is being published",
        "calls.py",
        "if self.delivery.has_publisher():",
        "if False:",
        f"{CELERY} -k another_delivery_publishes",
    ),
    Mutant(
        "take a body that was published for one that is being published",
        "contrib/celery.py",
        "return claim is not None and claim not in DONE",
        "return claim is not None",
        f"{CELERY} -k another_delivery_publishes",
    ),
    Mutant(
        "answer a chord's member while the server of results is away",
        "contrib/celery.py",
        "return True  # nobody can tell",
        "return False  # nobody can tell",
        f"{CELERY} -k nobody_can_say",
    ),
    Mutant(
        "take a body for one that is being published, since the client decodes",
        "contrib/celery.py",
        '(b"done", "done")',
        '(b"done",)',
        f"{CELERY} -k client_that_decodes",
    ),
    Mutant(
        "look for the claim on the body of a chord without a group",
        "contrib/celery.py",
        "is_member = self._request.chord and self._request.group",
        "is_member = self._request.chord",
        f"{CELERY} -k no_group",
    ),
    Mutant(
        "fail a member without a result while its body is being published",
        "calls.py",
        """        if self.delivery.has_publisher():
            raise""",
        """        if seen.result is not None and self.delivery.has_publisher():
            raise""",
        f"{CELERY} -k waits_too_before_it_fails",
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
        "let a limit lose the message of a doubt that is being written down",
        "leased.py",
        "            self.was_interrupted = True\n            self._after_raise(claim, error)\n",
        "            raise\n",
        f"{CELERY} -k a_limit_while_a_doubt",
    ),
]
