"""A type checker refuses wrong calls of a decorated task, ``.delay()`` included."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

SAMPLE = """
from celery import shared_task
from idempotency import Leased, OnDoubt, execute, idempotent

@shared_task(acks_late=True)
@idempotent(key="order_id")
def ship(order_id: int, note: str = "") -> str:
    return note

@idempotent(key=("a", "b"), policy=Leased(on_doubt=OnDoubt.HOLD))
def plain(a: int, b: str) -> list[int]:
    return [a]

ship.delay(7, note="x")
numbers: list[int] = plain(1, "b")
text: str = execute(lambda: "x", key=1, scope="s").result
"""
WRONG = ['ship.delay("7")', "ship.delay()", "plain(1)", "n: int = plain(1, 'b')", "Leased()"]


def test_wrong_calls_are_refused_and_right_ones_pass(tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE + "\n".join(WRONG))
    first_wrong = SAMPLE.count("\n") + 1
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(sample)]
    command += ["--config-file", str(CHECKOUT / "pyproject.toml")]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    refused = {int(line.split(":")[1]) for line in ran.stdout.splitlines() if " error: " in line}
    assert refused == set(range(first_wrong, first_wrong + len(WRONG))), ran.stdout + ran.stderr
