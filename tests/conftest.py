"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support import compatibility

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no test asks this machine's cloud for a login
os.environ.pop("COLUMNS", None)  # of pytest-xdist; without a terminal, lines are not broken


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that keeps what ran, for the page on compatibility."""
    parser.addoption(
        "--record-compatibility",
        action="store_true",
        help="keep the result and all versions in docs/reference/compatibility.json",
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Keep what ran, if that was asked for. Only the process that shows results comes here."""
    if not config.getoption("record_compatibility"):
        return
    count = {
        name: len(terminalreporter.stats.get(name, []))
        for name in ("passed", "failed", "error", "skipped")
    }
    files = [] if config.args == config.getini("testpaths") else list(config.args)
    failed = count["failed"] + count["error"]
    compatibility.record(compatibility.this_run(files, count["passed"], failed, count["skipped"]))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep each ``xdist_group`` on one worker of ``-n``.

    Their fixtures start a server or convert all stores. Without groups each worker would do so.
    """
    if config.getoption("dist", "no") == "load":
        config.option.dist = "loadgroup"


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Handle SIGINT and SIGTERM as a process in the foreground does, children included.

    A background job and ``nohup`` start the tests with such signals ignored.
    """
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
