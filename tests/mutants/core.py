"""Who may end what runs, and whose effect a record tells of. All names begin with "core:"."""

from tests.mutants import Mutant

UNDER_THE_LOCK = "tests/execution/test_under_the_lock.py"
RETRIED = "tests/execution/test_retried.py"

MUTANTS = [
    Mutant(
        "core: find a doubt in what runs in a transaction",
        "calls.py",
        "        if seen.state is State.IN_DOUBT:\n            raise",
        "        if seen.state is State.IN_DOUBT or seen.is_doubtful:\n            raise",
        f"{UNDER_THE_LOCK} -k finds_it_busy",
    ),
    Mutant(
        "core: sweep up what runs in a transaction",
        "maintenance.py",
        "if not look.locked or not doubt.put_in_doubt():",
        "if not doubt.put_in_doubt():",
        f"{UNDER_THE_LOCK} -k sweeper_leaves_it",
    ),
    Mutant(
        "core: resolve what runs in a transaction",
        "resolution.py",
        "        if look.locked:  #",
        "        if True:  #",
        f"{UNDER_THE_LOCK} -k resolves_nothing",
    ),
    Mutant(
        "core: put in doubt what has come back since it was seen",
        "calls.py",
        "is_doubt = look.locked and self",
        "is_doubt = self",
        f"{UNDER_THE_LOCK} -k 'runs_by_now and doubt'",
    ),
    Mutant(
        "core: exhaust what has come back since it was seen",
        "calls.py",
        "stopped = look.locked and self",
        "stopped = self",
        f"{UNDER_THE_LOCK} -k 'runs_by_now and exhausted'",
    ),
    Mutant(
        "core: run a start though its record has settled since",
        "transactional.py",
        "return look.locked and seen.state is State.RUNNING",
        "return look.locked",
        "tests/execution/test_deaths.py -k exhausted_before",
    ),
    Mutant(
        "core: forget with a start that was shut down that an effect had begun",
        "transactional.py",
        "    self.storage.fail_briefly(self.claim, error, repeats=self.repeats)\n        except",
        "    self.storage.fail_briefly(self.claim, error, repeats=False)\n        except",
        f"{UNDER_THE_LOCK} -k ended_by_itself",
    ),
    Mutant(
        "core: judge an effect by a claim that has had none yet",
        "storage/base.py",
        '"policy": policy if begins else F("policy"),',
        '"policy": policy,',
        f"{RETRIED} -k without_an_effect",
    ),
    Mutant(
        "core: judge an effect by a claim that was refused",
        "querysets.py",
        'policy=OnDoubt.RETRY.value if repeats else F("policy"),',
        'policy=F("policy"),',
        f"{RETRIED} -k without_an_effect",
    ),
    Mutant(
        "core: judge an effect by the claim before it",
        "querysets.py",
        "lease_expires_at=after(claim.lease), policy=policy",
        "lease_expires_at=after(claim.lease)",
        f"{RETRIED} -k its_own_policy",
    ),
    Mutant(
        "core: log what is skipped as a failure",
        "admin/operations.py",
        "            except tuple(SKIPPED) as refused:",
        "            except () as refused:",
        "tests/admin/test_settling.py -k is_no_failure",
    ),
]
