"""How far a command is: one line on a terminal, lines now and then with -v, else nothing."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.cli.progress import ProgressLine
from migrator.report.formats import duration
from tests.support.storekit import write_experiment, write_run

STEP = re.compile(r"Reading runs: +(\d+)%\|.*\| (\d+)/1000 \[\d\d:\d\d<.*/s\]")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "1 s"), (99, "99 s"), (200, "3 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_terminal_has_one_line_that_moves_from_the_first_runs_on() -> None:
    out = io.StringIO()
    line = ProgressLine(out, redraws=True)
    for done in range(0, 1001, 10):
        line("runs", done, 1000)
        time.sleep(0.005)  # half a second in all; a bar is drawn ten times in a second
    line.clear()
    assert "\n" not in out.getvalue() and out.getvalue().endswith("\r")
    drawn = [text for text in out.getvalue().split("\r") if text.strip()]
    assert drawn[0].startswith("Reading runs: 0")
    steps = [STEP.match(text) for text in drawn[1:]]
    shown = [int(step[2]) for step in steps if step is not None]
    assert len(shown) == len(drawn) - 1 >= 3, drawn
    assert shown == sorted(shown) and 0 < shown[0] < 1000


def test_without_a_terminal_each_drawing_is_a_line() -> None:
    out = io.StringIO()
    line = ProgressLine(out, redraws=False, pause_s=0.05)
    for done in range(0, 1001, 10):
        line("runs", done, 1000)
        time.sleep(0.003)
    line("copying artifacts, bytes", 0, 4096)
    time.sleep(0.06)
    line("copying artifacts, bytes", 2048, 4096)
    line.clear()
    lines = out.getvalue().splitlines()
    assert "\r" not in out.getvalue()
    assert len(lines) >= 3 and all(STEP.match(text) for text in lines[:-1]), lines
    assert re.match(r"Copying artifacts: +50%\|.*\| 2.00k/4.00k \[", lines[-1]), lines


def test_a_short_command_prints_no_line() -> None:
    out = io.StringIO()
    line = ProgressLine(out, redraws=False)
    line("walking", 5, 0)
    line("runs", 1, 2)
    line("runs", 2, 2)
    line.clear()
    assert out.getvalue() == ""


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A store of which one metric point is rejected."""
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "ads")
    write_run(root, "1", "a" * 32, metrics={"loss": b"no number\n1700000000000 0.5 0\n"})
    return root


def test_quiet_commands_say_one_line_at_exit_code_3(damaged: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    converted = run("convert", damaged, "--to", target, "-q")
    assert (converted.exit_code, converted.stdout) == (3, "")
    assert converted.stderr == f"1 item was rejected. Report: {tmp_path}/m.db.report.json\n"
    dry = run("convert", damaged, "--to", target, "-q", "--dry-run")
    assert dry.stderr == "1 item was rejected. Without -q the list is printed.\n"
    scanned = run("scan", damaged, "-q")
    assert (scanned.exit_code, scanned.stdout) == (3, "")
    assert scanned.stderr == "1 item would be rejected; scan without -q lists why.\n"
    sent = run("export", damaged, "--otlp", tmp_path / "t.jsonl", "-q")
    assert (sent.exit_code, sent.stdout) == (3, "")
    assert sent.stderr == "1 item was rejected. Without -q the list is printed.\n"


def test_quiet_verify_counts_the_differences(damaged: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    run("convert", damaged, "--to", target, "-q")
    write_run(damaged, "1", "b" * 32)
    found = run("verify", damaged, "--against", target, "-q")
    assert (found.exit_code, found.stdout) == (3, "")
    assert found.stderr.splitlines()[-1] == "1 difference; verify without -q lists what differs."
