"""Rows in the shape of a newer schema are those that MLflow's own migrations make of 3.9's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator import conventions, convert, empty_database
from migrator.loader import Writer, Written, schema
from migrator.loader.sqlite import newer_columns
from migrator.model import AssessmentRecord, TokenUsage
from tests.support import fixturekit
from tests.support import loaderkit as samples
from tests.support.loaderkit import T0, load, query, tables, trace

pytestmark = [
    pytest.mark.skipif(schema.chain()[-1] == schema.MLFLOW_39, reason="needs MLflow 3.10 or newer"),
    pytest.mark.xdist_group("unit_loader_newer_columns"),
]

DEEP = "[" * 900 + "]" * 900
ODD_NAMES = ("", "x" * 5000, "größer\r\n", "with \0 in it", "😀" * 4097)
ODD_OBJECTS = (
    "",
    "not JSON",
    "null",
    "[1]",
    '"text"',
    DEEP,
    '{"input_tokens": 5.0, "output_tokens": "7", "total_tokens": 12.5}',
    '{"input_tokens": true, "output_tokens": null, "total_tokens": [1]}',
    '{"input_tokens": NaN, "output_tokens": Infinity, "total_tokens": 1e30}',
    f'{{"input_tokens": {2**63 - 1}, "output_tokens": {2**63}, "total_tokens": {-(2**63)}}}',
    '{"cache_read_input_tokens": 3, "cache_creation_input_tokens": 4.0, "total_tokens": " 8 "}',
    '{"cache_creation_input_tokens_above_1hr": 9, "input_tokens": "1_000", "other": 1}',
    '{"input_cost": 0.1, "output_cost": "0.25", "total_cost": true}',
    '{"input_cost": NaN, "output_cost": 1e999, "total_cost": {"usd": 1}}',
    f'{{"input_cost": {"9" * 400}, "output_cost": -1, "total_cost": null}}',
)
ODD_VALUES = (
    *("3", "-0.5", "true", "false", "null", "NaN", "1e999", "9" * 400, "[1]", '{"a": 1}', DEEP),
    *('"yes"', '" No "', '"YES"', '"3"', '"maybe"', "yes", "", None),
)


def fill_odd(writer: Writer) -> None:
    """Traces with every odd name, session, usage, cost and value of an assessment."""
    samples.fill(writer)
    for number, name in enumerate(ODD_NAMES):
        tags = {conventions.TRACE_NAME: name, "team": "blue"}
        metadata = {conventions.TRACE_SESSION: name}
        add_trace(writer, f"name-{number}", tags=tags, metadata=metadata, native=True)
    for number, text in enumerate(ODD_OBJECTS):
        metadata = {conventions.TRACE_USAGE: text, conventions.TRACE_COST: text}
        add_trace(writer, f"usage-{number}", tags={}, metadata=metadata, usage=None)
        add_trace(
            writer, f"metric-{number}", metadata=metadata, usage=TokenUsage(1, None, 2**60 + 1)
        )
    plain = trace("values").assessments[0]
    assessments = [odd_assessment(plain, number) for number in range(len(ODD_VALUES))]
    add_trace(writer, "values", assessments=tuple(assessments))


def add_trace(writer: Writer, name: str, **changes: Any) -> None:
    writer.add_trace(trace(name, **{"run_ids": (), "assessments": (), **changes}), 1)


def odd_assessment(plain: AssessmentRecord, number: int) -> AssessmentRecord:
    return dataclasses.replace(plain, assessment_id=f"a-{number}", value=ODD_VALUES[number])


def fill_refused(writer: Writer) -> None:
    """Rows that the database refuses, repeats, and whose parents are missing."""
    samples.fill(writer)
    add_trace(writer, "late", timestamp_ms=2**70)
    add_trace(writer, "late-native", timestamp_ms=2**70, native=True)
    writer.add_trace(trace("elsewhere", native=True), 99)
    writer.add_trace(trace("native", native=True, run_ids=()), 1)
    writer.add_registered_model(samples.registered_model())
    writer.add_run(samples.run("late", start_ms=2**70), 1)
    writer.add_run(samples.run("elsewhere"), 99)


def both_ways(
    monkeypatch: pytest.MonkeyPatch, written: Callable[[Path], Any], tmp_path: Path
) -> tuple[Path, Any, Path, Any]:
    """Write in the newest shape, and through MLflow's migrations; return the paths and results."""
    direct, migrated = tmp_path / "direct.db", tmp_path / "migrated.db"
    monkeypatch.setattr(schema, "upgrade", None)
    of_direct = written(direct)
    monkeypatch.undo()
    monkeypatch.setattr(empty_database, "is_kept", lambda revision: False)
    of_migrated = written(migrated)
    monkeypatch.undo()
    assert query(direct, "SELECT * FROM alembic_version") == [(schema.chain()[-1],)]
    return direct, of_direct, migrated, of_migrated


@pytest.mark.parametrize("fill", [samples.fill, fill_odd, fill_refused])
def test_rows_are_those_that_mlflows_migrations_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable[[Writer], None]
) -> None:
    def written(path: Path) -> Written:
        return load(path, fill, "latest")

    direct, ours, migrated, mlflows = both_ways(monkeypatch, written, tmp_path)
    found = tables(direct)
    assert found == tables(migrated)
    assert (ours.converted, ours.rebuilt, ours.merged) == (
        mlflows.converted,
        mlflows.rebuilt,
        mlflows.merged,
    )
    told = issues_of(ours)
    assert told == issues_of(mlflows)
    assert len(found["trace_info"]) == (38 if fill is fill_odd else 2)
    assert bool(told) == (fill is fill_refused)


def issues_of(written: Written) -> list[tuple[str, str, str, int]]:
    issues = [(i.code.value, str(i.kind), i.entity_id, i.count) for i in written.issues]
    return sorted(issues)  # SQLite finds rows without parents in no fixed order


@pytest.mark.parametrize("name", ["2.4.2-datasets", "2.22.5-registry-traces"])
def test_a_store_gives_the_rows_that_mlflows_migrations_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = fixturekit.materialise(name, tmp_path)
    compare_conversions(source, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["3.5.1-database"])
def test_a_database_gives_the_rows_that_mlflows_migrations_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = fixturekit.database(name, tmp_path)
    compare_conversions(f"sqlite:///{path}", tmp_path, monkeypatch)


def compare_conversions(
    source: Path | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(path: Path) -> Any:
        result = convert(source, to=f"sqlite:///{path}").as_dict()
        return result["ledger"], result["issues"]

    direct, ours, migrated, mlflows = both_ways(monkeypatch, written, tmp_path)
    found = tables(direct)
    assert found == tables(migrated)
    assert found["runs"] or found["trace_info"]
    assert ours == mlflows


def test_many_traces_are_moved_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newer_columns, "_BATCH", 2)

    def fill(writer: Writer) -> None:
        samples.fill(writer)
        for number in range(7):
            add_trace(writer, f"trace-{number}", metadata={conventions.TRACE_USAGE: usage(number)})

    def usage(number: int) -> str:
        return json.dumps({"cache_read_input_tokens": number})

    path = tmp_path / "new.db"
    load(path, fill, "latest")
    if "trace_name" not in tables(path)["trace_info"][0]:
        pytest.skip("a schema that keeps them as rows")
    tokens = query(
        path, "SELECT cache_read_input_tokens FROM trace_info WHERE trace_name = ?", "workflow"
    )
    assert sorted(number for (number,) in tokens if number is not None) == list(range(7))
    assert len(tokens) == 9
    assert query(path, "SELECT count(*) FROM trace_metrics") == [(0,)]
    assert T0 in {row["timestamp_ms"] for row in tables(path)["trace_info"]}
