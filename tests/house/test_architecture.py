"""Where the architecture defends itself, beside the import contracts."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import idempotency

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = sorted((CHECKOUT / "idempotency").rglob("*.py"))


def test_no_public_name_is_also_a_module():
    clash = set(idempotency.__all__) & {path.stem for path in SOURCES}
    assert not clash, f"{clash}: after the module is imported it hides the name."


def test_every_public_name_is_there_and_no_other():
    assert all(getattr(idempotency, name) is not None for name in idempotency.__all__)
    assert len(idempotency.__all__) <= 12


def test_only_conf_reads_django_settings():
    readers = {path.name for path in SOURCES if "django.conf import settings" in path.read_text()}
    assert readers == {"conf.py"}, "Read settings by conf(), so that override_settings works."


def test_only_the_vendor_files_write_sql():
    words = ("SELECT ", "INSERT ", "UPDATE ", "BEGIN", "COMMIT")
    for path in SOURCES:
        if path.parent.name == "storage" and path.stem not in ("base", "__init__"):
            continue
        docstrings, texts = set(), []
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                docstrings.add(node.value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node)
        written = [t.value for t in texts if t not in docstrings and t.value.startswith(words)]
        assert not written, f"{path}: SQL belongs into a vendor file of storage/: {written}"


def test_the_front_door_opens_before_the_registry_is_ready():
    code = (
        "import sys, idempotency; from idempotency import Leased, OnDoubt, current_attempt;"
        "assert 'idempotency.models' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_the_core_works_without_celery():
    code = (
        "import sys; sys.modules['celery'] = None; sys.modules['kombu'] = None;"
        "from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['idempotency'], DATABASES={'default': {"
        "'ENGINE': 'django.db.backends.postgresql', 'NAME': 'x'}});"
        "import importlib.util; find = importlib.util.find_spec;"
        "importlib.util.find_spec = lambda name, *a: None if name == 'celery' else find(name, *a);"
        "import django; django.setup();"
        "from idempotency import idempotent, execute;"
        "idempotent(key='n', scope='s')(lambda n: n)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)


def test_each_import_contract_breaks_when_it_is_violated(tmp_path):
    """A contract that cannot fail says nothing: each meets a planted violation."""
    violations = {
        "idempotency/states.py": "import idempotency.models",
        "idempotency/stray.py": "",
        "idempotency/admin/base.py": "import idempotency.admin.records",
        "idempotency/keys.py": "import notifications.models",
        "idempotency/results.py": "import kombu",
        "idempotency/attempts.py": "import prometheus_client",
        "idempotency/resolution.py": "import psycopg",
        "notifications/mail.py": "import idempotency.execution",
    }
    config = (CHECKOUT / "pyproject.toml").read_text()
    names = [c["name"] for c in tomllib.loads(config)["tool"]["importlinter"]["contracts"]]
    seen = set()
    for number, (file, line) in enumerate(violations.items()):
        copy = tmp_path / str(number)
        for package in ("idempotency", "notifications", "project"):
            for source in (CHECKOUT / package).rglob("*.py"):
                target = copy / source.relative_to(CHECKOUT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(source.read_text())
        (copy / "pyproject.toml").write_text(config)
        with (copy / file).open("a") as broken:
            broken.write(f"\n{line}\n")
        linter = Path(sys.executable).with_name("lint-imports")
        ran = subprocess.run(
            [linter, "--no-cache"], cwd=copy, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 1, f"{file}: {line!r} broke nothing:\n{ran.stdout}"
        broken_ones = {name for name in names if f"{name} BROKEN" in ran.stdout}
        seen |= broken_ones or ({names[0]} if "stray" in ran.stdout else set())
    assert seen == set(names)
