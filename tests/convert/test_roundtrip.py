"""Fixtures of every MLflow version, converted and read back: by the oracle, and by ``verify``.

Then one thing at a time is spoiled in a converted database, and both must name it.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator import pipeline
from migrator.verification import VerifyResult, verify
from tests.support import fixturekit
from tests.support.oracle import compare_stores

# The fixtures that are spoiled: together they have every kind of entity.
MODELS = "3.5.1-genai"
TRACES = "2.22.5-registry-traces"


@dataclass(frozen=True)
class Converted:
    """A fixture and the database it was converted to."""

    source: Path
    database: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    def verify(self) -> VerifyResult:
        return verify([str(self.source)], self.uri, pipeline.Options())

    def witness(self) -> list[str]:
        return compare_stores(self.source, self.uri)


_CONVERTED: dict[str, Converted] = {}


@pytest.fixture
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    """Return the fixture that the test names, converted once for all tests."""
    name = request.param
    if name not in _CONVERTED:
        directory = tmp_path_factory.mktemp(name)
        source = fixturekit.materialise(name, directory)
        database = directory / "mlflow.db"
        pipeline.convert([str(source)], f"sqlite:///{database}", pipeline.Options())
        _CONVERTED[name] = Converted(source, database)
    return _CONVERTED[name]


# How many things verify compares of each fixture, at least: less, and it overlooks something.
COMPARED = {
    "1.26.1-classic": 145,
    "1.30.1-classic": 147,
    "2.12.2-langchain": 193,
    "2.14.3-openai": 126,
    "2.14.3-traces": 112,
    "2.17.2-traces": 112,
    "2.22.5-agents": 1359,
    "2.22.5-emptied": 124,
    "2.22.5-langchain": 2214,
    "2.22.5-registry-traces": 138,
    "2.22.5-server": 54,
    "2.22.5-sweeps": 163,
    "2.4.2-datasets": 161,
    "2.4.2-predictions": 7,
    "2.9.2-agents": 1325,
    "2.9.2-moved": 124,
    "2.9.2-tables": 39,
    "3.1.4-models": 220,
    "3.5.1-genai": 245,
    "3.9.0-dspy": 122,
    "3.9.0-evaluate": 54,
    "3.9.0-inspect": 54,
}

EVERY = pytest.mark.parametrize("converted", fixturekit.names(), indirect=True)
SPOILED = pytest.mark.parametrize("converted", [TRACES], indirect=True)


@EVERY
def test_mlflow_reads_the_same_from_both_stores(converted: Converted) -> None:
    assert converted.witness() == []


@EVERY
def test_verify_finds_no_difference(converted: Converted) -> None:
    result = converted.verify()
    assert result.differences == ()
    assert sum(result.compared.values()) >= COMPARED[converted.source.parent.name]


def convert(uri: str, *sources: Path) -> list[str]:
    """Convert into a database that may be there; return what verify finds, as text."""
    names = [str(source) for source in sources]
    pipeline.convert(names, uri, pipeline.Options())
    return verify(names, uri, pipeline.Options()).as_text().splitlines()


def test_two_sources_at_once_are_verified(tmp_path: Path) -> None:
    sources = [fixturekit.materialise(name, tmp_path) for name in ("2.4.2-datasets", TRACES)]
    assert convert(f"sqlite:///{tmp_path}/x.db", *sources)[-1] == "No difference."


def test_a_second_store_in_the_same_database_is_verified(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/x.db"
    first, second = (
        fixturekit.materialise(n, tmp_path) for n in ("2.4.2-datasets", "2.22.5-server")
    )
    assert convert(uri, first)[-1] == "No difference."
    assert convert(uri, second)[-1] == "No difference."
    assert convert(uri, first)[-1] == "No difference."


# What is done to the rows of which fixture. The first query chooses the entity that must be named
# (":id" in the change), the last words what of it.
# One of the source: a rebuilt trace's totals are ours.
A_JUDGEMENT = (
    "SELECT assessment_id FROM assessments WHERE source_id IS NOT 'mlflow-migrate' ORDER BY 1"
)
A_TRACE = (
    "SELECT request_id FROM trace_info WHERE request_id NOT IN"
    " (SELECT request_id FROM trace_tags WHERE key = 'migrator.root_run_id')"
    " AND (SELECT count(*) FROM spans WHERE trace_id = request_id) > 2"
)
FAULTS: dict[str, tuple[str, str, str, str]] = {
    "a param is dropped": (
        MODELS,
        "SELECT run_uuid FROM params ORDER BY 1",
        "DELETE FROM params WHERE run_uuid = :id",
        "param",
    ),
    "a metric value changes": (
        MODELS,
        "SELECT run_uuid FROM metrics WHERE is_nan = 0 AND abs(value) < 1e100 ORDER BY 1",
        "UPDATE metrics SET value = value + 0.001 WHERE run_uuid = :id AND is_nan = 0",
        "metric",
    ),
    "one metric point of several is dropped": (
        MODELS,
        "SELECT run_uuid FROM metrics GROUP BY run_uuid, key HAVING count(*) > 2 ORDER BY 1",
        "DELETE FROM metrics WHERE rowid = (SELECT min(rowid) FROM metrics WHERE run_uuid = :id)",
        "metric",
    ),
    "a latest metric changes": (
        MODELS,
        "SELECT run_uuid FROM latest_metrics ORDER BY 1",
        "UPDATE latest_metrics SET value = value + 0.001, is_nan = 0 WHERE run_uuid = :id",
        "latest",
    ),
    "a tag grows by a space": (
        MODELS,
        "SELECT run_uuid FROM tags WHERE key = 'mlflow.runName' ORDER BY 1",
        "UPDATE tags SET value = value || ' ' WHERE run_uuid = :id AND key = 'mlflow.runName'",
        "tag",
    ),
    "a whole run is dropped": (
        MODELS,
        "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'deleted' ORDER BY 1",
        "DELETE FROM runs WHERE run_uuid = :id",
        "run",
    ),
    "a run's end moves by 1 ms": (
        MODELS,
        "SELECT run_uuid FROM runs WHERE end_time IS NOT NULL ORDER BY 1",
        "UPDATE runs SET end_time = end_time + 1 WHERE run_uuid = :id",
        "end_time",
    ),
    "a deleted experiment comes back": (
        TRACES,
        "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted'",
        "UPDATE experiments SET lifecycle_stage = 'active' WHERE experiment_id = :id",
        "lifecycle",
    ),
    "a dataset's source changes": (
        MODELS,
        "SELECT destination_id FROM inputs WHERE source_type = 'DATASET' ORDER BY 1",
        "UPDATE datasets SET dataset_source = '{}'",
        "",
    ),
    "an output is dropped": (
        MODELS,
        "SELECT source_id FROM inputs WHERE source_type = 'RUN_OUTPUT' ORDER BY 1",
        "DELETE FROM inputs WHERE source_type = 'RUN_OUTPUT' AND source_id = :id",
        "model outputs",
    ),
    "a logged model's metric changes": (
        MODELS,
        "SELECT model_id FROM logged_model_metrics ORDER BY 1",
        "UPDATE logged_model_metrics SET metric_value = 7.5 WHERE model_id = :id",
        "metric",
    ),
    "an alias moves": (
        MODELS,
        "SELECT name FROM registered_model_aliases ORDER BY 1",
        "UPDATE registered_model_aliases SET version = version + 1 WHERE name = :id",
        "alias",
    ),
    "a version's tag changes": (
        MODELS,
        "SELECT name FROM model_version_tags ORDER BY 1",
        "UPDATE model_version_tags SET value = value || '.' WHERE name = :id",
        "tag",
    ),
    "a trace tag is dropped": (
        TRACES,
        A_TRACE,
        "DELETE FROM trace_tags WHERE request_id = :id AND key = 'mlflow.source.name'",
        "tag",
    ),
    "trace metadata changes": (
        MODELS,
        "SELECT request_id FROM trace_request_metadata WHERE key = 'mlflow.user' ORDER BY 1",
        "UPDATE trace_request_metadata SET value = 'x' WHERE request_id = :id"
        " AND key = 'mlflow.user'",
        "metadata",
    ),
    "a trace starts 1 ms later": (
        TRACES,
        A_TRACE,
        "UPDATE trace_info SET timestamp_ms = timestamp_ms + 1 WHERE request_id = :id",
        "time",
    ),
    "an assessment is dropped": (
        MODELS,
        A_JUDGEMENT,
        "DELETE FROM assessments WHERE assessment_id = :id",
        "assessment",
    ),
    "an assessment's time changes": (
        MODELS,
        A_JUDGEMENT,
        "UPDATE assessments SET created_timestamp = 0 WHERE assessment_id = :id",
        "create_time",
    ),
    "a span is dropped": (
        TRACES,
        "SELECT span_id FROM spans WHERE parent_span_id IS NOT NULL"
        f" AND trace_id IN ({A_TRACE}) ORDER BY 1",
        "DELETE FROM spans WHERE span_id = :id",
        "span",
    ),
}


def spoil(converted: Converted, directory: Path) -> tuple[Converted, sqlite3.Connection]:
    database = directory / "spoiled.db"
    shutil.copy(converted.database, database)
    return Converted(converted.source, database), sqlite3.connect(database)


def report_of(converted: Converted) -> tuple[list[str], list[str]]:
    """What verify names, be it as what people may have changed, and what the oracle names."""
    found = converted.verify()
    lines = [
        f"{item.kind.value} {item.entity_id} {item.field}"
        for item in (*found.differences, *found.changed)
    ]
    return lines, converted.witness()


@pytest.mark.parametrize(
    "converted, fault",
    [pytest.param(fault[0], name, id=name) for name, fault in FAULTS.items()],
    indirect=["converted"],
)
def test_a_fault_is_named_by_the_oracle_and_by_verify(
    converted: Converted, tmp_path: Path, fault: str
) -> None:
    _, query, change, words = FAULTS[fault]
    spoiled, connection = spoil(converted, tmp_path)
    row = connection.execute(query).fetchone()
    assert row is not None, "the fixture has nothing to spoil"
    cursor = connection.execute(change, {"id": row[0]})
    assert cursor.rowcount > 0, "the fault changed nothing"
    connection.commit()
    connection.close()
    found, witnessed = report_of(spoiled)
    if words:  # a dataset is named by verify under its own id
        assert any(str(row[0]) in line and words in line for line in found), found
    assert found
    assert any(str(row[0]) in line and words in line for line in witnessed), witnessed


def native_spans(connection: sqlite3.Connection) -> list[tuple[str, str, str | None, str]]:
    return connection.execute(
        f"SELECT trace_id, span_id, parent_span_id, content FROM spans WHERE trace_id = ({A_TRACE}"
        " LIMIT 1) ORDER BY parent_span_id IS NOT NULL, start_time_unix_nano"
    ).fetchall()


@SPOILED
def test_a_span_that_starts_1_ns_later_is_named(converted: Converted, tmp_path: Path) -> None:
    spoiled, connection = spoil(converted, tmp_path)
    _, span_id, _, content = native_spans(connection)[1]
    text = re.sub(r'("start_time_unix_nano": "?)(\d+)', lambda m: f"{m[1]}{int(m[2]) + 1}", content)
    assert text != content
    connection.execute("UPDATE spans SET content = ? WHERE span_id = ?", [text, span_id])
    connection.commit()
    connection.close()
    found, witnessed = report_of(spoiled)
    assert len(found) == 1
    assert span_id in found[0] and "start_ns" in found[0]
    assert len(witnessed) == 1
    assert span_id in witnessed[0] and "start" in witnessed[0]


@SPOILED
def test_two_spans_whose_parents_are_swapped_are_named(
    converted: Converted, tmp_path: Path
) -> None:
    spoiled, connection = spoil(converted, tmp_path)
    spans = native_spans(connection)
    swapped = []
    for _, span_id, _, content in spans:
        data = json.loads(content)
        if data["parent_span_id"] is not None:
            data["parent_span_id"] = next(
                other["span_id"]
                for _, other_id, _, text in spans
                for other in [json.loads(text)]
                if other_id != span_id and other["span_id"] != data["parent_span_id"]
            )
            connection.execute(
                "UPDATE spans SET content = ? WHERE span_id = ?", [json.dumps(data), span_id]
            )
            swapped.append(span_id)
    assert len(swapped) > 1
    connection.commit()
    connection.close()
    found, witnessed = report_of(spoiled)
    for span_id in swapped:
        assert any(span_id in line and "parent" in line for line in found), found
        assert any(span_id in line and "parent" in line for line in witnessed), witnessed


@pytest.mark.parametrize("converted", [MODELS], indirect=True)
def test_a_token_count_that_charts_read_is_named_by_verify(
    converted: Converted, tmp_path: Path
) -> None:
    spoiled, connection = spoil(converted, tmp_path)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(trace_info)")}
    if "total_tokens" in columns:  # MLflow 3.17 and later
        query = "SELECT request_id FROM trace_info WHERE total_tokens IS NOT NULL"
        change = "UPDATE trace_info SET total_tokens = total_tokens + 1 WHERE request_id = :id"
    else:
        query = "SELECT request_id FROM trace_metrics WHERE key = 'total_tokens'"
        change = (
            "UPDATE trace_metrics SET value = value + 1"
            " WHERE request_id = :id AND key = 'total_tokens'"
        )
    (trace_id,) = connection.execute(query).fetchone()
    assert connection.execute(change, {"id": trace_id}).rowcount == 1
    connection.commit()
    connection.close()
    found = [(item.entity_id, item.field) for item in spoiled.verify().differences]
    assert (trace_id, "token metric total_tokens") in found
