"""Standard streams that lack characters or fail: what is said of the target stays true."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from mlflow import MlflowClient

from migrator.cli import main
from tests.support.storekit import write_experiment, write_run

ROOT = Path(__file__).parent.parent.parent
RUN = "0123456789abcdef0123456789abcdef"
START = 1_714_000_000_000
NAME = "агенты 🤖 中文 é ﬁ €"
ESCAPED = "\\u0430\\u0433\\u0435\\u043d\\u0442\\u044b \\U0001f916 \\u4e2d\\u6587"
ENCODINGS = ["cp1252", "latin-1", "cp437", "ascii"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store in which everything that has a name has one that no code page can show."""
    root = tmp_path / "mlruns"
    write_experiment(root, "7", NAME, tags={NAME: NAME})
    write_run(
        root, "7", RUN, name=NAME, start_ms=START, end_ms=START + 5000, params={NAME: NAME},
        artifacts={"inputs.json": '{"topic": "bees"}', "outputs.json": '{"text": "Bees."}'},
    )  # fmt: skip
    write_run(
        root, "7", "1" * 32, name=NAME, parent=RUN, start_ms=START + 100, end_ms=START + 4000,
        params={"model": "gpt-4o", "bad": b"\xff"},
        artifacts={"prompt.txt": NAME, "response.txt": NAME},
    )  # fmt: skip
    return root


def environment(encoding: str = "utf-8") -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "migrator.cli", *map(str, args)]


def run(args: Sequence[object], encoding: str, code: int = 0) -> tuple[str, str]:
    """Run a command here, with streams as Python makes them for this encoding."""
    out, err = io.BytesIO(), io.BytesIO()
    stdout = io.TextIOWrapper(out, encoding, "strict")
    stderr = io.TextIOWrapper(err, encoding, "backslashreplace")
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as end:
        main.main([str(arg) for arg in args], prog_name="mlflow-migrate")
    stdout.flush()
    stderr.flush()
    said, errors = out.getvalue().decode(encoding), err.getvalue().decode(encoding)
    assert (end.value.code or 0) == code, (args, errors)
    return said, errors


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_escapes_what_its_stream_cannot_show(
    store: Path, tmp_path: Path, encoding: str
) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    legacy = tmp_path / "legacy.py"
    legacy.write_text(
        f'import mlflow\nmlflow.set_tracking_uri("file:./mlruns")  # {NAME}\n', "utf-8"
    )
    profile = tmp_path / "own.toml"
    run(["profiles", "new", "own", "--to", profile], encoding)
    profile.write_text(profile.read_text("utf-8") + f"# {NAME}\n", "utf-8")
    showing: list[list[object]] = [
        ["scan", store, "-v", "--values"],
        ["scan", store, "--csv"],
        ["scan", store, "--tree", "7"],
        ["show", RUN, store, "-v"],
        ["convert", store, "--to", target, "-v"],
        ["profiles", "show", "own", "--profile-file", profile],
        ["code", legacy, "--diff"],
    ]
    for args in showing:
        assert ESCAPED in run(args, encoding)[0], args
    other: list[list[object]] = [
        ["verify", store, "--against", target, "-v"],
        ["export", store, "--otlp", tmp_path / "t.jsonl"],
        ["profiles", "list"],
        ["profiles", "check", profile, store],
        ["--help"],
        ["convert", "--help"],
        ["upgrade", target],
    ]
    for args in other:
        assert run(args, encoding)[0], args
    refused: list[tuple[int, list[object]]] = [
        (1, ["scan", tmp_path / NAME]),
        (1, ["convert", store, "--to", f"{NAME}.txt"]),
        (2, ["scan", store, "--experiment", f"no {NAME}"]),
        (2, ["scan", f"--{NAME}"]),
    ]
    for code, args in refused:
        assert ESCAPED in run(args, encoding, code)[1], args


def test_a_process_of_its_own_escapes_as_well(store: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command("convert", store, "--to", f"sqlite:///{tmp_path}/m.db"),
        capture_output=True, env=environment("cp1252"), timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert ESCAPED in done.stdout.decode("cp1252")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_and_csv_are_whole_in_every_encoding(
    store: Path, tmp_path: Path, encoding: str
) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    commands: list[list[object]] = [["scan", store], ["convert", store, "--to", target]]
    for args in commands:
        document = json.loads(run([*args, "--json"], encoding)[0])
        assert [each["name"] for each in document["experiments"]] == [NAME]
    verified = json.loads(run(["verify", store, "--against", target, "--json"], encoding)[0])
    assert verified["total"] == 0
    rows = list(csv.DictReader(io.StringIO(run(["scan", store, "--csv"], encoding)[0])))
    assert [row["runs"] for row in rows] == ["2"]


@on_linux
@pytest.mark.parametrize("how", [[], ["--json"]])
def test_a_full_disk_does_not_change_what_is_said_of_the_target(
    store: Path, tmp_path: Path, how: list[str]
) -> None:
    args = command("convert", store, "--to", f"sqlite:///{tmp_path}/m.db", *how)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            args, stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=120, check=False
        )
        silent = subprocess.run(
            args, stdout=full, stderr=full, env=environment(), timeout=120, check=False
        )
    said = done.stderr.decode()
    assert (done.returncode, silent.returncode) == (0, 0), said
    assert "the output is incomplete: No space left on device" in said
    assert f"The database sqlite:///{tmp_path}/m.db is complete. Report: {tmp_path}/m.db" in said
    assert "Traceback" not in said and "Exception ignored" not in said
    assert len(MlflowClient(f"sqlite:///{tmp_path}/m.db").search_runs(["7"])) == 2


@on_linux
@pytest.mark.parametrize(
    "args",
    [["scan", "{}"], ["scan", "{}", "--json"], ["show", RUN, "{}"], ["--help"], ["--version"]],
)
def test_output_that_was_lost_is_an_error_where_it_was_all(store: Path, args: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*(arg.format(store) for arg in args)),
            stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=120, check=False,
        )  # fmt: skip
    said = done.stderr.decode()
    assert (done.returncode, said.count("\n")) == (1, 1), said
    assert said.startswith("Error: the output is incomplete: No space left on device.")


@pytest.mark.parametrize("args", [["scan", "{}"], ["convert", "{}", "--to", "m.db"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error(store: Path, tmp_path: Path, args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command(*(arg.format(store) for arg in args)),
        stdout=write, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path, timeout=120,
        check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "m.db").exists() == ("convert" in args)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells and signals")
def test_streams_that_are_closed_are_no_error(store: Path, tmp_path: Path) -> None:
    for number, closed in enumerate((">&-", "2>&-", ">&- 2>&-")):
        line = f'"$@" {closed}'
        args = command("convert", store, "--to", f"{number}.db")
        done = subprocess.run(
            ["sh", "-c", line, "sh", *args], env=environment(), cwd=tmp_path, timeout=120,
            check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(MlflowClient(f"sqlite:///{tmp_path}/{number}.db").search_runs(["7"])) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("default_signals")
def test_an_interruption_while_printing_says_that_the_target_is_complete(
    store: Path, tmp_path: Path
) -> None:
    """As when a pager is left with Ctrl-C: the pipe is full, and nobody reads it."""
    for number in range(2000):
        write_experiment(store, str(100 + number), f"{'long name ' * 20}{number}")
    read, write = os.pipe()
    child = subprocess.Popen(
        command("convert", store, "--to", "m.db", "--json"),
        stdout=write, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path, text=True,
    )  # fmt: skip
    os.close(write)
    deadline = time.monotonic() + 60
    while not (tmp_path / "m.db.report.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)  # in which it fills the pipe
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    os.close(read)
    assert child.returncode == 0, said
    assert "Interrupted. The database" in said and "is complete" in said
