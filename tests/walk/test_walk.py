"""At three in the morning: what an operator sees, presses and is told, in a real browser.

A real worker has made the records on a real broker; two doubts are those of a real SIGKILL. Whether
a mail was sent, and how often, the mail server says.
"""

import json
import os
import re
import signal
from contextlib import ExitStack
from datetime import timedelta

import pytest
from django.test import override_settings
from django.utils import timezone

from idempotency import execute
from idempotency.maintenance import sweep
from idempotency.models import IdempotencyEvent, IdempotencyRecord, Kind, ParkedMessage
from idempotency.states import State
from notifications.demo.night import ANNA, BEN, CLARA, DAVID, EMIL
from notifications.demo.plan import Fault
from notifications.models import Status
from tests.admin.test_browser import follow
from tests.harness.browsers import needs_chromium
from tests.walk.stage import Operator, frozen, wait

pytestmark = [needs_chromium, pytest.mark.xdist_group("walk")]

PUBLISHED = "1 parked message published."


def record_of(stage, recipient):
    return IdempotencyRecord.objects.filter(task_id__in=stage.night.task_ids[recipient]).first()


def told_of(stage, recipient, kind):
    """The events of a kind about the mail to a recipient."""
    key_hash = record_of(stage, recipient).key_hash
    return IdempotencyEvent.objects.filter(key_hash=key_hash, kind=kind)


def wait_for_doubt(stage, recipient):
    parked = ParkedMessage.objects.filter(task_id__in=stage.night.task_ids[recipient])
    wait(parked.exists, "the doubt, and its message to be parked")


def in_order(wanted, found):
    """Whether all that is wanted is there, in this order, whatever lies between."""
    rest = iter(found)
    return all(each in rest for each in wanted)


def test_it_happened_and_the_worker_answers_what_has_waited(stage, ada):
    ada.home()
    assert "parked messages" in ada.text(".idempotency-attention")
    ada.look("attention")
    ada.needs("in doubt")
    ada.open(stage.raw_key(BEN))
    ada.look("doubt")
    assert in_order(["Claimed", "The effect begins", "In doubt"], ada.told())
    assert "until somebody says what happened" in ada.text(".idempotency-prospect")
    assert stage.copies(BEN) == 1  # says the mail server, whom the operator asks
    ada.press("It happened")
    ada.look("it-happened")
    said = ada.confirm("the mail server's log has it", result="null")
    assert said == ["It happened: 1 record.", "2 parked messages published."]
    wait(lambda: told_of(stage, BEN, Kind.DUPLICATE).count() == 2, "both to be answered")
    stage.wait_for_status(BEN, Status.SENT)
    ada.page.reload()
    ada.look("settled")
    assert in_order(["In doubt", "Resolved", "Duplicate answered"], ada.told())
    assert "the mail server's log has it" in ada.text(".idempotency-story")
    assert stage.copies(BEN) == 1


def test_it_did_not_happen_and_the_next_delivery_sends_it_once(stage, ada):
    assert stage.copies(CLARA) == 0
    ada.find(stage.raw_key(CLARA))
    ada.press("It did not happen")
    ada.look("it-did-not-happen")
    said = ada.confirm("no trace of it in the mail server's log")
    assert said == ["It did not happen: 1 record.", PUBLISHED]
    stage.wait_for_status(CLARA, Status.SENT)
    wait(lambda: stage.length() == 0, "the queue to be empty")
    assert stage.copies(CLARA) == 1
    ada.page.reload()
    assert in_order(["In doubt", "Resolved", "Claimed", "Succeeded"], ada.told())


def test_what_has_failed_is_allowed_again_and_sent_by_the_operator(stage, ada):
    ada.home()
    ada.needs("failed")
    ada.open(stage.raw_key(DAVID))
    ada.page.locator("summary", has_text="Error").click()
    assert "550 5.1.1 No such mailbox" in ada.text("details pre")
    ada.look("failed")
    ada.press("Allow again")
    ada.look("allow-again")
    assert "Send it again yourself." in ada.text()
    assert ada.confirm("the mailbox is there now") == ["Allow again: 1 record."]
    stage.night.deliver(DAVID)
    stage.wait_for_status(DAVID, Status.SENT)
    assert stage.copies(DAVID) == 1


def test_a_dead_claim_is_released_by_who_knows_that_it_is_dead(stage, ada):
    grace = "grace@example.com"
    with ExitStack() as unnoticed:
        with stage.held(grace) as pid:
            unnoticed.enter_context(frozen(stage.worker.pid))  # else it delivers again
            os.kill(pid, signal.SIGKILL)
            wait(lambda: not stage.mail.trouble.waiting, "its connection to end")
        # As that of a long job: nobody has to press the button in five seconds.
        held = IdempotencyRecord.objects.filter(pk=record_of(stage, grace).pk)
        held.update(lease_expires_at=timezone.now() + timedelta(hours=1))
        ada.find(stage.raw_key(grace))
        ada.press("Release a dead claim")
        ada.look("release")
        assert "may be at work at this moment" in ada.text()
        ada.page.locator("#id_force").check()
        assert ada.confirm("killed by hand") == ["Release a dead claim: 1 record."]
        assert "In doubt" in ada.told()
        held.update(lease_expires_at=timezone.now())  # else its messages wait for that hour
    wait_for_doubt(stage, grace)
    ada.page.reload()
    ada.press("It did not happen")
    said = ada.confirm("it died before the mail server had it")
    assert said == ["It did not happen: 1 record.", PUBLISHED]
    stage.wait_for_status(grace, Status.SENT)
    assert stage.copies(grace) == 1


def test_a_purge_says_first_what_it_would_delete_and_leaves_the_rest(stage, ada):
    stage.night.deliver("henry@example.com")
    stage.wait_for_status("henry@example.com", Status.SENT)
    forgotten, kept = record_of(stage, "henry@example.com"), record_of(stage, ANNA)
    since = timezone.now() - timedelta(days=1)  # nobody waits for thirty days
    IdempotencyRecord.objects.filter(pk=forgotten.pk).update(expires_at=since)
    ada.home()
    for recipient in ("henry@example.com", ANNA):
        ada.row(stage.raw_key(recipient)).locator("input").check()
    ada.page.locator("select[name=action]").select_option("purge")
    follow(ada.page, ada.page.get_by_role("button", name=re.compile("^(Go|Run)$")))
    ada.look("purge")
    assert "1 record; 1 more was selected and is left as it is: not forgotten yet" in ada.text()
    assert IdempotencyRecord.objects.filter(pk=forgotten.pk).exists()
    assert ada.confirm("the disk is full") == ["Purge: 1 record."]
    assert not IdempotencyRecord.objects.filter(pk=forgotten.pk).exists()
    assert IdempotencyRecord.objects.filter(pk=kept.pk).exists()


def test_a_record_is_found_by_whatever_one_has(stage, ada):
    record = record_of(stage, EMIL)
    key, digits = stage.raw_key(EMIL), record.key_hash.hex
    scoped = f"{record.scope}: {key}"
    for text in (key, scoped, digits, digits[:8], record.task_id):
        ada.find(text)
        assert digits in ada.text()
    assert in_order(["Failed", "Taken over", "Succeeded"], ada.told())
    assert stage.copies(EMIL) == 1
    assert ada.search("no such key") == 0
    ada.look("nothing-found")


SKIPPED = "1 record skipped: changed meanwhile, or held: not in doubt any more, or another doubt."


def test_a_delivery_that_came_too_early_was_deferred_and_answered(stage, ada):
    ada.find(stage.raw_key(ANNA))
    ada.look("answered")
    assert in_order(["Claimed", "Deferred", "Succeeded", "Duplicate answered"], ada.told())
    assert stage.copies(ANNA) == 1


def test_two_operators_settle_one_doubt_at_once_and_one_of_them_is_told(stage, ada):
    ivy = "ivy@example.com"
    stage.mail.trouble.faults[ivy] = Fault.HANG_UP
    stage.night.deliver(ivy)
    wait_for_doubt(stage, ivy)
    bob = Operator(stage.browser, stage.site, "bob")
    for operator, verdict in ((ada, "It happened"), (bob, "It did not happen")):
        operator.find(stage.raw_key(ivy))
        operator.press(verdict)
        operator.fill(f"{verdict}, I think")
    for operator in (ada, bob):  # nobody waits for the other
        operator.page.evaluate("document.querySelector('.submit-row input').click()")
    said = sorted(operator.wait_until_said() for operator in (ada, bob))
    [settled] = told_of(stage, ivy, Kind.RESOLVED)
    verdict = "It happened" if "It happened, I think" in settled.note else "It did not happen"
    assert said == [[SKIPPED], [f"{verdict}: 1 record.", PUBLISHED]]
    stage.wait_for_status(ivy, Status.SENT)
    assert stage.copies(ivy) == (1 if verdict == "It happened" else 2)
    assert bob.errors == []


def test_a_worker_that_comes_back_while_the_page_is_open_is_not_overruled(stage, ada):
    jack = "jack@example.com"

    def is_doubt():
        sweep()
        return record_of(stage, jack).state == State.IN_DOUBT

    with ExitStack() as away:
        with stage.held(jack) as pid:
            away.enter_context(frozen(pid))
        wait(lambda: stage.copies(jack) == 1, "the mail to be taken")
        wait(is_doubt, "its lease to run out")
        ada.find(stage.raw_key(jack))
        ada.press("It did not happen")
    stage.wait_for_status(jack, Status.SENT)
    assert ada.confirm("its process has been silent for long") == [SKIPPED]
    ada.look("came-back")
    assert record_of(stage, jack).state == State.SUCCEEDED
    assert stage.copies(jack) == 1


def test_a_record_that_is_purged_between_list_and_click_is_said_to_be_gone(stage, ada):
    kim = "kim@example.com"
    stage.night.deliver(kim)
    stage.wait_for_status(kim, Status.SENT)
    assert ada.search(stage.raw_key(kim)) == 1
    record = record_of(stage, kim)
    IdempotencyRecord.objects.filter(pk=record.pk).delete()
    ada.open()
    [said] = ada.said()
    assert "Perhaps it was deleted?" in said
    ada.look("gone")


# And as they are typed: the box takes no space at the ends and no null character.
KEYS = {
    "طلب 7 🧾👩‍👩‍👧 \u202e<b>'\"&%00": "طلب 7 🧾👩‍👩‍👧 \u202e<b>'\"&%00",
    " a\0b ": '" a\\u0000b "',
    "x" * 10_000: "x" * 10_000,
}


def test_a_key_of_any_script_and_length_is_found_and_shown_within_the_page(stage, ada):
    for key, typed in KEYS.items():
        with override_settings(IDEMPOTENCY={"STORE_KEY": True}):
            execute(lambda: None, key=key, scope="any")
        ada.find(f"any: {typed}")
        assert json.dumps(key, ensure_ascii=False)[:100] in ada.text(".field-key")
    ada.look("long-key")


def test_a_null_character_is_refused_in_words(stage, ada):
    ada.page.goto(f"{stage.site.url}/admin/idempotency/idempotencyrecord/?q=any%3A+a%00b")
    assert ada.said() == ["Null characters are not allowed."]
    ada.look("null-character")
