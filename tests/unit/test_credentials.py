"""No password, token or row value is printed, however the address is written."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError

from migrator import databases, http_client
from migrator.cli import main
from migrator.credentials import masked, without_credentials, without_secrets
from migrator.errors import MigrateError, TargetError
from tests.support.storekit import write_experiment, write_run

ADDRESSES = [
    ("postgresql://ana:S3CRET@h/d", "postgresql://ana:***@h/d"),
    ("postgresql://ana:S3CRET@x@S3CRET@h/d", "postgresql://ana:***@h/d"),
    ("postgresql://ana:S3CRET/S3CRET@h/d", "postgresql://ana:***@h/d"),
    ("postgresql://ana:S3CRET:S3CRET@h/d", "postgresql://ana:***@h/d"),
    ("postgresql://ana:S3CRET?S3CRET#S3CRET@h/d", "postgresql://ana:***@h/d"),
    ("postgresql://ana@corp:S3CRET@h/d", "postgresql://ana@corp:***@h/d"),
    ("postgresql+psycopg://:S3CRET@h/d", "postgresql+psycopg://:***@h/d"),
    ("postgresql:///d?user=a&password=S3CRET", "postgresql:///d?user=a&password=***"),
    ("postgresql://h/d?password=S3CRET&S3CRET&port=1", "postgresql://h/d?password=***&port=1"),
    ("postgresql://u:S3CRET@h/d?sslpassword=S3@CRET", "postgresql://u:***@h/d?sslpassword=***"),
    ("postgres:/ana:S3CRET@h/d", "postgres:***@h/d"),
    ("ana:S3CRET@h/d", "ana:***@h/d"),
    ("mysql://ana:S3CRET S3CRET@h/d", "mysql://ana:***@h/d"),
    ("http://S3CRET@h:5000/x", "http://h:5000/x"),
    ("https://ana:S3@CRET/S3CRET@h", "https://h"),
    ("s3://KEY:S3CRET@bucket/mlruns", "s3://KEY:***@bucket/mlruns"),
    ("sftp://ana:S3CRET@h/mlruns", "sftp://ana:***@h/mlruns"),
    ("az://c/mlruns?sv=1&sig=S3CRET", "az://c/mlruns?sv=1&sig=***"),
    ("abfss://container@account.dfs.core.windows.net/x", None),
    ("s3://bucket/a@b/mlruns", None),
    ("file:///home/a:b@c/mlruns", None),
    ("sqlite:////home/a:b@c/m.db", None),
    ("models:/name@champion", "models:***@champion"),
    ("/home/ana@corp/a:b@c", None),
    ("http://h:5000", None),
]


@pytest.mark.parametrize(("uri", "shown"), ADDRESSES)
def test_an_address_is_shown_without_its_secret(uri: str, shown: str | None) -> None:
    assert masked(uri) == (shown or uri)
    assert masked(masked(uri)) == masked(uri)


def test_a_message_is_shown_without_the_secrets_of_its_addresses() -> None:
    text = "HTTPError at 'https://a:S3CRET@h/api', from s3://K:S3CRET@b/x: see user@example.com"
    expected = "HTTPError at 'https://h/api', from s3://K:***@b/x: see user@example.com"
    assert without_credentials(text) == expected
    assert str(MigrateError(text)) == expected
    assert without_credentials("It is at http://h/x?key=S3CRET. Go.") == (
        "It is at http://h/x?key=***. Go."
    )
    example = "Write postgresql://user:password@host/database"
    assert without_credentials(example) == example
    assert without_secrets('host "p/w" or p%2Fw; a is no secret', ["p/w", "a b"]) == (
        'host "***" or ***; a is no secret'
    )


@pytest.mark.parametrize("uri", [uri for uri, shown in ADDRESSES if "S3" in uri])
@pytest.mark.parametrize(
    "command",
    [
        ("scan", "{uri}"), ("scan", "{uri}", "--json"), ("convert", "{store}", "--to", "{uri}"),
        ("convert", "{store}", "--to", "{uri}", "--json", "-v"), ("show", "1", "{uri}"),
        ("verify", "{store}", "--against", "{uri}"), ("upgrade", "{uri}"),
        ("export", "{store}", "--otlp", "{uri}"), ("push", "{uri}", "--to", "http://127.0.0.1:9"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_no_command_prints_it(
    command: tuple[str, ...], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(databases, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(http_client, "BACKOFF_S", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    store = tmp_path / "mlruns"
    write_experiment(store, "1", "one")
    call = {"prompt": b"What is MLflow?", "response": b"A platform.", "model": b"gpt-4o"}
    write_run(store, "1", "1" * 32, params=call)  # a trace, so that export has what to send
    args = [part.format(uri=uri, store=store) for part in command]
    result = CliRunner().invoke(main, args)
    assert result.exit_code in (1, 2), result.output
    told = "".join(traceback.format_exception(result.exception)) if result.exception else ""
    for secret in ("S3CRET", "CRET"):
        assert secret not in result.output
        assert secret not in told
        assert secret not in caplog.text


def test_a_password_with_an_at_is_refused_before_its_tail_is_taken_for_the_host() -> None:
    with pytest.raises(TargetError, match=r"more than one @.*%40") as refused:
        databases.server_url("postgresql://u:p@tail@h/d")
    assert "tail" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('invalid input syntax for type bigint: "S3CRET"\nCONTEXT:  COPY runs, line 1, column '
         'start_time: "S3CRET"', "invalid input syntax for type bigint: …"),
        ('invalid input syntax for type bigint: "S3CRET\nS3CRET"\nCONTEXT:  COPY runs: "S3CRET"',
         "invalid input syntax for type bigint: …"),
        ("Duplicate entry 'S3CRET-it''s' for key 'experiments.name'",
         "Duplicate entry … for key 'experiments.name'"),
        ("Incorrect string value: '\\xF0S3CRET' for column 'value' at row 1",
         "Incorrect string value: … for column 'value' at row 1"),
        ('value "S3CRET" is out of range for type integer',
         "value … is out of range for type integer"),
        ('duplicate key value violates unique constraint "runs_pk"\nDETAIL:  Key (a)=(S3CRET)',
         'duplicate key value violates unique constraint "runs_pk"'),
        ("Data too long for column 'value' at row 1", "Data too long for column 'value' at row 1"),
    ],
)  # fmt: skip
def test_values_of_rows_are_not_part_of_a_message(said: str, shown: str) -> None:
    url = make_url("postgresql://u:pw-long@h/d")
    with pytest.raises(TargetError) as refused, databases.reporting(url):
        raise DataError("INSERT", {"value": "S3CRET"}, Exception(said))
    assert shown in str(refused.value)
    assert "S3CRET" not in "".join(traceback.format_exception(refused.value))


def test_a_source_with_a_login_is_converted_without_it(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    from migrator.object_stores import _without_login

    assert _without_login("sftp://u:S3@CRET@h/x", MigrateError) == "sftp://u@h/x"
    assert _without_login("s3://b/a@b", MigrateError) == "s3://b/a@b"
    for unclear in ("sftp://u:S3/CRET@h/x", "az://c/x?sig=S3CRET"):
        with pytest.raises(MigrateError) as refused:
            _without_login(unclear, MigrateError)
        assert "CRET" not in str(refused.value)


def test_a_command_to_copy_holds_no_password(tmp_path: Path) -> None:
    import fsspec

    store = tmp_path / "mlruns"
    write_experiment(store, "1", "one")
    write_run(store, "1", "1" * 32)
    memory = fsspec.filesystem("memory")
    memory.put(str(store), "/u:S3CRET@box/mlruns", recursive=True)
    try:
        for form in ([], ["--json"]):
            result = CliRunner().invoke(main, ["scan", "memory://u:S3CRET@box/mlruns", *form])
            assert "S3CRET" not in result.output
        if result.exit_code == 0:
            assert json.loads(result.output)["sources"] == ["memory://u@box/mlruns"]
    finally:
        memory.rm("/", recursive=True)
