"""``manage.py send_messages FILE``: which rows it takes, and what a user sees."""

import json
import os
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

from notifications.models import Campaign, Message, Status
from notifications.rows import Unreadable, read
from tests.example.mail_server import MailServer
from tests.harness.processes import ROOT, database_url
from tests.harness.waiting import wait_until

HEADER = b"recipient,subject,body\n"
GOOD = {"recipient": "anna@example.com", "subject": "Hello", "body": "Hi Anna"}


def as_json(**changes):
    return json.dumps(GOOD | changes).encode()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"anna@example.com,Hello", "2 columns instead of 3"),
        (b"https://hooks.example.com/7,Hello,Hi", None),
        (b"http://127.0.0.1:8001/a?token=b,Hello,Hi", None),
        (b"ftp://hooks.example.com/7,Hello,Hi", "recipient: Enter a valid URL."),
        (b"https://hooks,Hello,Hi", "recipient: Enter a valid URL."),
        (b"http://127.0.0.1:99999/,Hello,Hi", "Port out of range"),
        ("https://exämple.com/,Hello,Hi".encode(), "recipient: Write the URL in ASCII"),
        (b"https://u:p@hooks.example.com/,Hello,Hi", "must not hold a user name"),
        (b"https://hooks.example.com/" + b"a" * 2000 + b",Hello,Hi", "at most 2000 characters"),
        (b"anna@example.com,Hello,Hi,Anna", "4 columns instead of 3"),
        (b"anna,Hello,Hi", "recipient: Enter a valid email address."),
        (b",Hello,Hi", "recipient: empty"),
        (b"anna@example.com, ,Hi", "subject: empty"),
        (b"anna@example.com,Hello,", "body: empty"),
        (b'anna@example.com,"Hello\nBcc: all@example.com",Hi', "subject: Must be one line."),
        ("anna@example.com,Hello\u2028X: y,Hi".encode(), "subject: Must be one line."),
        (b"a" * 250 + b"@example.com,Hello,Hi", "has at most 254 characters"),
        (b"anna@example.com," + b"x" * 256 + b",Hi", "has at most 255 characters"),
        (b"anna@example.com,Hello,Gr\xfc\xdfe", "body: Must be valid UTF-8."),
        (b"anna@example.com,Hello,a\0b", "Null characters are not allowed"),
        (b'anna@example.com,"Hello",Hi "there', None),
        (b'anna@example.com,"Hello" you,Hi', "not CSV"),
    ],
)
def test_a_bad_row_of_a_csv_file_is_named_and_the_rest_is_kept(row, reason):
    rows = read("file.csv", HEADER + b"bob@example.com,S,B\n" + row + b"\ncarl@example.com,S,B\n")
    if reason is None:
        assert len(rows.good) == 3
        return
    [(line, said)] = rows.bad
    assert line == 3
    assert reason in said
    assert [row["recipient"] for row in rows.good] == ["bob@example.com", "carl@example.com"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"{", "not JSON: Expecting property name"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"recipient": ' + b"1" * 5000 + b"}", "too long a number"),
        (as_json(subject=None), "subject: missing"),
        (b'{"recipient": "anna@example.com", "subject": "Hello"}', "body: missing"),
        (as_json(body=17), "body: must be text, not int"),
        (as_json(cc="bob@example.com"), "unknown column 'cc'"),
        (as_json(subject="Hello\r\nBcc: all@example.com"), "subject: Must be one line."),
        (as_json(body="a\0b"), "Null characters are not allowed"),
        (as_json(body="\ud800"), "body: Must be valid UTF-8."),
        (b'{"recipient": "\xff@example.com"}', "subject: missing"),
    ],
)
def test_a_bad_line_of_json_is_named_and_the_rest_is_kept(row, reason):
    before, after = as_json(recipient="bob@example.com"), as_json(recipient="carl@example.com")
    rows = read("file.jsonl", b"\n".join([before, b"", row, after]))
    [(line, said)] = rows.bad
    assert line == 3
    assert reason in said
    assert [row["recipient"] for row in rows.good] == ["bob@example.com", "carl@example.com"]


def test_a_body_keeps_its_lines_and_lines_are_counted_as_an_editor_does():
    content = HEADER + b'anna@example.com,Hello,"Hi,\n""Anna"""\n\nnobody,S,B\n'
    rows = read("file.csv", content)
    assert [row["body"] for row in rows.good] == ['Hi,\n"Anna"']
    assert [line for line, _ in rows.bad] == [5]


def test_a_quote_that_is_never_closed_says_what_went_with_it():
    rows = read("file.csv", HEADER + b'bob@example.com,S,B\nanna@example.com,"S,B\ncarl@a.bc,S,B\n')
    assert len(rows.good) == 1
    [(line, reason)] = rows.bad
    assert line == 3
    assert "skipped up to line 4" in reason


def test_columns_may_come_in_any_order_and_after_a_byte_order_mark():
    content = b"\xef\xbb\xbfBody, Subject ,RECIPIENT\r\nHi Anna,Hello,anna@example.com\r\n"
    assert read("FILE.CSV", content).good == [GOOD]


def test_a_body_may_be_long():
    assert read("file.csv", HEADER + b"a@example.com,S," + b"x" * 1_000_000).bad == []


def test_the_same_message_twice_in_a_file_is_sent_once():
    rows = read("file.ndjson", b"\n".join([as_json(), as_json(body="Another"), as_json()]))
    assert len(rows.good) == 2
    assert rows.bad == [(3, "the same message as line 1")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("file.xlsx", b"", "must end in .csv, .jsonl, .ndjson"),
        ("file.csv", b"", "The first line of a CSV file must be: recipient,subject,body"),
        ("file.csv", b"recipient;subject;body\n", "must be: recipient,subject,body"),
        ("file.csv", b"recipient,subject,body,cc\n", "must be: recipient,subject,body"),
        ("file.csv", b'"recipient', "must be: recipient,subject,body"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_as_a_whole(name, content, reason):
    with pytest.raises(Unreadable, match=reason):
        read(name, content)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.csv", None, "No such file"),
        ("file.txt", b"", "must end in"),
        ("file.jsonl", b"", r"no good row \(0 bad\)"),
        ("file.csv", HEADER + b"nobody,S,B\n", r"no good row \(1 bad\)"),
    ],
)
def test_nothing_to_send_is_an_error_and_makes_no_campaign(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=reason):
        call_command("send_messages", tmp_path / name)
    assert not Campaign.objects.exists()


@pytest.mark.django_db
def test_a_campaign_keeps_to_its_file(tmp_path):
    file = tmp_path / "file.jsonl"
    file.write_bytes(as_json())
    for name, stored in [("July", "July"), ("not UTF-8: \udcff", "not UTF-8: ?")]:
        Campaign.objects.create(name=stored, digest="of another file")
        with pytest.raises(CommandError, match="has another file"):
            call_command("send_messages", file, campaign=name)
    with pytest.raises(CommandError, match="longer than 300"):
        call_command("send_messages", file, campaign="x" * 301)


@pytest.fixture
def send_messages(transactional_db, queue):
    """Run the command as a user does."""

    def run(*arguments, **environment):
        environment = {
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_QUEUE": queue.name,
        } | environment
        return subprocess.run(
            [sys.executable, "manage.py", "send_messages", *map(str, arguments)],
            env=os.environ | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_a_file_is_sent_once_however_often_it_is_given(
    send_messages, worker, queue, tmp_path, monkeypatch
):
    file = tmp_path / "july.csv"
    good = b"".join(b"%d@example.com,Hello,Hi\n" % n for n in range(101))  # two parts
    file.write_bytes(HEADER + b"nobody,S,B\n" + good)
    with MailServer() as mail_server:
        monkeypatch.setenv("EMAIL_PORT", str(mail_server.port))
        runs = [send_messages(file), send_messages(file)]
        worker(concurrency=2)
        wait_until(
            lambda: Message.objects.filter(status=Status.SENT).count() == 101,
            "101 sent",
            seconds=60,
        )
        runs.append(send_messages(file))
        queue.wait_empty(seconds=60)
        assert sorted(mail["To"] for mail in mail_server.inbox) == sorted(
            f"{n}@example.com" for n in range(101)
        )
    campaign = Campaign.objects.get()
    assert campaign.name.startswith("july.csv ")
    for run in runs:
        assert run.returncode == 0
        assert run.stderr == "line 2: recipient: Enter a valid email address.\n"
        assert f"{campaign.name!r}: 101 messages given to the workers, 1 bad row left" in run.stdout
    assert "Given before" not in runs[0].stdout
    assert "Given before: 0 messages sent, and not sent again." in runs[1].stdout
    assert "Given before: 101 messages sent, and not sent again." in runs[2].stdout


def test_a_broker_that_cannot_be_reached_is_said_and_nothing_is_lost(
    send_messages, queue, tmp_path
):
    file = tmp_path / "file.jsonl"
    file.write_bytes(as_json())
    with MailServer() as gone:
        pass
    run = send_messages(
        file,
        CELERY_BROKER_URL=f"redis://{gone.host}:{gone.port}/0",
        DJANGO_SETTINGS_MODULE="project.settings",  # the tests' result backend is gone with it
    )
    assert run.returncode == 1
    assert "The broker cannot be reached" in run.stderr
    assert "Traceback" not in run.stderr
    assert send_messages(file).returncode == 0
    assert queue.length() == 1
    assert Campaign.objects.count() == 1
