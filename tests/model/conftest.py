"""What was explored is told at the end: ``make test ARGS=tests/model``."""


def pytest_terminal_summary(terminalreporter):
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    explored = [
        said for each in reports for name, said in each.user_properties if name == "explored"
    ]
    if explored:
        terminalreporter.section("the models")
        for line in sorted(explored):
            terminalreporter.write_line(line)
