"""How many schedules there were: said at the end, by whichever processes they were explored."""

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [
        r for rs in terminalreporter.stats.values() for r in rs if hasattr(r, "user_properties")
    ]
    # A set: the end of a test's fixtures is reported with the same properties as the test.
    explored = {said for r in reports for name, said in r.user_properties if name == "schedules"}
    if explored:
        terminalreporter.section("schedules explored")
        for line in sorted(explored):
            terminalreporter.write_line(line)
        total = sum(int(line.split()[0]) for line in explored)
        terminalreporter.write_line(f"{total:6} schedules  in all")
