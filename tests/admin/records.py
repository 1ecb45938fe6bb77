"""Records in each state, as an operator finds them."""

from datetime import timedelta
from uuid import uuid4

from django.utils import timezone

from idempotency.models import IdempotencyEvent, IdempotencyRecord, ParkedMessage

HOSTILE = "<script>alert('x')</script>\"'&\u202e"


def ago(**span):
    return timezone.now() - timedelta(**span)


def made(state="succeeded", using="default", **columns):
    """A record. One in doubt is never born as such: it was running."""
    settled = state in ("succeeded", "failed")
    columns = {
        "key_hash": uuid4(),
        "scope": "shop.ship",
        "attempt": 1,
        "created_at": ago(minutes=5),
        "settled_at": ago(minutes=4) if settled else None,
        "expires_at": ago(days=-30),
        **({} if settled else leased()),
    } | columns
    is_doubt = state == "in_doubt"
    born = {"state": "running", "lease_expires_at": ago()} if is_doubt else {"state": state}
    records = IdempotencyRecord.objects.using(using)
    record = records.create(**(columns | born))
    if is_doubt:
        lease = {"lease_expires_at": columns["lease_expires_at"]}
        records.filter(pk=record.pk).update(state=state, **lease)
    return records.with_clock().get(pk=record.pk)


def leased():
    return {
        "claim_id": uuid4(),
        "policy": "hold",
        "owner": "worker-3:4711",
        "claimed_at": ago(minutes=5),
        "effect_begun_at": ago(minutes=5),
        "lease_expires_at": ago(minutes=-1),
    }


def event(record, kind, using="default", **columns):
    about = {"key_hash": record.key_hash, "scope": record.scope, "task_id": record.task_id}
    return IdempotencyEvent.objects.using(using).create(kind=kind, **(about | columns))


def parked(record, reason="in_doubt", using="default", **columns):
    about = {"key_hash": record.key_hash, "task_id": str(uuid4()), "message": '{"task": "ship"}'}
    return ParkedMessage.objects.using(using).create(reason=reason, **(about | columns))


def night():
    """What somebody finds at three in the morning. Returns the record that they look for."""
    for number in range(3):
        made(result=str(number), key=f'"order-{number}"', task_id=str(uuid4()))
    made("failed", error_class="builtins.ZeroDivisionError", error_message="division by zero")
    made("failed", attempt=11, deaths=10, exhausted_at=ago(hours=2), created_at=ago(hours=3))
    made("running", scope="notifications.tasks.send_message", attempt=2)
    made("running", lease_expires_at=ago(minutes=2), scope="billing.charge")
    for _ in range(2):
        parked(made("failed"), "gave_up")
    doubt = made(
        "in_doubt",
        scope="notifications.tasks.send_message",
        key='{"message_id": 213}',
        attempt=2,
        task_id="8f14e45f-ceea-467f-a8d3-1a2b3c4d5e6f",
        created_at=ago(hours=1, minutes=7),
        claimed_at=ago(minutes=52),
        effect_begun_at=ago(minutes=51, seconds=58),
        lease_expires_at=ago(minutes=46),
        error_class="smtplib.SMTPServerDisconnected",
        error_message="Connection unexpectedly closed: the read operation timed out",
    )
    told = {"attempt": 1, "worker": "worker-1:311"}
    event(
        doubt,
        "failed",
        at=ago(hours=1, minutes=6),
        duration=timedelta(seconds=3.2),
        note="ConnectionRefusedError",
        **told,
    )
    told = {"attempt": 2, "worker": "worker-3:4711"}
    event(doubt, "taken_over", at=ago(minutes=52), note="It was failed.", **told)
    event(doubt, "in_doubt", at=ago(minutes=51, seconds=50), note="SMTPServerDisconnected", **told)
    event(doubt, "deferred", at=ago(minutes=50), redelivered=True, **told)
    parked(doubt, created_at=ago(minutes=50), task_id=doubt.task_id)
    parked(doubt, created_at=ago(minutes=20), message=None)
    return doubt
