"""How far a command is: one line on a terminal, lines now and then with -v, else nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.cli.progress import ProgressLine, progress_text
from migrator.report.formats import duration
from tests.support.storekit import write_experiment, write_run


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_has_stage_count_share_rate_and_time_left() -> None:
    assert progress_text("runs", 1200, 8000, 340.0) == (
        "Reading runs: 1,200 of 8,000 (15 %), 340/s, 20 s left"
    )
    assert progress_text("walking", 1200, 0, None) == "Finding runs: 1,200"
    assert progress_text("checking", 0, 0, None) == "Checking the new database …"
    assert progress_text("copying artifacts, bytes", 2048, 4096, 1024.0) == (
        "Copying artifacts: 2.0 KiB of 4.0 KiB (50 %), 1.0 KiB/s, 2 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "1 s"), (99, "99 s"), (200, "3 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_terminal_has_one_line_that_moves_from_the_first_runs_on() -> None:
    out, clock = io.StringIO(), Clock()
    line = ProgressLine(out, redraws=True, clock=clock)
    for done in range(100):
        line("runs", done, 1000)
        clock.now += 0.0625  # exact in binary
    line.clear()
    drawn = [text.rstrip() for text in out.getvalue().split("\r") if text.strip()]
    assert "\n" not in out.getvalue()
    assert drawn[:2] == ["Reading runs: 0 of 1,000 (0 %)", "Reading runs: 2 of 1,000 (0 %)"]
    assert drawn[30] == "Reading runs: 60 of 1,000 (6 %), 16/s, 59 s left"
    assert len(drawn) == 50
    assert out.getvalue().endswith("\r")


def test_without_a_terminal_a_line_is_printed_every_few_seconds() -> None:
    out, clock = io.StringIO(), Clock()
    line = ProgressLine(out, redraws=False, clock=clock)
    for done in range(130):
        line("runs", done, 1000)
        clock.now += 0.125
    line.clear()
    assert out.getvalue().splitlines() == [
        "Reading runs: 40 of 1,000 (4 %), 8/s, 2 min left",
        "Reading runs: 80 of 1,000 (8 %), 8/s, 2 min left",
        "Reading runs: 120 of 1,000 (12 %), 8/s, 2 min left",
    ]


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
    assert scanned.stderr == "Convert would reject 1; scan without -q lists why.\n"
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
