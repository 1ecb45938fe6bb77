"""One storm from its first message to its verdict."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from project.celery import app
from tests.chaos.outside import Outside
from tests.chaos.report import by_fault, by_promise, by_shape, stories
from tests.chaos.stage import Stage
from tests.chaos.storm import Measure, Storm
from tests.chaos.verdict import Calm, Findings, explain, judge

if TYPE_CHECKING:
    from tests.chaos.__main__ import Order


def play(state: Path, stage: Stage, order: "Order") -> bool:
    """Blow it, calm down, settle, judge and say so; whether every promise was kept."""
    measure = Measure(order.minutes * 60, order.deliveries, order.kills)
    outside = Outside()
    with ExitStack() as stack:
        stack.callback(outside.stop)
        # A result that is collected later says goodbye to its server, and waits long for it.
        stack.callback(app.backend.result_consumer.subscribed_to.clear)
        os.environ.update(outside.start())
        storm = Storm(state, stage, outside, seed=order.seed, measure=measure)
        stack.callback(storm.publisher.abandon)
        storm.screen.say(str(order))
        storm.prepare()
        storm.blow()
        storm.calm_down()
        calm = explain(outside, storm.publisher.intended, storm.journal)
        settle_all(storm, calm)
        findings = judge(outside, storm.publisher.intended, calm, storm.journal)
        say_how_it_was(storm, calm, findings)
        storm.screen.say(f"The same again: {order}")
        if not findings.is_kept:
            storm.screen.say(stories(storm, findings.keys))
            storm.screen.say(f"Logs, journal and databases are kept in {state}")
    return findings.is_kept


def settle_all(storm: Storm, calm: Calm) -> None:
    """End every doubt, and send again what the broker has lost, as whoever sent it would."""
    storm.settle()
    for unit in calm.lost_by_broker:
        storm.publisher.publish(unit)
    if calm.lost_by_broker:
        storm.calm_down()
        storm.settle()


def say_how_it_was(storm: Storm, calm: Calm, findings: Findings) -> None:
    """The tables and the verdict."""
    say, journal = storm.screen.say, storm.journal
    say(f"\n{by_fault(storm)}\n\n{by_promise(storm, calm, findings)}\n")
    say(by_shape(storm, findings))
    say(
        f"{journal.deliveries:,} deliveries of {journal.published:,} messages in "
        f"{storm.seconds:.0f} s of publishing and {storm.calm_seconds:.0f} s of calming down, "
        f"{storm.faults.kills} kills."
    )
    if calm.lost_by_broker:
        say(
            "The broker took messages, and lost them before any worker had them: "
            f"{', '.join(unit.name for unit in calm.lost_by_broker)}. They were sent again."
        )
    if findings.is_kept:
        say("KEPT: nothing lost, nothing doubled, every doubt explained and settled, nothing left.")
        return
    for what in ("lost", "doubled", "wrong", "cut", "left"):
        if found := getattr(findings, what):
            say(f"BROKEN: {len(found)} {what}: {', '.join(found[:8])}")
