"""The dict ``IDEMPOTENCY``, and what other settings say of a job's time."""

from __future__ import annotations

from idempotency.checks.findings import Found, finding, register
from idempotency.conf import conf, mailers_without_timeout, problems
from idempotency.jobs import all_jobs
from idempotency.policies import Leased

#: What a key is called that holds somebody's data. Guessed one by one, their hashes are found.
PERSONAL = frozenset({"email", "mail", "address", "phone", "mobile", "msisdn", "iban", "ssn"})


def check_options() -> Found:
    """E001 to E003: not a dict, an unknown option, a value that cannot be meant."""
    return [finding(f"E{each.number:03}", each.message, each.hint) for each in problems()]


def check_secrets() -> Found:
    """W015: hashes of what can be guessed."""
    if problems() or any(conf().KEY_SECRETS):
        return []
    personal = sorted(
        f"{job.name} ({argument})"
        for job in all_jobs().values()
        for argument in job.key_paths
        if argument.replace(".", "_").rpartition("_")[2].lower() in PERSONAL
    )
    if not personal:
        return []
    return [
        finding(
            "W015",
            f"Keys are hashed without a secret: {', '.join(personal)}. Who reads the table of "
            "records can find out, by guessing, whose they are.",
            "Set IDEMPOTENCY['KEY_SECRETS'] = [None, 'a long secret'], and turn it in the next "
            "deploy.",
        )
    ]


def check_mail() -> Found:
    """W017: a mail server that hangs."""
    mailers = mailers_without_timeout()
    if not mailers or not any(isinstance(job.policy, Leased) for job in all_jobs().values()):
        return []
    return [
        finding(
            "W017",
            f"{' and '.join(mailers)} has no timeout: a job whose mail server hangs waits until "
            "its hard time limit kills it, or for ever.",
            "Set EMAIL_TIMEOUT = 10, in Django 6.1 'timeout': 10 in the OPTIONS of the mailer.",
        )
    ]


register(check_options)
register(check_secrets, deploy=True)
register(check_mail, deploy=True)
