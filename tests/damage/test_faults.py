"""Faults at the level of the command: kills, signals, races, databases in use, nightly runs.

Conversions are forked from the test's process, where everything is imported already, so that
hundreds of kills cost seconds. ``MIGRATOR_KILLS`` sets their number, ``MIGRATOR_SEED`` the points;
with more than are killed in CI, each kill is followed by a second conversion.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.tracing.client import TracingClient

from migrator import pipeline
from migrator import signals as interrupts
from migrator.cli import main
from migrator.issues import Code
from migrator.outcome.summary import Outcome
from migrator.pipeline import commands, conversion, known_names, lots
from migrator.pipeline.closing import Walked
from migrator.pipeline.trees import TreeWorker
from tests.support.damagekit import Spot, build, edit
from tests.support.loaderkit import copy_template, execute, names_beside, query, tables
from tests.support.storekit import START_MS, write_experiment, write_run

SCHEMA_39 = "3.9"  # made by copying, whatever MLflow is installed
KILLS = int(os.environ.get("MIGRATOR_KILLS", "24"))
SEED = int(os.environ.get("MIGRATOR_SEED", "5"))
CONVERTED_AGAIN = 4 if KILLS <= 24 else 1  # after which of the kills
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX processes and signals")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    build(Spot(root, 1))
    build(Spot(root, 2))
    return root


def convert(store: Path, target: Path, schema: str | None = None, **options: Any) -> Outcome:
    """Convert to the schema of the installed MLflow, whose client can open the result."""
    chosen = pipeline.Options(
        **{k: options.pop(k) for k in list(options) if k in pipeline.Options.__dataclass_fields__}
    )
    report = str(target.with_suffix(".json"))
    uri = f"sqlite:///{target}"
    return pipeline.convert([str(store)], uri, chosen, schema=schema, report=report, **options)


def forked(work: Callable[[], object]) -> int:
    """Run ``work`` in a child process and return its pid; its exit code is what it exits with."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def exit_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ------------------------------------------------------------------------------- kill -9


def kill_at_event(number: int) -> None:
    """Kill this process at the n-th thing that Python's audit hooks see: open, connect, link…"""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "sqlite3", "os.")) and event != "os.kill":
            seen += 1
            if seen >= number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def killed(store: Path, target: Path, rng: random.Random, events: int, seconds: float) -> bool:
    """Convert in a child and kill it at a random event or moment; tell whether that was in time."""
    if rng.random() < 0.75:
        at = rng.randrange(1, events + 1)

        def work() -> None:
            kill_at_event(at)
            convert(store, target, SCHEMA_39)

        pid = forked(work)
    else:
        pid = forked(lambda: convert(store, target, SCHEMA_39))
        time.sleep(rng.uniform(0, seconds / 2))
        os.kill(pid, signal.SIGKILL)
    return exit_of(pid) == -signal.SIGKILL


def measure(store: Path, target: Path) -> tuple[int, float]:
    """Return how many events and seconds a conversion in a child takes."""
    counter = target.with_name("events")

    def count() -> None:
        seen = 0

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            seen += event.startswith(("open", "sqlite3", "os."))

        sys.addaudithook(hook)
        convert(store, target, SCHEMA_39)
        counter.write_text(str(seen))

    began = time.monotonic()
    assert exit_of(forked(count)) == 0
    return int(counter.read_text()), time.monotonic() - began


@pytest.mark.long
def test_kill_9_anywhere_leaves_no_target_or_a_whole_one(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    target = folder / "m.db"
    events, seconds = measure(store, target)
    whole = tables(target)
    rng = random.Random(SEED)
    hits = 0
    for number in range(KILLS):
        for path in folder.iterdir():
            path.unlink()
        hits += killed(store, target, rng, events, seconds)
        if target.exists():
            assert tables(target) == whole, number
        if number % CONVERTED_AGAIN == 0:
            convert(store, target, SCHEMA_39)
            assert tables(target) == whole, number
            assert not [name for name in names_beside(target) if "migrating" in name]
    assert hits > KILLS // 2, "most kills come too late to matter"


@pytest.mark.long
def test_kill_9_amid_a_merge_leaves_the_target_as_it_was_or_with_all(
    store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "used"
    folder.mkdir()
    target, start = folder / "m.db", tmp_path / "start.db"
    half = tmp_path / "half" / "mlruns"
    shutil.copytree(store, half)
    shutil.rmtree(half / Spot(half, 2).exp)
    shutil.rmtree(half / "models" / Spot(half, 2).registered_name)
    convert(half, start, SCHEMA_39)
    execute(start, "UPDATE params SET value = 'mine' WHERE key = 'lr'")
    before = tables(start)
    shutil.copy(start, target)
    events, seconds = measure(store, target)
    after = tables(target)
    assert before != after
    rng = random.Random(SEED + 1)
    outcomes = []
    for number in range(KILLS):
        for path in folder.iterdir():
            path.unlink()
        shutil.copy(start, target)
        killed(store, target, rng, events, seconds)
        found = tables(target)
        assert found in (before, after), number
        outcomes.append(found == before)
        if number % CONVERTED_AGAIN == 0:
            convert(store, target, SCHEMA_39)
            assert tables(target) == after, number
            assert query(target, "PRAGMA integrity_check") == [("ok",)]
    assert any(outcomes)


@pytest.mark.long
def test_what_a_killed_conversion_leaves_is_swept_while_its_workers_still_live(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ready = tmp_path / "killed", tmp_path / "ready"
    folder.mkdir()

    def linger(worker: TreeWorker, tree: object, read: object) -> None:
        ready.touch()
        time.sleep(5)  # in a process of its own, which nobody waits for

    with monkeypatch.context() as patch:
        patch.setattr(lots, "FEW_RUNS", 0)
        patch.setattr(TreeWorker, "_work", linger)
        pid = forked(lambda: convert(store, folder / "m.db", SCHEMA_39, workers=2))
        while not ready.exists():
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        assert exit_of(pid) == -signal.SIGKILL
    left = [name for name in names_beside(folder / "m.db") if "migrating" in name]
    assert len(left) > 0
    convert(store, folder / "m.db", SCHEMA_39)
    assert names_beside(folder / "m.db") == ["m.db", "m.json"]


# ------------------------------------------------------------------------------- signals


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", interrupts.ENDING_SIGNALS)
def test_a_signal_ends_with_130_and_nothing_is_left(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    ready = tmp_path / "ready"
    finish = Walked.check_handed

    def wait(walked: Walked) -> None:
        finish(walked)
        ready.touch()
        time.sleep(30)

    monkeypatch.setattr(Walked, "check_handed", wait)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for ending in set(interrupts.ENDING_SIGNALS) - {signal.SIGINT}:
            signal.signal(ending, signal.SIG_DFL)  # nohup would have one ignored
        main(["convert", str(store), "--to", f"sqlite:///{tmp_path}/m.db", "--schema", "3.9"])

    pid = forked(work)
    while not ready.exists():
        time.sleep(0.01)
    assert any("migrating" in name for name in names_beside(tmp_path / "m.db"))
    os.kill(pid, number)
    assert exit_of(pid) == 130
    assert names_beside(tmp_path / "m.db") == ["mlruns", "ready"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    ready, sent = tmp_path / "ready", tmp_path / "sent"
    finish = Walked.check_handed

    def wait(walked: Walked) -> None:
        finish(walked)
        ready.touch()
        while not sent.exists():
            time.sleep(0.01)

    monkeypatch.setattr(Walked, "check_handed", wait)

    def work() -> None:
        signal.signal(number, signal.SIG_IGN)
        main(["convert", str(store), "--to", f"sqlite:///{tmp_path}/m.db", "--schema", "3.9"])

    pid = forked(work)
    while not ready.exists():
        time.sleep(0.01)
    os.kill(pid, number)
    sent.touch()
    assert exit_of(pid) == 0
    convert(store, tmp_path / "whole.db", SCHEMA_39)
    assert tables(tmp_path / "m.db") == tables(tmp_path / "whole.db")


# --------------------------------------------------------------------------------- races


@pytest.mark.long
def test_two_conversions_at_once_end_in_one_whole_target(store: Path, tmp_path: Path) -> None:
    convert(store, tmp_path / "whole.db", SCHEMA_39)
    target = tmp_path / "m.db"
    args = ["convert", str(store), "--to", f"sqlite:///{target}", "--schema", "3.9"]
    for _ in range(3):
        target.unlink(missing_ok=True)
        pids = [forked(lambda: main(args)) for _ in range(2)]
        codes = sorted(map(exit_of, pids))
        assert codes in ([0, 0], [0, 1]), codes
        assert tables(target) == tables(tmp_path / "whole.db")


def test_a_client_that_has_the_target_open_sees_what_was_added(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.db"
    copy_template(str(target))
    client = MlflowClient(f"sqlite:///{target}")  # a newer MLflow upgrades it here
    mine = client.create_experiment("mine")
    run = client.create_run(mine)
    client.log_metric(run.info.run_id, "m", 1.0)
    outcome = convert(store, target)
    assert outcome.exit_code == 0
    assert outcome.backup is not None and Path(outcome.backup).exists()
    assert client.get_run(run.info.run_id).data.metrics == {"m": 1.0}
    assert client.get_run(Spot(store, 1).id("train")).data.params["lr"] == "0.1"
    client.log_metric(run.info.run_id, "m", 2.0)


def test_a_target_that_another_process_writes_into_is_refused(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.db"
    copy_template(str(target))
    with closing(sqlite3.connect(target, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = CliRunner().invoke(
            main, ["convert", str(store), "--to", f"sqlite:///{target}", "--schema", "3.9"]
        )
        assert result.exit_code == 1
        assert "locked" in result.output and "Traceback" not in result.output


def test_no_backup_makes_none(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.db"
    copy_template(str(target))
    assert convert(store, target, SCHEMA_39, backup=False).backup is None
    assert not [name for name in names_beside(target) if "backup" in name]


# -------------------------------------------------------------- a source that is changing


def test_files_that_come_and_go_between_walk_and_reading_stop_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spot = Spot(store, 1)
    real = pipeline.open_stores

    def then_change(*args: Any) -> list[pipeline.Store]:
        stores = real(*args)
        (spot.train / "params" / "lr").unlink()
        (spot.train / "params" / "new").write_text("1")
        (spot.train / "params" / "newer").write_text("1")
        with (spot.train / "metrics" / "loss").open("a") as file:
            file.write(f"{START_MS + 50} 0.1 50\n")
        shutil.rmtree(spot.write)
        late = spot.train.parent / "tags" / "late"
        late.parent.mkdir(exist_ok=True)
        late.write_text("1")
        return stores

    monkeypatch.setattr(conversion, "open_stores", then_change)
    outcome = convert(store, tmp_path / "m.db")
    codes = {issue.code for issue in outcome.ledger.issues}
    assert Code.STORE_CHANGED in codes and Code.NOTHING_READABLE in codes
    assert outcome.ledger.gaps() == []
    client = MlflowClient(f"sqlite:///{tmp_path}/m.db")
    assert client.get_run(spot.id("train")).data.params["new"] == "1"
    assert client.get_run(spot.id("train")).data.metrics["loss"] == 0.1


@pytest.mark.parametrize(
    ("role", "name", "codes"),
    [
        ("train", "params/lr", {Code.FILE_VANISHED}),
        ("train", "tags/stage", {Code.FILE_VANISHED}),
        ("train", "metrics/loss", {Code.FILE_VANISHED}),
        ("train", "meta.yaml", {Code.META_MISSING, Code.RUN_REBUILT}),
        ("write", "artifacts/prompt.txt", {Code.ARTIFACT_UNREADABLE}),
        ("trace", "artifacts/traces.json", {Code.SPANS_DAMAGED}),
        ("trace", "tags/topic", {Code.FILE_VANISHED}),
        ("model", "params/depth", {Code.FILE_VANISHED}),
    ],
)
def test_a_file_that_vanishes_between_the_listing_and_its_opening_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch, role: str, name: str, codes: set[Code]
) -> None:
    path = getattr(Spot(store, 1), role) / name
    real_open = os.open

    def vanish(at: Any, *args: Any, **options: Any) -> int:
        if str(at) == str(path):
            path.unlink(missing_ok=True)
        return real_open(at, *args, **options)

    monkeypatch.setattr(os, "open", vanish)
    monkeypatch.setattr(known_names, "SAMPLED_TREES", 0)  # a sample would be opened first
    outcome = pipeline.scan([str(store)], pipeline.Options())
    monkeypatch.undo()
    assert not path.exists()
    assert outcome.ledger.gaps() == []
    assert {issue.code for issue in outcome.ledger.issues} == codes
    rejected = sum(outcome.ledger.rejected.values())
    assert rejected == (1 if codes == {Code.FILE_VANISHED} else 0)


def test_a_run_that_vanishes_between_the_walk_and_its_reading_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spot = Spot(store, 1)
    real = pipeline.open_stores

    def then_vanish(*args: Any) -> list[pipeline.Store]:
        stores = real(*args)
        shutil.rmtree(spot.train)
        shutil.rmtree(spot.trace)
        shutil.rmtree(spot.model)
        shutil.rmtree(spot.registered)
        return stores

    monkeypatch.setattr(commands, "open_stores", then_vanish)
    outcome = pipeline.scan([str(store)], pipeline.Options())
    assert outcome.ledger.gaps() == []
    issues = outcome.ledger.issues
    for path in (spot.train, spot.trace, spot.model):
        assert [i for i in issues if i.code is Code.NOTHING_READABLE and i.path == str(path)]
        assert [i for i in issues if i.code is Code.DIRECTORY_UNREADABLE and i.path == str(path)]
    assert [i for i in issues if i.path == str(spot.registered)]
    assert outcome.exit_code == 3


def test_a_file_that_we_lose_is_no_change_of_the_store(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrator.errors import LedgerError
    from migrator.outcome.ledger import Ledger

    real = Ledger.add_extracted

    def lose(ledger: Ledger, extracted: Any) -> None:
        real(ledger, extracted)
        if extracted.files_read > 5:
            ledger.files_read -= 1

    monkeypatch.setattr(Ledger, "add_extracted", lose)
    with pytest.raises(LedgerError, match="files: found"):
        pipeline.scan([str(store)], pipeline.Options())


def test_a_directory_of_a_run_that_nobody_looks_into_stops_the_conversion(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrator.errors import LedgerError
    from migrator.extractor.filestore import runs

    monkeypatch.setattr(runs, "_metrics", lambda log, folder: {})
    with pytest.raises(LedgerError, match=r"directories: \d+ not read"):
        convert(store, tmp_path / "m.db")
    assert not (tmp_path / "m.db").exists()


def test_a_source_that_loses_permission_midway_rejects_the_rest_by_name(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, real_scandir = os.open, os.scandir
    opened = 0

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        nonlocal opened
        if str(path).startswith(str(store)):
            opened += 1
            if opened > 60:
                raise PermissionError(13, "Permission denied", path)
        return real_open(path, *args, **options)

    def refuse_list(path: Any) -> Any:
        if opened > 60 and str(path).startswith(str(store)):
            raise PermissionError(13, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse_list)
    try:
        outcome = convert(store, tmp_path / "m.db")
    finally:
        monkeypatch.undo()
    assert opened > 60, "the permission was never lost"
    assert outcome.exit_code == 3
    assert outcome.ledger.gaps() == []


# --------------------------------------------------------------------- as a nightly job


def test_a_run_that_has_finished_since_is_brought_up_to_date_with_its_trace(
    tmp_path: Path,
) -> None:
    root = tmp_path / "mlruns"
    spot = Spot(root, 1)
    build(spot)
    target = tmp_path / "m.db"
    meta = spot.flow / "meta.yaml"
    finished = meta.read_text()
    edit(meta, "status: 3", "status: 1")
    edit(meta, f"end_time: {START_MS + 5000}", "end_time: null")
    (spot.flow / "artifacts" / "outputs.json").rename(tmp_path / "later.json")
    convert(root, target)
    client = MlflowClient(f"sqlite:///{target}")
    trace_id = f"tr-{spot.id('flow')}"
    assert client.get_run(spot.id("flow")).info.status == "RUNNING"
    assert "migrator.unfinished" in client.get_trace(trace_id).info.tags
    TracingClient(f"sqlite:///{target}").log_assessment(trace_id, _feedback())
    client.set_trace_tag(trace_id, "mine", "kept")
    again = convert(root, target)
    assert again.backup is None, "nothing has changed"

    meta.write_text(finished)
    (tmp_path / "later.json").rename(spot.flow / "artifacts" / "outputs.json")
    (spot.flow / "tags" / "mlflow.runName").write_text("renamed")
    outcome = convert(root, target, since="2023-01-01")
    assert {i.code for i in outcome.ledger.issues} == {Code.TARGET_UPDATED}
    run = client.get_run(spot.id("flow"))
    assert (run.info.status, run.info.end_time) == ("FINISHED", START_MS + 5000)
    assert run.data.tags["mlflow.runName"] == "renamed"
    trace = client.get_trace(trace_id)
    assert trace.data.response is not None and "Bees." in trace.data.response
    assert "migrator.unfinished" not in trace.info.tags
    assert trace.info.tags["mine"] == "kept"
    assert "liked" in {a.name for a in trace.info.assessments}
    undisturbed = tmp_path / "new.db"
    convert(root, undisturbed)
    for table in ("runs", "spans", "metrics", "trace_info", "trace_metrics"):
        assert tables(target).get(table) == tables(undisturbed).get(table), table
    assert convert(root, target).backup is None, "converting again changes nothing"


def _feedback() -> Any:
    from mlflow.entities import AssessmentSource, Feedback

    return Feedback(name="liked", value=True, source=AssessmentSource("HUMAN", "ana"))


def test_a_run_that_joined_a_tree_since_is_in_its_trace(store: Path, tmp_path: Path) -> None:
    spot = Spot(store, 1)
    target = tmp_path / "m.db"
    convert(store, target)
    write_run(
        store,
        spot.exp,
        spot.id("late"),
        name="late",
        parent=spot.id("flow"),
        start_ms=START_MS + 5000,
        end_ms=START_MS + 9000,
        params={"model": "gpt-4o"},
        artifacts={"prompt.txt": "And wasps?", "response.txt": "Wasps."},
    )
    convert(store, target)
    spans = {s.name for s in MlflowClient(f"sqlite:///{target}").get_trace(
        f"tr-{spot.id('flow')}").data.spans}  # fmt: skip
    assert spans == {"flow", "write", "late"}
    convert(store, tmp_path / "new.db")
    assert tables(target)["spans"] == tables(tmp_path / "new.db")["spans"]


def test_since_takes_what_is_younger_and_what_has_not_ended(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    day = 86_400_000
    times = {
        "1" * 32: (START_MS - 9 * day, START_MS - 8 * day, 3),  # old
        "2" * 32: (START_MS - 9 * day, START_MS + day, 3),  # ended since
        "3" * 32: (START_MS - 9 * day, None, 1),  # still running
        "4" * 32: (START_MS + day, START_MS + 2 * day, 3),  # young
        "5" * 32: (START_MS - 9 * day, START_MS - 8 * day, 3),  # old, but of a young tree
    }
    for run_id, (start, end, status) in times.items():
        parent = "4" * 32 if run_id[0] == "5" else None
        write_run(root, "1", run_id, start_ms=start, end_ms=end, status=status, parent=parent)
    outcome = convert(root, tmp_path / "m.db", since="2023-11-14T00:00:00Z")
    assert outcome.ledger.gaps() == []
    assert outcome.ledger.files_left_out > 0
    found = {row[0][0] for row in query(tmp_path / "m.db", "SELECT run_uuid FROM runs")}
    assert found == {"2", "3", "4", "5"}
    convert(root, tmp_path / "m.db")
    assert len(query(tmp_path / "m.db", "SELECT run_uuid FROM runs")) == 5


# ------------------------------------------------------------ databases that are in use


def other_database(path: Path) -> MlflowClient:
    """A database with an experiment and a run of its own, made by MLflow."""
    copy_template(str(path))
    client = MlflowClient(f"sqlite:///{path}")
    client.create_run(client.create_experiment("spot-001"))
    return client


@pytest.mark.parametrize("choice", ["fail", "merge", "rename"])
def test_an_experiment_of_one_name_follows_on_conflict(
    store: Path, tmp_path: Path, choice: str
) -> None:
    target = tmp_path / "m.db"
    client = other_database(target)
    before = target.read_bytes()
    args = ["convert", str(store), "--to", f"sqlite:///{target}"]
    result = CliRunner().invoke(main, [*args, "--on-conflict", choice])
    if choice == "fail":
        assert result.exit_code == 1
        assert "--on-conflict merge or rename" in result.output
        assert target.read_bytes() == before
        return
    assert result.exit_code == 0, result.output
    names = {e.name: e.experiment_id for e in client.search_experiments()}
    home = client.get_run(Spot(store, 1).id("train")).info.experiment_id
    if choice == "merge":
        assert home == names["spot-001"]
        assert len(client.search_runs([home])) == 4
    else:
        assert home == names["spot-001 (1001)"] == "1001"
        assert len(client.search_runs([names["spot-001"]])) == 1
    again = CliRunner().invoke(main, [*args, "--on-conflict", choice])
    assert again.exit_code == 0, again.output
    assert len(client.search_runs(list(names.values()))) == 7


def test_default_always_merges(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "5", "Default")
    write_run(root, "5", "1" * 32)
    target = tmp_path / "m.db"
    client = other_database(target)
    assert convert(root, target).exit_code == 0
    assert client.get_run("1" * 32).info.experiment_id == "0"


def test_of_two_copies_of_a_run_the_one_that_can_be_read_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    for exp in ("1", "2"):
        write_experiment(root, exp, exp)
        write_run(root, exp, "1" * 32, params={"lr": "1"})
    shutil.rmtree(root / "1" / ("1" * 32))
    (root / "1" / ("1" * 32)).mkdir()
    outcome = convert(root, tmp_path / "m.db")
    assert outcome.ledger.gaps() == []
    assert query(tmp_path / "m.db", "SELECT experiment_id, run_uuid FROM runs") == [(2, "1" * 32)]
    outcome = convert(root, tmp_path / "n.db", experiments=("2",))
    assert query(tmp_path / "n.db", "SELECT count(*) FROM params") == [(1,)]
