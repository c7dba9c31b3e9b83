"""Real database servers for tests: PostgreSQL and MariaDB on loopback, once per pytest process.

A server's data lie in a directory of their own that goes with it. Where there is one already, its
URI can be given instead, of a user who may make databases:

    MLFLOW_MIGRATE_TEST_POSTGRESQL=postgresql://user:password@host/postgres
    MLFLOW_MIGRATE_TEST_MYSQL=mysql://user:password@host/mysql
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.engine import URL

from migrator import databases
from migrator.errors import TargetError
from migrator.loader import schema
from migrator.loader.networked.connection import initialise
from tests.support.ports import free_port

PASSWORD = "s3cr3t:p@ss/word"
START_S = 120


class Server:
    """A running server, and databases on it."""

    def __init__(self, admin: URL) -> None:
        self.admin = admin
        self.kind = admin.get_backend_name()
        self.count = 0
        self.template: str | None = None
        self.definitions: list[str] = []

    def uri(self, database: str, driver: str | None = None) -> str:
        """Return the URI of a database, password and all; by default with a driver."""
        name = self.admin.drivername if driver is None else self.kind + driver
        url = self.admin.set(database=database, drivername=name)
        return url.render_as_string(hide_password=False)

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Run statements, each a transaction of its own."""
        engine = self.engine(database)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()

    def query(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """Return a query's rows."""
        engine = self.engine(database)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def engine(self, database: str | None = None) -> sqlalchemy.Engine:
        """Return an engine on a database."""
        return databases.engine_of(self.admin.set(database=database or self.admin.database))

    def empty(self, collation: str = "utf8mb4_bin") -> str:
        """Make an empty database; return its name."""
        self.count += 1
        name = f"migrate_{os.getpid()}_{self.count}"
        how = f" CHARACTER SET utf8mb4 COLLATE {collation}" if self.kind == "mysql" else ""
        self.execute(f"CREATE DATABASE {name}{how}")
        return name

    def fresh(self) -> str:
        """Make a database with MLflow's tables and no row, quickly; return its name."""
        if self.template is None:
            self.template = self.empty()
            initialise(self._url(self.template), schema.chain()[-1])
        if self.kind == "mysql":
            return self._copied(self.template)
        self.count += 1
        name = f"migrate_{os.getpid()}_{self.count}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
        return name

    def _copied(self, template: str) -> str:
        if not self.definitions:
            names = [str(row[0]) for row in self.query("SHOW TABLES", template)]
            for name in names:
                ((_, made),) = self.query(f"SHOW CREATE TABLE `{name}`", template)
                self.definitions.append(str(made))
            ((revision,),) = self.query("SELECT version_num FROM alembic_version", template)
            self.definitions.append(f"INSERT INTO alembic_version VALUES ('{revision}')")
        name = self.empty()
        self.execute("SET foreign_key_checks = 0", *self.definitions, database=name)
        return name

    def _url(self, database: str) -> URL:
        return self.admin.set(database=database)

    def rows(self, database: str) -> dict[str, list[tuple[object, ...]]]:
        """Return all rows of all tables, sorted."""
        engine = self.engine(database)
        found: dict[str, list[tuple[object, ...]]] = {}
        with engine.connect() as connection:
            for name in sqlalchemy.inspect(connection).get_table_names():
                table = sqlalchemy.table(name)
                query = sqlalchemy.select(sqlalchemy.text("*")).select_from(table)
                found[name] = sorted((tuple(row) for row in connection.execute(query)), key=repr)
        return found


@contextlib.contextmanager
def postgresql() -> Iterator[Server]:
    """Run PostgreSQL, or skip with a line that says what is missing."""
    given = os.environ.get("MLFLOW_MIGRATE_TEST_POSTGRESQL")
    if given:
        yield Server(_url(given))
        return
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    path = os.pathsep.join([str(p) for p in reversed(found)] + [os.environ.get("PATH", "")])
    initdb, postgres = (_program(name, path, "postgresql") for name in ("initdb", "postgres"))
    port = free_port()
    url = _url(URL.create("postgresql", "mlflow", PASSWORD, "127.0.0.1", port, "postgres"))
    with _directory("postgres") as (directory, user):
        secret, data = directory / "password", directory / "data"
        secret.write_text(PASSWORD)
        how = ["-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--locale=C", "-N"]
        _run([initdb, "-D", str(data), "-U", "mlflow", *how], user, directory)
        settings = ["-c", "fsync=off", "-c", "unix_socket_directories=", "-p", str(port)]
        command = [postgres, "-D", str(data), "-h", "127.0.0.1", *settings]
        # It waits for no connection to be closed on this signal.
        with _running(command, user, directory, url, signal.SIGINT):
            yield Server(url)


@contextlib.contextmanager
def mysql() -> Iterator[Server]:
    """Run MariaDB, or skip with a line that says what is missing."""
    given = os.environ.get("MLFLOW_MIGRATE_TEST_MYSQL")
    if given:
        yield Server(_url(given))
        return
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    install = _program("mariadb-install-db", path, "mariadb-server")
    mariadbd = _program("mariadbd", path, "mariadb-server")
    port = free_port()
    url = _url(URL.create("mysql", "mlflow", PASSWORD, "127.0.0.1", port, "mysql"))
    with _directory("mysql") as (directory, user):
        data, first = directory / "data", directory / "first.sql"
        first.write_text(
            "DELETE FROM mysql.global_priv WHERE User = '';\nFLUSH PRIVILEGES;\n"
            f"CREATE USER 'mlflow'@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO 'mlflow'@'%' WITH GRANT OPTION;\n"
        )
        how = ["--no-defaults", f"--datadir={data}", "--skip-test-db"]
        _run([install, *how, "--auth-root-authentication-method=normal"], user, directory)
        settings = [f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
        settings += [f"--socket={directory}/socket", f"--init-file={first}"]
        settings += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]
        with _running([mariadbd, "--no-defaults", *settings], user, directory, url):
            yield Server(url)


def _url(given: str | URL) -> URL:
    text = given if isinstance(given, str) else given.render_as_string(hide_password=False)
    try:
        return databases.server_url(text)
    except TargetError as error:
        pytest.skip(str(error))


def _program(name: str, path: str, package: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"no {name} here: apt-get install {package}, or name a server (serverkit)")
    return found


@contextlib.contextmanager
def _directory(system_user: str) -> Iterator[tuple[Path, str | None]]:
    """Make a directory for a server, and say as whom it must run: no server runs as root."""
    user = None
    if os.getuid() == 0:
        try:
            user = pwd.getpwnam(system_user).pw_name
        except KeyError:
            pytest.skip(f"there is no user {system_user}, and the server refuses to run as root")
    directory = Path(tempfile.mkdtemp(prefix="migrate-server-"))
    try:
        if user is not None:
            shutil.chown(directory, user)
        yield directory, user
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _as(user: str | None) -> dict[str, object]:
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid}


def _run(command: Sequence[str], user: str | None, directory: Path) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=directory, **_as(user)
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    user: str | None,
    directory: Path,
    url: URL,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Run a server until the block ends; it is there when it takes a connection."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=directory, **_as(user)
        )  # type: ignore[call-overload]
    try:
        end = time.monotonic() + START_S
        while True:
            assert process.poll() is None, f"{command[0]} ended: {log.read_text()[-2000:]}"
            try:
                with databases.engine_of(url).connect():
                    break
            except sqlalchemy.exc.DBAPIError as error:
                assert time.monotonic() < end, f"{command[0]}: {error}; {log.read_text()[-2000:]}"
                time.sleep(0.2)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
