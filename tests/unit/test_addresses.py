"""Addresses that lack something are told what they are, wherever one is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from migrator.addresses import is_http, is_server_url, refuse_mistaken
from migrator.cli import main
from migrator.credentials import masked
from migrator.errors import OptionError, TargetError
from migrator.tracker import TrackerConfig
from tests.support.storekit import write_experiment, write_run

MISTAKEN = [
    ("localhost:5000", "Write http://localhost:5000,"),
    ("127.0.0.1:5999", "Write http://127.0.0.1:5999,"),
    ("[::1]:5000", "Write http://[::1]:5000,"),
    ("//tracking.example.com:443/team", "Write http://tracking.example.com:443/team,"),
    ("me:s3cret@tracking:5000", "Write http://tracking:5000,"),
    ("http:/localhost:5000", "Write http://localhost:5000."),
    ("http:localhost:5000", "Write http://localhost:5000."),
    ("https//localhost", "Write https://localhost."),
    ("htp://localhost:5000", "Write http://localhost:5000."),
    ("databricks", "is a Databricks workspace"),
    ("databricks://me", "is a Databricks workspace"),
]


@pytest.mark.parametrize(("given", "words"), MISTAKEN)
def test_a_mistaken_address_is_refused_with_what_to_write(given: str, words: str) -> None:
    with pytest.raises(TargetError) as raised:
        refuse_mistaken(given, TargetError, "Give another.")
    assert words in str(raised.value) and "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "given",
    ["http://localhost:5000", "https://h/prefix", "HTTP://h:1", "sqlite:///m.db", "m.db",
     "./x/m.db", "postgresql://u:p@h:5432/d", "mysql://h/d", "C:\\m.db", "traces.jsonl", "http://h?key=x"],
)  # fmt: skip
def test_other_addresses_are_left_to_those_who_take_them(given: str) -> None:
    refuse_mistaken(given, TargetError, "")


def test_which_addresses_are_those_of_servers() -> None:
    assert is_http("HTTP://h") and is_http("http:/h") and not is_http("h:5000")
    assert is_server_url("http://h:5000/prefix") and is_server_url("HTTPS://h")
    for wrong in ("http://", "http://h:port", "http://h?x=1", "sqlite:///m.db", "h:5000"):
        assert not is_server_url(wrong)
    assert masked("http://me:s3cret@h:1/x") == "http://h:1/x"
    assert masked("me:s3cret@h:1") == "me:***@h:1"


@pytest.mark.parametrize(("given", "words"), MISTAKEN)
def test_every_command_says_what_a_mistaken_address_is(
    given: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    write_run(root, "1", "1" * 32, artifacts={"prompt.txt": "hi", "response.txt": "ho"})
    for code, args in (
        (1, ["convert", "mlruns", "--to", given]),
        (1, ["verify", "mlruns", "--against", given]),
        (1, ["upgrade", given]),
        (2, ["export", "mlruns", "--otlp", given]),
    ):
        result = CliRunner().invoke(main, args)
        assert (result.exit_code, words in result.output) == (code, True), (args, result.output)
        assert "s3cret" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mlruns"]
    with pytest.raises(OptionError) as raised:
        TrackerConfig(enabled=True, tracking_uri=given)
    assert words in str(raised.value)


def test_file_stores_are_no_targets(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    for target in (str(root), root.as_uri()):
        result = CliRunner().invoke(main, ["convert", str(root), "--to", target])
        assert result.exit_code == 1 and "only databases are written" in result.output


def test_a_servers_database_is_upgraded_where_it_runs() -> None:
    result = CliRunner().invoke(main, ["upgrade", "http://me:s3cret@127.0.0.1:5000"])
    assert result.exit_code == 1 and "mlflow db upgrade" in result.output
    assert "s3cret" not in result.output
