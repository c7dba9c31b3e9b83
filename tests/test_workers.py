"""Work that several processes share: the same result as that of one, and no hang when one dies."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sqlite3
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from migrator import executors, pipeline, processes
from migrator.errors import OptionError, WorkerError
from migrator.pipeline import migration, trees
from migrator.processes import Child, results
from tests.fixturekit import materialise, store

STORES = ("2.22.5-agents", "2.22.5-server", "3.1.4-models")


@pytest.fixture
def small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the fixtures' few runs be shared as tens of thousands are."""
    monkeypatch.setattr(migration, "FEW_RUNS", 0)
    monkeypatch.setattr(trees, "LOT_RUNS", 3)


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
    monkeypatch.setattr(processes, "start_method", lambda: method)
    sources = [str(store(name)) for name in STORES]
    began = []
    begin = Child.__init__

    def noted(self: Child, work: Any, numbers: range, how: str) -> None:
        began.append(how)
        begin(self, work, numbers, how)

    monkeypatch.setattr(Child, "__init__", noted)
    made = []
    for workers in (1, 2, 3) if method == "fork" else (1, 2):
        target = tmp_path / f"{workers}.db"
        options = pipeline.Options(workers=workers)
        told = pipeline.convert(sources, f"sqlite:///{target}", options, schema="3.9")
        made.append((data(target), comparable(told)))
    assert began == [method] * (5 if method == "fork" else 2)
    assert sum(map(len, made[0][0].values())) > 500
    assert all(each == made[0] for each in made)


def test_scan_tells_the_same_with_any_number_of_workers(small_lots: None) -> None:
    sources = [str(store(name)) for name in STORES]
    one, three = (comparable(pipeline.scan(sources, pipeline.Options(workers=n))) for n in (1, 3))
    assert one == three
    assert one["rebuilt"]


@dataclass(frozen=True)
class Square:
    """Work that fails in the way, and at the number, that it is told."""

    ill_at: int = -1
    how: str = ""

    def __call__(self, number: int) -> int:
        if number == self.ill_at:
            if self.how == "raise":
                raise OptionError("It is ill.", todo="Give it rest.")
            if self.how == "sleep":
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


@pytest.mark.parametrize("workers", [1, 2, 5, 40])
def test_results_come_in_order(workers: int) -> None:
    assert list(results(Square(), 23, workers)) == [n * n for n in range(23)]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_is_killed_is_an_error_that_says_so(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "start_method", lambda: method)
    taken = []
    with pytest.raises(WorkerError, match=r"SIGKILL.*--workers 1"):
        for result in results(Square(5, "die"), 20, 2):
            taken.append(result)
    assert taken in [[n * n for n in range(end)] for end in range(6)]  # some were on their way
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("mib", "ahead"), [(1, range(8, 11)), (20, range(1, 2))])
def test_a_worker_works_ahead_until_so_many_bytes_wait(
    tmp_path: Path, mib: int, ahead: range
) -> None:
    def work(number: int) -> bytes:
        (tmp_path / str(number)).touch()
        return bytes(mib << 20)

    child = Child(work, range(100), "fork")
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < ahead[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)  # in which it would go on if it did not wait for us
        assert len(list(tmp_path.iterdir())) in ahead
        assert len(child.receive()) == mib << 20
    finally:
        child.stop()


def test_what_a_worker_raises_is_raised_where_its_result_is_due() -> None:
    with pytest.raises(OptionError, match=r"It is ill\. Give it rest\.") as raised:
        list(results(Square(5, "raise"), 20, 2))
    assert raised.value.todo == "Give it rest."


def test_an_interruption_does_not_wait_for_the_workers() -> None:
    began = time.monotonic()
    shares = results(Square(1, "sleep"), 20, 2)
    assert next(shares) == 0
    shares.close()
    assert time.monotonic() - began < 60
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_leaves_no_target(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "start_method", lambda: "fork")
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
    submit = executors._submit

    def noted(executor: Any, token: str, common: Any, piece: bytes) -> Any:
        sent.append(common is not None)
        return submit(executor, token, common, piece)

    monkeypatch.setattr(executors, "_submit", noted)
    return sent


@pytest.mark.parametrize("pool", [concurrent.futures.ThreadPoolExecutor, spawned])
def test_any_executor_writes_the_same_rows_and_tells_the_same(
    tmp_path: Path, small_lots: None, monkeypatch: pytest.MonkeyPatch, pool: Any
) -> None:
    sources = [str(store(name)) for name in STORES]
    made = []
    sent = asked_twice(monkeypatch)
    with pool(3) as executor:
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


class Piecework:
    """Squares for any executor; they fail as ``Square`` does."""

    def __init__(self, **how: Any) -> None:
        self.square = Square(**how)

    def check(self) -> None: ...

    def do(self, number: int) -> int:
        return self.square(number)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_pieces_are_answered_in_order_and_a_bounded_number_is_under_way(at_once: int) -> None:
    taken: list[int] = []

    def pieces() -> Any:
        for number in range(50):
            assert number - len(taken) < at_once
            yield number

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        for answer in executors.results(executor, Piecework(), pieces(), at_once):
            taken.append(answer)
    assert taken == [n * n for n in range(50)]


def test_a_process_that_joins_late_asks_for_what_all_have_in_common(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = asked_twice(monkeypatch)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        answers = executors.results(executor, Piecework(), range(20), 2)
        taken = [next(answers) for _ in range(6)]
        monkeypatch.setattr(executors, "_last", ("", None))
        taken += answers
    assert taken == [n * n for n in range(20)]
    assert sent.count(True) in (3, 4)  # the first two, and what was under way


def test_an_executor_that_lost_a_process_is_an_error_that_says_so() -> None:
    with spawned(2) as executor, pytest.raises(WorkerError, match="BrokenProcessPool"):
        list(executors.results(executor, Piecework(ill_at=5, how="die"), range(20), 4))


def test_an_executor_that_was_shut_down_is_an_error_that_says_so() -> None:
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(WorkerError, match="RuntimeError: cannot schedule new futures"):
        list(executors.results(executor, Piecework(), range(20), 4))


def test_a_future_that_somebody_cancelled_is_an_error_that_says_so() -> None:
    class Cancels(concurrent.futures.Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.cancel()
            return future

    with pytest.raises(WorkerError, match="CancelledError"):
        list(executors.results(Cancels(), Piecework(), range(20), 4))


def test_what_the_work_raises_in_an_executor_is_raised_where_its_answer_is_due() -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        answers = executors.results(executor, Piecework(ill_at=5, how="raise"), range(20), 4)
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
        share = trees.work_shared

        def hide(*args: Any) -> None:  # after the walk, before any worker looks
            first.rename(hidden)
            share(*args)

        monkeypatch.setattr(migration, "work_shared", hide)
        with pytest.raises(WorkerError, match=r"The worker on .* does not see the source") as error:
            pipeline.scan([str(source)], replace(options, since="2000-01-01"))
    assert f"({first.name} is not there)" in str(error.value)


def test_a_worker_with_another_version_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer_piece = executors.answer_piece

    def from_another(token: str, common: Any, piece: bytes) -> bytes:
        return answer_piece(token, common and ("0.0.1", common[1]), piece)

    monkeypatch.setattr(executors, "answer_piece", from_another)
    monkeypatch.setattr(executors, "_last", ("", None))
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(WorkerError) as error:
        list(executors.results(executor, Piecework(), range(2)))
    assert "this is 0.0.1" in str(error.value)
