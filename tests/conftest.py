"""Fixtures that several test files share."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from migrator.extractor.filestore import fingerprint
from tests.support import compatibility

if TYPE_CHECKING:
    from tests.support.mlflow_server import Server as MlflowServer
    from tests.support.sql_servers import Server as SqlServer

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no test asks this machine's cloud for a login
os.environ.pop("COLUMNS", None)  # of pytest-xdist; without a terminal, lines are not broken
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the package

# Stores of tests are seconds old: whether they count as unchanged must not depend on the machine.
fingerprint.CLOCK_NS = 10**18


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
    if not files and "not long" in config.option.markexpr:
        files = ["all but the long ones"]
    failed = count["failed"] + count["error"]
    compatibility.record(compatibility.this_run(files, count["passed"], failed, count["skipped"]))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep each ``xdist_group`` on one worker of ``-n``, and leave out tests that take long.

    The fixtures of a group start a server or convert all stores. Without groups each worker would
    do so. Tests marked ``long`` run with ``-m long``, and wherever a file or directory is named.
    """
    if config.getoption("dist", "no") == "load":
        config.option.dist = "loadgroup"
    is_whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if is_whole_suite and config.option.markexpr == "not browser":
        config.option.markexpr = "not browser and not long"


@pytest.fixture(scope="session", autouse=True)
def latest_revision_is_read_once() -> Iterator[None]:
    """Keep MLflow's latest schema revision: it imports all its migrations to find it.

    It does so whenever a database is opened, which nearly every test does.
    """
    from mlflow.store.db import utils

    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(utils._get_latest_schema_revision)
        patch.setattr(utils, "_get_latest_schema_revision", once)
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server, the same for all tests of a file."""
    from tests.support.mlflow_server import Server

    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[SqlServer]:
    """A PostgreSQL server; each test makes databases of its own there."""
    from tests.support import sql_servers

    with sql_servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[SqlServer]:
    """A MariaDB server; each test makes databases of its own there."""
    from tests.support import sql_servers

    with sql_servers.mysql() as server:
        yield server


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
