"""``convert --to http://…``: a real MLflow server, asked through its API."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from tests import fixturekit
from tests.servedkit import Server, differences

FAMILIES = ("1.30.1-classic", "2.4.2-datasets", "2.22.5-registry-traces", "3.5.1-genai")
MARKED = {"3.5.1-genai"}  # a NaN metric of a logged model is refused: exit code 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), free_port()).start()
    yield server
    server.kill()


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.empty()
    return running


def convert(source: Path | str, to: str, *more: str) -> Result:
    result = CliRunner().invoke(main, ["convert", str(source), "--to", to, *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_server_holds_what_a_database_holds_and_twice_is_once(
    family: str, server: Server, tmp_path: Path
) -> None:
    store = fixturekit.materialise(family, tmp_path)
    code = 3 if family in MARKED else 0
    database = f"sqlite:///{tmp_path}/there.db"
    assert convert(store, database, "-q").exit_code == 0
    first = convert(store, server.uri, "--report", "first.json")
    assert first.exit_code == code, first.output
    assert not (found := differences(database, server)), "\n".join(found)
    rows = server.rows()
    assert convert(store, server.uri, "--report", "again.json").exit_code == code
    assert server.rows() == rows
    before, after = report(tmp_path / "first.json"), report(tmp_path / "again.json")
    for old, new in zip(before["ledger"], after["ledger"], strict=True):
        assert new["converted"] == 0, new
        assert new["already_there"] == old["converted"] + old["already_there"]
        assert (new["rejected"], new["merged"]) == (old["rejected"], old["merged"])
    assert after["rebuilt_new"] == {}
    assert len(before["server"]["ids"]["run"]) == next(
        row["converted"] for row in before["ledger"] if row["kind"] == "run"
    )
