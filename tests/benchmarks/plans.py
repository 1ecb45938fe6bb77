"""``python -m tests.benchmarks.plans``: whether it pays to keep the plans of our two statements.

A first execution in four forms, each beside the bare transaction and with the same body: the
statements as text, which is what the app sends; as what ``PREPARE`` has kept for the session; as
PL/pgSQL functions, which a migration would install and whose plans the session keeps; and as what
psycopg prepares by itself, in a pipeline, for its protocol takes one statement in each message.

``ROUNDS`` rounds (30) of ``CALLS`` calls of each (30), all on one connection.
"""

import os
import uuid
from collections.abc import Callable
from typing import Any

import django
from psycopg import ClientCursor, Cursor

from tests.benchmarks.__main__ import own_database, say
from tests.benchmarks.rounds import Rounds, Subject
from tests.benchmarks.writing import table

ROUNDS = int(os.environ.get("ROUNDS") or 30)
CALLS = int(os.environ.get("CALLS") or 30)

BARE = "bare transaction"
TYPES = {
    "key_hash": "uuid",
    "begun_at": "timestamptz",
    "scope": "text",
    "key": "text",
    "fingerprint": "uuid",
    "task_id": "text",
    "result": "text",
    "retention": "interval",
}
ORDER = ", ".join(f"%({name})s" for name in TYPES)
NUMBERED = {name: f"${number}" for number, name in enumerate(TYPES, 1)}
BODY = "INSERT INTO jobs_effect (key, note, pid, created_at) VALUES ('order', 'n', 1, now())"
LOCK = "SELECT now(), pg_try_advisory_xact_lock({number})"

KEPT = (
    "PREPARE bench_look (uuid) AS {look}",
    "PREPARE bench_record ({types}) AS {insert}",
    """CREATE FUNCTION bench_look (uuid, bigint, OUT at timestamptz, OUT locked boolean,
                               OUT found idempotency_record, OUT clock timestamptz)
       LANGUAGE plpgsql AS $$ BEGIN
           at := now();
           locked := pg_try_advisory_xact_lock($2);
           SELECT * INTO found FROM idempotency_record WHERE key_hash = $1;
           clock := clock_timestamp();
       END $$""",
    """CREATE FUNCTION bench_record ({types}) RETURNS void
       LANGUAGE plpgsql AS $$ BEGIN {insert}; END $$""",
)
QUOTED = "'{key_hash}'"
BY_FUNCTION = "BEGIN; SELECT * FROM bench_look ('{key_hash}', {number})"


class Forms:
    """The four forms of one transaction, on one connection."""

    def __init__(self, raw: Any) -> None:
        from idempotency.storage.postgresql import COLUMNS, INSERT, LOOK

        self._look = LOOK.format(columns=COLUMNS, hashes="{hash}")
        self._insert = INSERT
        self._client, self._server = ClientCursor(raw), Cursor(raw)
        types = ", ".join(TYPES.values())
        look, insert = self._look.format(hash="$1"), INSERT % NUMBERED
        for statement in KEPT:
            self._client.execute(statement.format(types=types, look=look, insert=insert))

    def bare(self, _: int) -> None:
        for statement in ("BEGIN", BODY, "COMMIT"):
            self._client.execute(statement)

    def text(self, _: int) -> None:
        self._run(
            f"BEGIN; {LOCK};{self._look.replace('{hash}', QUOTED)}", f"{self._insert}; COMMIT"
        )

    def prepared(self, _: int) -> None:
        self._run(
            f"BEGIN; {LOCK}; EXECUTE bench_look ({QUOTED})",
            f"EXECUTE bench_record ({ORDER}); COMMIT",
        )

    def functions(self, _: int) -> None:
        self._run(
            BY_FUNCTION,
            f"SELECT bench_record ({ORDER}); COMMIT",
        )

    def pipeline(self, _: int) -> None:
        key_hash, number = a_key()
        cursor, look = self._server, self._look.replace("{hash}", "%s")
        with cursor.connection.pipeline():
            cursor.execute("BEGIN")
            cursor.execute(LOCK.replace("{number}", "%s"), [number], prepare=True)
            [(begun_at, _locked)] = cursor.fetchall()
            cursor.execute(look, [key_hash], prepare=True)
            cursor.fetchall()
        cursor.execute(BODY)
        with cursor.connection.pipeline():
            cursor.execute(self._insert, columns(key_hash, begun_at), prepare=True)
            cursor.execute("COMMIT")

    def _run(self, first: str, last: str) -> None:
        key_hash, number = a_key()
        self._client.execute(first.format(key_hash=key_hash, number=number))
        self._client.nextset()  # behind BEGIN
        [(begun_at, *_)] = self._client.fetchall()
        self._client.execute(BODY)
        self._client.execute(last, columns(key_hash, begun_at))


def a_key() -> tuple[uuid.UUID, int]:
    key_hash = uuid.uuid4()
    return key_hash, int.from_bytes(key_hash.bytes[:8], signed=True)


def columns(key_hash: uuid.UUID, begun_at: object) -> dict[str, object]:
    return {
        "key_hash": key_hash,
        "begun_at": begun_at,
        "scope": "bench.confirm_order",
        "key": None,
        "fingerprint": key_hash,
        "task_id": str(key_hash),
        "result": '{"ok": true, "order": 12345678}',
        "retention": "30 days",
    }


def subjects(forms: Forms) -> list[Subject]:
    named: dict[str, Callable[[int], None]] = {
        BARE: forms.bare,
        "bare again (A/A)": forms.bare,
        "text, as the app sends it": forms.text,
        "`PREPARE` and `EXECUTE`": forms.prepared,
        "PL/pgSQL functions": forms.functions,
        "psycopg's own, in a pipeline": forms.pipeline,
    }
    return [Subject(name, call, BARE) for name, call in named.items()]


def main() -> None:
    with own_database():
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
        django.setup()
        from django.core.management import call_command
        from django.db import connection

        from tests.benchmarks.pages import cpu_of_server

        call_command("migrate", verbosity=0, run_syncdb=True)
        connection.ensure_connection()
        say(f"plans: {ROUNDS} rounds")
        forms = subjects(Forms(connection.connection))
        rounds = Rounds(
            forms, rounds=ROUNDS, calls=CALLS, server_cpu=lambda: cpu_of_server() / 1000
        )
        heads = ["Form", "by bare", "server's CPU over bare, µs", "Python's CPU over bare, µs"]
        print(
            table(
                heads,
                [
                    [
                        form.name,
                        f"{rounds.ratio(form.name):.2f}",
                        f"{rounds.cpu_over(form.name, 'server'):.0f}",
                        f"{rounds.cpu_over(form.name):.0f}",
                    ]
                    for form in forms
                ],
            )
        )
        connection.close()


if __name__ == "__main__":
    main()
