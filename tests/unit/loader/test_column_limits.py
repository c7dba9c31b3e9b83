"""Rows that don't fit a server's columns, tried on a staging file: no server is needed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

from migrator.issues import Code, Issue, Kind
from migrator.loader import Writer, Written
from migrator.loader.networked.column_limits import ColumnLimits, apply_limits
from migrator.loader.schema import MLFLOW_39
from migrator.loader.sqlite.target import SqliteTarget
from tests.support.loaderkit import experiment, hex_id, run, trace


class LimitedTarget(SqliteTarget):
    """A SQLite file with the limits of PostgreSQL."""

    def apply_limits(self, db: sqlite3.Connection) -> tuple[Counter[str], list[Issue]]:
        return apply_limits(db, ColumnLimits(takes_nul=False))


def load(tmp_path: Path, *, native: bool) -> Written:
    path = str(tmp_path / "mlflow.db")
    plan = replace(trace("a", native=native, run_ids=()), tags={"good": "1", "b\0ad": "2"})
    with Writer(LimitedTarget(f"sqlite:///{path}", path, False, None, MLFLOW_39)) as writer:
        writer.add_experiment(experiment())
        writer.add_run(run(params={"p": "a\0b"}), 1)
        writer.add_trace(plan, 1)
        writer.finish()
        return writer.publish()


def test_a_refused_row_of_a_native_trace_is_counted_as_rejected(tmp_path: Path) -> None:
    result = load(tmp_path, native=True)
    assert result.converted[Kind.TRACE_TAG] == 1
    refused = [issue for issue in result.issues if issue.code is Code.LOAD_REFUSED]
    assert [(issue.kind, issue.count) for issue in refused] == [(Kind.TRACE_TAG, 1)]
    assert "key holds NUL characters" in refused[0].message


def test_a_refused_row_of_a_rebuilt_trace_is_not_counted(tmp_path: Path) -> None:
    result = load(tmp_path, native=False)
    assert result.converted[Kind.TRACE_TAG] == 0 and result.rebuilt[Kind.TRACE_TAG] == 1
    refused = [issue for issue in result.issues if issue.code is Code.LOAD_REFUSED]
    assert [issue.kind for issue in refused] == [None]


def test_text_that_is_not_part_of_a_key_is_repaired(tmp_path: Path) -> None:
    result = load(tmp_path, native=True)
    repaired = [issue for issue in result.issues if issue.code is Code.LOAD_TEXT_REPAIRED]
    assert [(issue.kind, issue.kept) for issue in repaired] == [
        (Kind.PARAM, "the text without them")
    ]
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        assert db.execute("SELECT value FROM params").fetchall() == [("ab",)]


def test_keys_that_a_collation_takes_for_one_keep_the_first(tmp_path: Path) -> None:
    path = str(tmp_path / "mlflow.db")

    class CaseInsensitive(SqliteTarget):
        def apply_limits(self, db: sqlite3.Connection) -> tuple[Counter[str], list[Issue]]:
            limits = ColumnLimits(True, is_same=lambda a, b: a.casefold() == b.casefold())
            return apply_limits(db, limits)

    with Writer(CaseInsensitive(f"sqlite:///{path}", path, False, None, MLFLOW_39)) as writer:
        writer.add_experiment(experiment())
        writer.add_run(run(params={"lr": "1", "LR": "2", "other": "3"}), 1)
        writer.finish()
        result = writer.publish()
    assert result.converted[Kind.PARAM] == 2
    refused = [issue for issue in result.issues if issue.code is Code.LOAD_REFUSED]
    assert [(issue.kind, issue.entity_id) for issue in refused] == [
        (Kind.PARAM, f"LR/{hex_id('run')}")
    ]
