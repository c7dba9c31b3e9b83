"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from migrator.extractor.filestore import fingerprint

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no test asks this machine's cloud for a login
os.environ.pop("COLUMNS", None)  # of pytest-xdist; without a terminal, lines are not broken

# Stores of tests are seconds old: whether they count as unchanged must not depend on the machine.
fingerprint.CLOCK_NS = 10**18


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
