"""What is written: as private as what it is made from, from the start, and never through a link."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator import signals as interrupts
from migrator.atomic_files import common_mode, create_partial, write_atomically
from migrator.cli import main
from migrator.loader.sqlite import staging
from tests.support.storekit import write_experiment, write_run

RUN = "1" * 32
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one", artifact_location=(root / "1").as_uri())
    bad = b"1700000000000 1 0\noops\n"
    write_run(root, "1", RUN, params={"a": "1"}, metrics={"m": bad}, artifacts={"private": "x"},
              artifact_uri=(root / "1" / RUN / "artifacts").as_uri())  # fmt: skip
    return root


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o777


def convert(store: Path, *options: object) -> Result:
    args = ["convert", store, "--to", f"sqlite:///{store.parent}/m.db", "--schema", "3.9", *options]
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 3, result.output  # the damaged line
    return result


def test_beside_a_private_database_all_is_private_while_it_is_written(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(store, "-q")
    target = store.parent / "m.db"
    target.chmod(0o600)
    write_run(store, "1", "2" * 32)
    made: dict[str, int] = {}
    opened = os.open

    def watch(path: str, flags: int, *args: int, **named: int) -> int:
        handle = opened(path, flags, *args, **named)
        if flags & os.O_CREAT:
            made[Path(path).name] = os.fstat(handle).st_mode & 0o777
        return handle

    monkeypatch.setattr(os, "open", watch)
    convert(store, "-q")
    # the staging file, the backup's, the second report and its rejects
    assert len(made) == 4 and set(made.values()) == {0o600}, made
    written = {path.name: mode(path) for path in store.parent.iterdir() if path.is_file()}
    assert written.pop("m.db.report.json") == 0o644
    rejects = written.pop("m.db.report.rejects.jsonl")
    assert rejects == 0o644
    assert len(written) == 4 and set(written.values()) == {0o600}, written


def test_the_second_report_is_as_private_as_the_first(store: Path) -> None:
    convert(store, "-q")
    (store.parent / "m.db.report.json").chmod(0o600)
    convert(store, "-q")
    assert mode(store.parent / "m.db.report-2.json") == 0o600
    assert mode(store.parent / "m.db.report-2.rejects.jsonl") == 0o600


@pytest.mark.parametrize("ending", ["json", "html", "txt"])
def test_a_report_that_replaces_one_keeps_its_permissions(store: Path, ending: str) -> None:
    report = store.parent / f"r.{ending}"
    report.write_text("old")
    report.chmod(0o600)
    convert(store, "--report", report)
    assert mode(report) == 0o600 and report.read_text() != "old"


def test_a_copy_is_as_private_as_the_artifact(store: Path) -> None:
    (store / "1" / RUN / "artifacts" / "private").chmod(0o600)
    convert(store, "--artifacts", f"copy:{store.parent}/c")
    (copied,) = (path for path in (store.parent / "c").rglob("private"))
    assert mode(copied) == 0o600


def test_an_empty_private_target_stays_private(store: Path) -> None:
    target = store.parent / "m.db"
    target.touch(mode=0o600)
    convert(store, "-q")
    assert mode(target) == 0o600 and target.stat().st_size > 0


@pytest.mark.parametrize("name", ["m.db.report.json", "r.html", "r.txt"])
def test_nothing_is_written_through_a_planted_link(store: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    (tmp_path / name).symlink_to(victim)
    (tmp_path / f"{Path(name).stem}.rejects.jsonl").symlink_to(victim)
    report = () if name == "m.db.report.json" else ("--report", tmp_path / name)
    convert(store, *report)
    assert not victim.exists()
    result = CliRunner().invoke(main, ["scan", str(store), "--html", str(tmp_path / "r.html")])
    assert result.exit_code == 3
    assert not victim.exists()


def test_an_export_and_a_profile_follow_no_link(store: Path, tmp_path: Path) -> None:
    victim, partial = tmp_path / "victim", f".e.json.partial-{os.getpid()}"
    for planted in (partial, f"{partial}-0", "e.json", "p.toml"):
        (tmp_path / planted).symlink_to(victim)
    export = ["export", str(store), "--otlp", str(tmp_path / "e.json")]
    assert CliRunner().invoke(main, export).exit_code == 3
    assert (tmp_path / "e.json").is_file() and not (tmp_path / "e.json").is_symlink()
    new = ["profiles", "new", "mine", "--to", str(tmp_path / "p.toml")]
    assert CliRunner().invoke(main, new).exit_code == 2
    assert not victim.exists()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, None)  # type: ignore[arg-type]
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    handle, partial = create_partial(path)
    os.close(handle)
    assert partial.parent == tmp_path and partial.name.startswith(".r.txt.")


def test_the_common_mode_of_no_file_is_left_to_the_umask(tmp_path: Path) -> None:
    assert common_mode([tmp_path, tmp_path / "none"]) == 0o666
    for name, bits in (("a", 0o640), ("b", 0o604)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(bits)
    assert common_mode([tmp_path / "a", tmp_path / "b"]) == 0o600


LINGER = """
import os, sys, time
from pathlib import Path
from migrator.cli import main
from migrator.pipeline import trees
work = trees.TreeWorker._work
def linger(*args):
    work(*args)
    Path(sys.argv[1]).touch()
    time.sleep(60)
trees.TreeWorker._work = linger
main(sys.argv[2:])
"""


@pytest.mark.parametrize("number", interrupts.ENDING_SIGNALS)
def test_a_signal_to_all_processes_ends_them_quietly(
    store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """As a terminal that is closed, or a batch system, sends it: to the workers too."""
    for n in range(300):
        write_run(store, "1", f"{n + 16:032x}")
    ready = tmp_path / "ready"
    signals = f"import signal; signal.signal({int(number)}, signal.SIG_DFL)\n"
    signals += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [
        sys.executable, "-c", signals + LINGER, str(ready), "convert", str(store), "--to",
        f"sqlite:///{tmp_path}/m.db", "--schema", "3.9", "--workers", "2",
    ]  # fmt: skip
    child = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not ready.exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    os.killpg(child.pid, number)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert said.strip() == "Interrupted. The target is untouched."
    assert {path.name for path in tmp_path.iterdir()} == {"mlruns", "ready"}


def test_a_signal_that_is_ignored_stays_ignored(store: Path, tmp_path: Path) -> None:
    """``nohup mlflow-migrate convert …``: closing the terminal must not end it."""
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from migrator.pipeline.closing import Walked\ncheck = Walked.check_handed\n"
        "def hang_up(self):\n    os.kill(os.getpid(), signal.SIGHUP)\n    check(self)\n"
        "Walked.check_handed = hang_up\nfrom migrator.cli import main\nmain(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "convert", str(store), "--schema", "3.9", "--to"]
    done = subprocess.run([*command, f"sqlite:///{tmp_path}/m.db"], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "m.db").exists()


def test_the_staging_file_is_made_with_the_targets_permissions(tmp_path: Path) -> None:
    target = tmp_path / "m.db"
    target.touch()
    target.chmod(0o640)
    file = staging.StagingFile(str(target))
    try:
        assert mode(Path(file.path)) == 0o640 & ~_umask()
    finally:
        file.remove()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
