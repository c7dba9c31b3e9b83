"""Work that several processes share: the same result as that of one, and no hang when one dies."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrator import pipeline
from migrator.errors import OptionError, WorkerError
from migrator.issues import Kind
from migrator.pipeline import lots, trees
from migrator.transformer.run_view import RunView
from migrator.verification import DatabaseComparer, verify
from migrator.verification.database.recorder import Compared
from migrator.workers import ProcessExecutor, pool, results
from tests.support.fixturekit import materialise, store

STORES = ("2.22.5-agents", "2.22.5-server", "3.1.4-models")


@pytest.fixture
def small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fixtures' few runs be shared as tens of thousands are."""
    monkeypatch.setattr(lots, "FEW_RUNS", 0)
    monkeypatch.setattr("migrator.pipeline.sinks.Discard.lot_runs", 3)
    monkeypatch.setattr("migrator.loader.Writer.lot_runs", 3)


def data(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every table, in the order in which they were written."""
    with sqlite3.connect(path) as db:
        tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {t: db.execute(f"SELECT * FROM {t} ORDER BY rowid").fetchall() for t in tables}


def comparable(outcome: Any) -> dict[str, Any]:
    told = {**outcome.as_dict(), "seconds": 0}
    return {k: v for k, v in told.items() if k not in ("target", "report_path", "backup")}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_any_number_of_workers_writes_the_same_rows_and_tells_the_same(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(pool, "start_method", lambda: method)
    sources = [str(store(name)) for name in STORES]
    began = []
    stop = ProcessExecutor.stop

    def noted(self: ProcessExecutor) -> None:
        began.append(self.started)
        stop(self)

    monkeypatch.setattr(ProcessExecutor, "__exit__", lambda self, *_: noted(self))
    made = []
    for workers in (1, 2, 3) if method == "fork" else (1, 2):
        target = tmp_path / f"{workers}.db"
        options = pipeline.Options(workers=workers)
        told = pipeline.convert(sources, f"sqlite:///{target}", options, schema="3.9")
        made.append((data(target), comparable(told)))
    assert began == ([(method, 2), (method, 3)] if method == "fork" else [(method, 2)])
    assert sum(map(len, made[0][0].values())) > 500
    assert all(each == made[0] for each in made)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_very_large_tree_gives_the_same_rows_as_any_other(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    options = pipeline.Options(workers=workers, include=frozenset({"sweeps", "flat"}))
    others = ("2.12.2-langchain", "2.22.5-langchain", "2.22.5-sweeps", "2.9.2-tables", "3.9.0-dspy")
    sources = [str(store(name)) for name in (*STORES, *others)]

    def made(name: str) -> tuple[object, object]:
        target = tmp_path / name
        told = pipeline.convert(sources, f"sqlite:///{target}", options, schema="3.9")
        return data(target), comparable(told)

    ordinary = made("ordinary.db")
    monkeypatch.setattr(lots, "MANY_RUNS", 3)
    monkeypatch.setattr(trees, "MANY_RUNS", 1)
    monkeypatch.setattr(trees, "_PART_RUNS", 2)
    monkeypatch.setattr("migrator.transformer.traces.MANY_SPANS", 1)
    monkeypatch.setattr("migrator.loader.rows.SPANS_AT_ONCE", 2)
    forgotten = []
    forget = RunView.forget

    def noted(view: RunView) -> None:
        forgotten.append(view)
        forget(view)

    monkeypatch.setattr("migrator.packing._MOST_LIVE", 1)
    monkeypatch.setattr("migrator.transformer.choosing.MANY_FILLED", 1)
    monkeypatch.setattr("migrator.transformer.field_values.MANY_FILLED", 1)
    monkeypatch.setattr(RunView, "forget", noted)
    assert made("large.db") == ordinary
    assert len(forgotten) > 10


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_verify_tells_the_same_with_any_number_of_workers(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(pool, "start_method", lambda: method)
    monkeypatch.setattr(DatabaseComparer, "lot_runs", 3)
    shared = count_lots(monkeypatch)
    sources = [str(store(name)) for name in STORES]
    target = f"sqlite:///{tmp_path}/new.db"
    pipeline.convert(sources, target)
    one, two = (verify(sources, target, pipeline.Options(workers=n)) for n in (1, 2))
    assert one.same
    assert one == two
    assert one.compared[Kind.RUN] > 20 and one.compared[Kind.TRACE] > 5
    with sqlite3.connect(tmp_path / "new.db") as db:
        db.execute("UPDATE params SET value = 'other' WHERE key = 'model'")
        db.execute("DELETE FROM tags WHERE key = 'mlflow.source.name'")
        db.execute("UPDATE spans SET content = replace(content, 'CODE_OK', 'CODE_UNSET')")
        db.execute("DELETE FROM runs WHERE run_uuid = (SELECT min(run_uuid) FROM runs)")
    one, two = (verify(sources, target, pipeline.Options(workers=n)) for n in (1, 2))
    assert one.total > 20
    assert (one.total, one.compared) == (two.total, two.compared)
    assert sorted(map(str, one.differences)) == sorted(map(str, two.differences))
    assert len(shared) > 10


def count_lots(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the runs of each lot that another process has compared."""
    compared: list[int] = []
    original = DatabaseComparer.replay

    def noted(self: DatabaseComparer, recorded: Compared) -> None:
        compared.append(len(recorded.trace_ids))
        original(self, recorded)

    monkeypatch.setattr(DatabaseComparer, "replay", noted)
    return compared


def test_scan_tells_the_same_with_any_number_of_workers(small_lots: None) -> None:
    sources = [str(store(name)) for name in STORES]
    one, three = (comparable(pipeline.scan(sources, pipeline.Options(workers=n))) for n in (1, 3))
    assert one == three
    assert one["rebuilt"]


@dataclass(frozen=True)
class Piecework:
    """Squares; one of them fails in the way that it is told."""

    ill_at: int = -1
    how: str = ""

    def check(self) -> None: ...

    def do(self, number: int) -> int:
        if number == self.ill_at:
            if self.how == "raise":
                raise OptionError("It is ill.", todo="Give it rest.")
            if self.how == "sleep":
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


def squares(work: Piecework, workers: int, method: str | None = None) -> Iterator[int]:
    with ProcessExecutor(workers, method) as executor:
        yield from results(executor, work, range(20), 2 * workers)


@pytest.mark.parametrize("workers", [1, 2, 5, 40])
def test_results_come_in_order(workers: int) -> None:
    assert list(squares(Piecework(), workers)) == [n * n for n in range(20)]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_is_killed_is_an_error_that_says_so(method: str) -> None:
    taken = []
    began = time.monotonic()
    with pytest.raises(WorkerError, match=r"was killed \(SIGKILL\).*--workers 1"):
        for result in squares(Piecework(5, "die"), 2, method):
            taken.append(result)
    assert time.monotonic() - began < 30
    assert taken in [[n * n for n in range(end)] for end in range(6)]  # some were on their way
    assert not multiprocessing.active_children()


def test_a_call_whose_process_is_killed_is_an_error_that_says_so() -> None:
    with ProcessExecutor(1, "spawn") as executor:
        assert executor.call(pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            executor.call(divmod, 1, 0)
        with pytest.raises(WorkerError, match=r"was killed \(SIGKILL\)"):
            executor.call(signal.raise_signal, signal.SIGKILL)
    assert not multiprocessing.active_children()


def test_what_a_worker_raises_is_raised_where_its_result_is_due() -> None:
    with pytest.raises(OptionError, match=r"It is ill\. Give it rest\.") as raised:
        list(squares(Piecework(5, "raise"), 2))
    assert raised.value.todo == "Give it rest."


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_interruption_does_not_wait_for_the_workers(
    method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    shares = squares(Piecework(1, "sleep"), 2, method)
    assert next(shares) == 0
    began = time.monotonic()
    shares.close()  # type: ignore[attr-defined]  # a generator
    assert time.monotonic() - began < 10  # 0.1 s where nothing else runs
    assert not multiprocessing.active_children()
    assert capfd.readouterr() == ("", "")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # one that nobody waits for stays as a zombie


def wait_until(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.02)


def hold(folder: str) -> None:
    """Say which process this is, and work for as long as a test takes."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


LINGER = """
import sys, time
from tests.convert.test_workers import hold
from migrator.workers import ProcessExecutor
if __name__ == "__main__":
    with ProcessExecutor(2, sys.argv[1]) as executor:
        calls = [executor.submit(hold, sys.argv[2]) for _ in range(2)]
        calls[0].result()
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_no_worker_outlives_its_parent(tmp_path: Path, method: str, number: signal.Signals) -> None:
    script, folder = tmp_path / "linger.py", tmp_path / "pids"
    script.write_text(LINGER)
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, script, method, folder],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    workers = [int(path.name) for path in folder.iterdir()]
    assert all(map(alive, workers))
    parent.send_signal(number)
    parent.wait(60)
    wait_until(lambda: not any(map(alive, workers)), 10)


CONVERT = """
import sys, time
from migrator.cli import main
from migrator.loader import Writer
from migrator.pipeline import lots, trees
from tests.convert.test_workers import hold
lots.FEW_RUNS, Writer.lot_runs = 0, 3
trees.TreeWorker._work = lambda *_: hold(sys.argv.pop())
main(["convert", sys.argv[1], "--to", sys.argv[2], "--schema", "3.9", "--workers", "2"])
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_command_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder, target = tmp_path / "pids", tmp_path / "target"
    folder.mkdir()
    target.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-c", CONVERT, str(store(STORES[0])), f"sqlite:///{target}/m.db", folder],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    assert list(target.iterdir())
    os.killpg(command.pid, number)
    began = time.monotonic()
    _, said = command.communicate(timeout=60)
    assert time.monotonic() - began < 10  # 0.2 s where nothing else runs
    assert command.returncode == 130
    assert said == b"Interrupted. The target is untouched.\n"
    assert list(target.iterdir()) == []
    assert not any(alive(int(path.name)) for path in folder.iterdir())


def test_a_worker_that_dies_leaves_no_target(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "start_method", lambda: "fork")
    alive = os.getpid()
    plan = trees.TreeReader.plan

    def die(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() != alive:
            os.kill(os.getpid(), signal.SIGKILL)
        return plan(*args, **kwargs)

    monkeypatch.setattr(trees.TreeReader, "plan", die)
    source = str(store(STORES[0]))
    options = pipeline.Options(workers=2)
    with pytest.raises(WorkerError):
        pipeline.convert([source], f"sqlite:///{tmp_path}/new.db", options, schema="3.9")
    assert list(tmp_path.iterdir()) == []


def test_what_is_masked_and_left_out_is_counted_the_same_by_all_workers(small_lots: None) -> None:
    sources = [str(store(name)) for name in STORES]
    told = [
        comparable(
            pipeline.scan(sources, pipeline.Options(workers=n, redact=("gpt",), since="2020-01-01"))
        )
        for n in (1, 3)
    ]
    assert told[0] == told[1]
    assert told[0]["redacted"]


# --------------------------------------------------------------------- any other executor


def spawned(workers: int) -> concurrent.futures.ProcessPoolExecutor:
    return concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn")
    )


def asked_twice(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for each piece that is sent whether what all have in common went with it."""
    sent: list[bool] = []
    submit = pool._submit

    def noted(executor: Any, token: str, common: Any, piece: bytes) -> Any:
        sent.append(common is not None)
        return submit(executor, token, common, piece)

    monkeypatch.setattr(pool, "_submit", noted)
    return sent


@pytest.mark.parametrize("kind", [concurrent.futures.ThreadPoolExecutor, spawned])
def test_any_executor_writes_the_same_rows_and_tells_the_same(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    sources = [str(store(name)) for name in STORES]
    made = []
    sent = asked_twice(monkeypatch)
    with kind(3) as executor:
        for number, options in enumerate(
            (
                pipeline.Options(workers=1, group_by_time=True, redact=("gpt",)),
                pipeline.Options(workers=2, executor=executor, group_by_time=True, redact=("gpt",)),
            )
        ):
            target = tmp_path / f"{number}.db"
            told = pipeline.convert(sources, f"sqlite:///{target}", options, schema="3.9")
            made.append((data(target), comparable(told)))
    assert sum(map(len, made[0][0].values())) > 500
    assert made[0] == made[1]
    assert sent[:4] == [True] * 4 and sent.count(False) > 10


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_pieces_are_answered_in_order_and_a_bounded_number_is_under_way(at_once: int) -> None:
    taken: list[int] = []

    def pieces() -> Any:
        for number in range(50):
            assert number - len(taken) < at_once
            yield number

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        for answer in pool.results(executor, Piecework(), pieces(), at_once):
            taken.append(answer)
    assert taken == [n * n for n in range(50)]


def test_a_process_that_joins_late_asks_for_what_all_have_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = asked_twice(monkeypatch)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        answers = pool.results(executor, Piecework(), range(20), 2)
        taken = [next(answers) for _ in range(6)]
        monkeypatch.setattr(pool, "_last", ("", None))
        taken += answers
    assert taken == [n * n for n in range(20)]
    assert sent.count(True) in (3, 4)  # the first two, and what was under way


def test_an_executor_that_lost_a_process_is_an_error_that_says_so() -> None:
    with spawned(2) as executor, pytest.raises(WorkerError, match="BrokenProcessPool"):
        list(pool.results(executor, Piecework(ill_at=5, how="die"), range(20), 4))


def test_an_executor_that_was_shut_down_is_an_error_that_says_so() -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(WorkerError, match="RuntimeError: cannot schedule new futures"):
        list(pool.results(executor, Piecework(), range(20), 4))


def test_a_future_that_somebody_cancelled_is_an_error_that_says_so() -> None:
    class Cancels(concurrent.futures.Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.cancel()
            return future

    with pytest.raises(WorkerError, match="CancelledError"):
        list(pool.results(Cancels(), Piecework(), range(20), 4))


def test_what_the_work_raises_in_an_executor_is_raised_where_its_answer_is_due() -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        answers = pool.results(executor, Piecework(ill_at=5, how="raise"), range(20), 4)
        assert [next(answers) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(OptionError, match=r"It is ill\. Give it rest\."):
            next(answers)


def test_a_worker_that_does_not_see_the_source_is_an_error_that_says_so(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = materialise(STORES[0], tmp_path)
    hidden = tmp_path / "elsewhere"
    with spawned(1) as executor:
        options = pipeline.Options(executor=executor)
        assert pipeline.scan([str(source)], options).exit_code == 0
        first = next(each for each in sorted(source.iterdir()) if (each / "meta.yaml").exists())
        share = lots._work_shared

        def hide(*args: Any) -> None:  # after the walk, before any worker looks
            first.rename(hidden)
            share(*args)

        monkeypatch.setattr(lots, "_work_shared", hide)
        with pytest.raises(WorkerError, match=r"The worker on .* does not see the source") as error:
            pipeline.scan([str(source)], pipeline.Options(executor=executor, since="2000-01-01"))
    assert f"({first.name} is not there)" in str(error.value)


def test_a_worker_with_another_version_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_piece = pool.answer_piece

    def from_another(token: str, common: Any, piece: bytes) -> bytes:
        return answer_piece(token, common and ("0.0.1", common[1]), piece)

    monkeypatch.setattr(pool, "answer_piece", from_another)
    monkeypatch.setattr(pool, "_last", ("", None))
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(WorkerError) as error:
        list(pool.results(executor, Piecework(), range(2)))
    assert "this is 0.0.1" in str(error.value)
