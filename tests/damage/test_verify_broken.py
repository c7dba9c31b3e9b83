"""``verify`` and ``upgrade`` of a target that breaks under them: one sentence, exit code 1."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.pipeline import forest
from tests.support import fixturekit
from tests.support.damagekit import Spot, build
from tests.support.mlflow_server import Server

pytestmark = [pytest.mark.xdist_group("damage_verify_broken"), pytest.mark.long]

PAGE_BYTES = 4096


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def sentence(result: Result) -> str:
    """Return what was said; it must be one message."""
    assert result.exit_code == 1, result.output
    said = result.stderr.strip()
    assert said.startswith("Error: ") and "\n" not in said, said
    return said


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and the database that it was converted into, of the installed MLflow's schema."""
    folder = tmp_path_factory.mktemp("written")
    build(Spot(folder / "mlruns", 1))
    build(Spot(folder / "mlruns", 2))
    target = f"sqlite:///{folder}/m.db"
    assert run("convert", folder / "mlruns", "--to", target, "-q").exit_code == 0
    return folder


@pytest.fixture
def target(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written / "m.db", tmp_path / "m.db"))


def verified(written: Path, target: Path) -> Result:
    return run("verify", written / "mlruns", "--against", f"sqlite:///{target}")


def test_a_database_with_any_page_damaged(written: Path, target: Path) -> None:
    whole = target.read_bytes()
    pages = len(whole) // PAGE_BYTES
    codes = set()
    for page in range(0, pages, max(1, pages // 25)):
        start = page * PAGE_BYTES
        target.write_bytes(whole[:start] + b"\xa5" * PAGE_BYTES + whole[start + PAGE_BYTES :])
        result = verified(written, target)
        codes.add(result.exit_code)
        if result.exit_code == 1:
            assert str(target) in sentence(result) or "The database" in result.stderr
        else:  # of a page that only holds free space, or of texts
            assert result.exit_code in (0, 3)
    assert 1 in codes


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_database_that_is_cut_off_while_it_is_read(
    written: Path, target: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    def cut(*args: Any) -> Any:
        os.truncate(target, int(target.stat().st_size * share) // PAGE_BYTES * PAGE_BYTES)
        return trees(*args)

    trees = forest.hand_over_trees
    monkeypatch.setattr("migrator.pipeline.walk.hand_over_trees", cut)
    assert "is damaged: database disk image is malformed" in sentence(verified(written, target))


def test_a_database_whose_rows_hold_values_of_other_types(written: Path, target: Path) -> None:
    for statement in (
        "UPDATE runs SET start_time = 'soon'", "UPDATE metrics SET value = x'ff'",
        "UPDATE params SET value = x'ff00'", "UPDATE spans SET content = 'no json'",
        "UPDATE trace_info SET timestamp_ms = 'then'",
        "UPDATE experiments SET name = x'ff' WHERE experiment_id = (SELECT max(experiment_id) "
        "FROM experiments)",
        "UPDATE tags SET value = CAST(x'ff' AS TEXT)", "UPDATE trace_info SET status = 'GONE'",
    ):  # fmt: skip
        broken = Path(shutil.copy(written / "m.db", target))
        with closing(sqlite3.connect(broken)) as db:
            db.execute("PRAGMA ignore_check_constraints = ON")
            assert db.execute(statement).rowcount > 0
            db.commit()
        result = verified(written, broken)
        assert result.exit_code in (1, 3), statement
        if result.exit_code == 1:
            sentence(result)


def test_a_database_that_is_locked(written: Path, target: Path) -> None:
    with closing(sqlite3.connect(target, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked by another process" in sentence(verified(written, target))


def test_an_upgrade_of_a_damaged_database_changes_nothing(written: Path, target: Path) -> None:
    whole = target.read_bytes()
    for page in (0, 1, 2, 5, 20):
        start = page * PAGE_BYTES
        damaged = whole[:start] + b"\xa5" * PAGE_BYTES + whole[start + PAGE_BYTES :]
        target.write_bytes(damaged)
        result = run("upgrade", f"sqlite:///{target}")
        if result.exit_code != 0:
            sentence(result)
            assert target.read_bytes() == damaged
        assert {path.name for path in target.parent.iterdir()} == {"m.db"}
    target.write_bytes(whole[: len(whole) // 2])
    sentence(run("upgrade", f"sqlite:///{target}"))


def test_a_damaged_database_is_not_a_source(target: Path) -> None:
    target.write_bytes(target.read_bytes()[:5000])
    for command in (("scan", target), ("show", "1", target)):
        assert "is a damaged SQLite database" in sentence(run(*command))


def test_a_damaged_database_is_not_sent(
    target: Path, served: tuple[Path, Breaking], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, front = served
    monkeypatch.setattr(front, "left", 10**9)
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    said = sentence(run("push", f"sqlite:///{target}", "--to", front.uri))
    assert f"{target} is a damaged SQLite database" in said and "malformed" in said


# --------------------------------------------------------------------------- a server


class Breaking:
    """A server in front of another, which after some requests goes silent or answers 500."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.left = 10**9
        self.answer: Callable[[BaseHTTPRequestHandler], None] = silence
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                outer.left -= "/version" not in self.path
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if outer.left < 0:
                    outer.answer(self)
                    return
                request = urllib.request.Request(
                    outer.behind + self.path, body or None, method=self.command,
                    headers={"Content-Type": "application/json"},
                )  # fmt: skip
                try:
                    with urllib.request.urlopen(request, timeout=30) as response:
                        code, content = response.status, response.read()
                except urllib.error.HTTPError as error:
                    code, content = error.code, error.read()
                answer(self, code, content)

            do_GET = do_POST = do_PATCH = _pass_on

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def answer(handler: BaseHTTPRequestHandler, code: int, content: bytes) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def silence(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def error_as_json(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 500, b'{"error_code": "INTERNAL_ERROR", "message": "it broke"}')


def error_as_page(handler: BaseHTTPRequestHandler) -> None:
    answer(handler, 500, b"<h1>Internal Server Error</h1>")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Breaking]]:
    folder = tmp_path_factory.mktemp("served")
    store = fixturekit.materialise("2.22.5-registry-traces", folder)
    server = Server(folder).start()
    front = Breaking(server.uri)
    os.environ["NO_PROXY"] = "127.0.0.1"
    assert run("convert", store, "--to", server.uri, "--report", folder / "r.json").exit_code == 0
    yield store, front
    front.server.shutdown()
    server.kill()


@pytest.mark.parametrize("failure", [silence, error_as_json, error_as_page])
def test_a_server_that_breaks_midway(
    served: tuple[Path, Breaking], monkeypatch: pytest.MonkeyPatch,
    failure: Callable[[BaseHTTPRequestHandler], None],
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store, front = served
    front.left = 10**9
    result = run("verify", store, "--against", front.uri)
    assert result.exit_code == 0, result.output
    used = 10**9 - front.left
    front.answer = failure
    for before in (0, 1, 2, 3, 5, 8, used // 3, used // 2, used - 2, used - 1):
        front.left = before
        said = sentence(run("verify", store, "--against", front.uri))
        assert front.uri in said and "can't be written" not in said


def test_a_server_that_is_not_there(written: Path) -> None:
    said = sentence(run("verify", written / "mlruns", "--against", "http://127.0.0.1:9"))
    assert said.startswith("Error: http://127.0.0.1:9 can't be read: nothing listens there")
    assert "written" not in said
