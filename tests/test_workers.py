"""Work that several processes share: the same result as that of one, and no hang when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrator import pipeline, processes
from migrator.errors import OptionError, WorkerError
from migrator.pipeline import migration, trees
from migrator.processes import Child, results
from tests.fixturekit import store

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
