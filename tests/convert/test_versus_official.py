"""Our database against that of MLflow's own ``mlflow migrate-filestore`` (3.10 and later).

Each fixture is migrated by both. Every row of theirs must be in ours with the same value in every
column, but for the differences in ``KNOWN``: each names its table and columns, says why the two
differ, and holds only where the source's files (or the spans, which ``test_roundtrip`` holds
against the files) say that ours is right. Anything else fails. And what we hold beyond theirs must
be traces, spans and what belongs to them, or one of a few tags.

Ids that the official command draws at random (datasets, inputs) and trace ids that MLflow 3's
pages can't open are translated first (``translated``), which checks that they are such.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from migrator import conventions, pipeline
from tests.support import fixturekit
from tests.support.storekit import write_experiment, write_run

MLFLOW = tuple(int(part) for part in version("mlflow").split(".")[:2])
pytestmark = [
    pytest.mark.skipif(
        MLFLOW < (3, 10),
        reason=f"mlflow migrate-filestore came with MLflow 3.10; installed is {version('mlflow')}",
    ),
    pytest.mark.long,
]

Row = dict[str, Any]
Key = tuple[Any, ...]
Tables = dict[str, dict[Key, Row]]


# ------------------------------------------------------------------------ the two migrations


@dataclass(frozen=True)
class Official:
    """A run of the official command."""

    exit_code: int
    stderr: str


def migrate_officially(source: Path, database: Path) -> Official:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mlflow", "migrate-filestore", "--no-progress"),
            *("--source", str(source), "--target", f"sqlite:///{database}"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Official(done.returncode, done.stderr)


def migrate_ours(source: Path, database: Path) -> None:
    """Convert with recorded locations kept, as the official command keeps them."""
    pipeline.convert([str(source)], f"sqlite:///{database}", pipeline.Options(artifacts="keep"))


def remove_repeats(source: Path) -> int:
    """Remove lines that repeat an earlier line of their metric file; return how many.

    Only ever applied to the copy for the official command, which can't take such lines at all.
    They are no damage: MLflow 3.x writes every metric of a run again when a model is logged.
    """
    removed = 0
    for file in source.rglob("metrics/**/*"):
        if file.is_file():
            lines = file.read_bytes().splitlines(keepends=True)
            once = list(dict.fromkeys(lines))
            if len(once) < len(lines):
                removed += len(lines) - len(once)
                file.write_bytes(b"".join(once))
    return removed


@dataclass(frozen=True)
class Case:
    """A fixture, migrated by both."""

    name: str
    source: Path  # the mlruns that ours was made from
    repeats: int  # metric lines that repeat an earlier one
    raw: Official  # the official command on the store as it is
    clean: Official  # and without the repeats (the same where there are none)
    theirs: Tables
    ours: Tables

    def folder(self, pattern: str) -> Path:
        """Return the one directory of the store, active or in the trash."""
        found = [*self.source.glob(pattern), *self.source.glob(f".trash/{pattern}")]
        assert len(found) == 1, (pattern, found)
        return found[0]

    def trace_folder(self, trace_id: str) -> Path:
        """Return a native trace's directory; ``trace_id`` is ours."""
        metadata = self.ours["trace_request_metadata"]
        old = metadata.get((conventions.MIGRATOR_SOURCE_TRACE, trace_id))
        return self.folder(f"*/traces/{old['value'] if old else trace_id}")


def tables_of(database: Path) -> Tables:
    """Return every table by its primary key."""
    db = sqlite3.connect(database)
    db.row_factory = sqlite3.Row
    tables: Tables = {}
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        keys = key_columns(db, table)
        rows = [dict(row) for row in db.execute(f'SELECT * FROM "{table}"')]
        tables[table] = {tuple(row[key] for key in keys): row for row in rows}
        assert len(tables[table]) == len(rows), table
    KEYS.update({table: key_columns(db, table) for table in tables})
    db.close()
    return tables


KEYS: dict[str, tuple[str, ...]] = {}  # the primary key's columns, by table


def key_columns(db: sqlite3.Connection, table: str) -> tuple[str, ...]:
    columns = sorted((row[5], row[1]) for row in db.execute(f'PRAGMA table_info("{table}")'))
    return tuple(name for place, name in columns if place)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(f"official {name}"))
        for name in fixturekit.names()
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Migrate a fixture with both."""
    name: str = request.param
    directory = tmp_path_factory.mktemp(name)
    source = fixturekit.materialise(name, directory / "ours")
    copy = fixturekit.materialise(name, directory / "theirs")
    migrate_ours(source, directory / "ours.db")
    raw = clean = migrate_officially(copy, directory / "theirs.db")
    repeats = remove_repeats(copy)
    if repeats:
        (directory / "theirs.db").unlink()
        clean = migrate_officially(copy, directory / "theirs.db")
    ours, theirs = tables_of(directory / "ours.db"), tables_of(directory / "theirs.db")
    return Case(name, source, repeats, raw, clean, translated(theirs, ours), ours)


# -------------------------------------------------------------------------------- ids


RANDOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # str(uuid.uuid4())
DERIVED = re.compile(r"[0-9a-f]{32}")


def translated(theirs: Tables, ours: Tables) -> Tables:
    """Return their tables with our ids of datasets, inputs and traces.

    Each id is matched by what the row says besides (a dataset by experiment, name and digest, an
    input by its two ends), a trace by the old id that ours keeps. Rows that ours lacks keep their
    ids, and are found missing later.
    """
    ids: dict[str, str] = {}
    for key, row in theirs["datasets"].items():
        mine = ours["datasets"].get(key)
        if mine is not None:
            ids[row["dataset_uuid"]] = mine["dataset_uuid"]
    for row in theirs["inputs"].values():
        ends = tuple(ids.get(row[column], row[column]) for column in KEYS["inputs"])
        mine = ours["inputs"].get(ends)
        if mine is not None:
            ids[row["input_uuid"]] = mine["input_uuid"]
    for old, new in ids.items():
        assert RANDOM.fullmatch(old) and DERIVED.fullmatch(new), (old, new)
    for (key, trace_id), row in ours["trace_request_metadata"].items():
        if key == conventions.MIGRATOR_SOURCE_TRACE:
            assert trace_id == f"tr-{row['value']}" and DERIVED.fullmatch(row["value"])
            ids[row["value"]] = trace_id
    columns = {"dataset_uuid", "input_uuid", "request_id", "trace_id", *KEYS["inputs"]}
    tables: Tables = {}
    for table, rows in theirs.items():
        tables[table] = {}
        for row in rows.values():
            new_row = {k: ids.get(v, v) if k in columns else v for k, v in row.items()}
            tables[table][tuple(new_row[key] for key in KEYS[table])] = new_row
        assert len(tables[table]) == len(rows), table
    return tables


# -------------------------------------------------------------------------- differences


@dataclass(frozen=True)
class Difference:
    """A row of theirs that ours lacks (``column`` is None), or a value that ours has otherwise."""

    table: str
    column: str | None
    theirs: Row
    ours: Row | None

    def __str__(self) -> str:
        key = "/".join(str(self.theirs[column]) for column in KEYS[self.table])
        if self.ours is None or self.column is None:
            return f"{self.table} {key}: missing: {self.theirs}"
        mine, other = self.ours[self.column], self.theirs[self.column]
        return f"{self.table} {key}: {self.column}: theirs {other!r}, ours {mine!r}"


def differences(case: Case) -> Iterator[Difference]:
    for table, rows in case.theirs.items():
        for key, row in rows.items():
            mine = case.ours.get(table, {}).get(key)
            if mine is None:
                yield Difference(table, None, row, None)
                continue
            for column, value in row.items():
                if column not in mine or not same(value, mine[column]):
                    yield Difference(table, column, row, mine)


def same(theirs: Any, ours: Any) -> bool:
    """Compare strictly: 1 is not True, nor "1"; SQLite has no NaN (it reads back as None)."""
    return type(theirs) is type(ours) and bool(theirs == ours)


Holds = Callable[[Case, Any, Any, Difference], bool]


@dataclass(frozen=True)
class Known:
    """A difference that is understood.

    ``holds(case, theirs, ours, difference)`` says whether a difference is this one and whether
    ours is what the source says.
    """

    table: str
    columns: tuple[str | None, ...]  # None: the row is missing
    why: str
    holds: Holds
    seen_in: str  # a fixture in which it occurs, so that none is listed for nothing

    def takes(self, case: Case, difference: Difference) -> bool:
        if difference.table != self.table or difference.column not in self.columns:
            return False
        mine = None
        if difference.ours is not None and difference.column is not None:
            mine = difference.ours[difference.column]
        theirs = difference.theirs[difference.column] if difference.column else None
        return self.holds(case, theirs, mine, difference)


def meta(folder: Path, name: str = "meta.yaml") -> dict[str, Any]:
    content = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def source_bytes(folder: Path, key: str) -> str:
    """Return a value file as it is, line ends included."""
    return (folder / key).read_bytes().decode("utf-8")


def in_trash(case: Case, folder: Path) -> bool:
    return folder.is_relative_to(case.source / ".trash")


def experiment_without_time(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    recorded = meta(case.folder(str(d.theirs["experiment_id"])))
    return d.column not in recorded and ours is None and theirs > recorded_times_end(case)


def recorded_times_end(case: Case) -> int:
    """Return the latest time in the store: whatever is later was made up while migrating."""
    return max(int(row["end_time"] or row["start_time"]) for row in case.ours["runs"].values())


def deleted_experiment_resurrected(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    folder = case.folder(str(d.theirs["experiment_id"]))
    return in_trash(case, folder) and (theirs, ours) == ("active", "deleted")


def run_of_deleted_experiment(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    folder = case.folder(f"*/{d.theirs['run_uuid']}")
    return in_trash(case, folder) and (theirs, ours) == ("active", "deleted")


def name_only_in_tag(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    folder = case.folder(f"*/{d.theirs['run_uuid']}")
    recorded = meta(folder)
    return (
        theirs == ""
        and recorded.get("run_name", "") == recorded.get("name", "") == ""
        and bool(ours == source_bytes(folder, "tags/mlflow.runName"))
    )


def line_ends(kind: str) -> Holds:
    def holds(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
        recorded = source_bytes(
            case.folder(f"*/{d.theirs['run_uuid']}"), f"{kind}/{d.theirs['key']}"
        )
        changed = recorded.replace("\r\n", "\n").replace("\r", "\n")
        return bool("\r" in recorded and ours == recorded and theirs == changed)

    return holds


def model_metric_not_finite(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    folder = case.folder(f"*/models/{d.theirs['model_id']}")
    values = set()
    for line in source_bytes(folder, f"metrics/{d.theirs['metric_name']}").splitlines():
        time, value_text, step, run_id, *_ = line.split(" ")
        columns = ("metric_timestamp_ms", "metric_step", "run_id")
        if [time, step, run_id] == [str(d.theirs[column]) for column in columns]:
            values.add(value_text)
    (text,) = values
    value = float(text)
    if math.isnan(value):
        return theirs is None and ours == 0.0
    greatest = math.copysign(sys.float_info.max, value)
    return math.isinf(value) and theirs == value and bool(ours == greatest)


def assessment_of(case: Case, d: Difference) -> dict[str, Any]:
    folder = case.trace_folder(d.theirs["trace_id"])
    return meta(folder, f"assessments/{d.theirs['assessment_id']}.yaml")


def run_of_assessment(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    metadata = assessment_of(case, d).get("metadata") or {}
    return theirs is None and ours in metadata.values()


def assessment_in_1970(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    field = "create_time" if d.column == "created_timestamp" else "last_update_time"
    recorded = datetime.fromisoformat(assessment_of(case, d)[field].replace("Z", "+00:00"))
    return theirs == 0 and bool(ours == round(recorded.timestamp() * 1000))


def expectation_serialized(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    expectation = assessment_of(case, d).get("expectation") or {}
    recorded = json.loads(expectation["serialized_value"]["value"])
    return theirs == "null" and recorded is not None and bool(json.loads(ours) == recorded)


def spans_of(case: Case, trace_id: str) -> list[Row]:
    return [row for row in case.ours["spans"].values() if row["trace_id"] == trace_id]


def root_of(case: Case, trace_id: str) -> Row | None:
    return next((s for s in spans_of(case, trace_id) if s["parent_span_id"] is None), None)


def preview_from_span(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    trace_id = d.theirs["request_id"]
    side = "Inputs" if d.column == "request_preview" else "Outputs"
    recorded = meta(case.trace_folder(trace_id), "trace_info.yaml").get(d.column or "")
    root = root_of(case, trace_id)
    if root is None or recorded:
        return False
    text = json.loads(root["content"])["attributes"][f"mlflow.span{side}"]
    # What is shown is the value, or a text in it: its last message, or what is called the question.
    return theirs == (recorded or None) and bool(ours) and shown_in(ours, text)


def shown_in(preview: str, text: str) -> bool:
    start = preview.removesuffix("...")
    value = json.loads(text)
    if start in text or any(start in each for each in texts_in(value)):
        return True
    return bool(json.loads(start) == value)


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def old_id_for_client(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    return theirs is None and bool(d.theirs["request_id"] == f"tr-{ours}")


def open_trace_closed(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    unfinished = (conventions.MIGRATOR_UNFINISHED, d.theirs["request_id"])
    root = root_of(case, d.theirs["request_id"])
    closed = "STATE_UNSPECIFIED" if root is None or root["status"] == "UNSET" else root["status"]
    return theirs == "IN_PROGRESS" and ours == closed and unfinished in case.ours["trace_tags"]


def usage_from_spans(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    key = f"{str(d.column).removesuffix('_tokens')}_tokens"
    total = 0
    for span in spans_of(case, d.theirs["request_id"]):
        usage = json.loads(span["content"])["attributes"].get("mlflow.chat.tokenUsage")
        total += json.loads(usage)[key] if usage else 0
    return theirs is None and bool(ours == total)


def schema_version(case: Case, theirs: Any, ours: Any, d: Difference) -> bool:
    return d.theirs["key"] == conventions.SCHEMA_VERSION and (theirs, ours) == ("2", "3")


KNOWN = (
    Known(
        "experiments",
        ("creation_time", "last_update_time"),
        "MLflow before 1.30 records no times of an experiment; theirs are those of the migration.",
        experiment_without_time,
        "1.26.1-classic",
    ),
    Known(
        "experiments",
        ("lifecycle_stage",),
        "Up to 2.2 a deleted experiment's meta.yaml still says active; theirs comes back to life.",
        deleted_experiment_resurrected,
        "1.30.1-classic",
    ),
    Known(
        "runs",
        ("lifecycle_stage",),
        "Its runs come back with it.",
        run_of_deleted_experiment,
        "1.30.1-classic",
    ),
    Known(
        "runs",
        ("name",),
        "MLflow before 1.30 has a run's name only in its tag; theirs is empty.",
        name_only_in_tag,
        "1.26.1-classic",
    ),
    Known(
        "params",
        ("value",),
        "Theirs turns CR and CRLF into LF.",
        line_ends("params"),
        "2.9.2-agents",
    ),
    Known(
        "tags", ("value",), "Theirs turns CR and CRLF into LF.", line_ends("tags"), "2.9.2-moved"
    ),
    Known(
        "logged_model_metrics",
        ("metric_value",),
        "Theirs has infinities and NULL for NaN; MLflow's own SQL store writes the greatest double "
        "and 0 (SqlAlchemyStore._log_model_metrics), and so do we, with an issue for NaN.",
        model_metric_not_finite,
        "3.1.4-models",
    ),
    Known(
        "assessments",
        ("run_id",),
        "Theirs loses the run that an assessment belongs to.",
        run_of_assessment,
        "3.9.0-evaluate",
    ),
    Known(
        "assessments",
        ("created_timestamp", "last_updated_timestamp"),
        "Theirs looks for create_time_ms; the files have create_time. All are of 1970.",
        assessment_in_1970,
        "3.5.1-genai",
    ),
    Known(
        "assessments",
        ("value",),
        "Theirs does not unwrap an expectation's serialized_value: the value is null, and MLflow "
        "then fails to search the experiment's traces.",
        expectation_serialized,
        "3.5.1-genai",
    ),
    Known(
        "trace_info",
        ("request_preview", "response_preview"),
        "Traces of 2.x have no previews; ours are made from the root span.",
        preview_from_span,
        "2.14.3-traces",
    ),
    Known(
        "trace_info",
        ("client_request_id",),
        "An old trace id that became a new one can be searched for as the client's request id.",
        old_id_for_client,
        "2.14.3-traces",
    ),
    Known(
        "trace_info",
        ("status",),
        "A trace that was never ended is closed: MLflow's page would poll it for ever.",
        open_trace_closed,
        "2.14.3-traces",
    ),
    Known(
        "trace_info",
        ("input_tokens", "output_tokens", "total_tokens"),
        "2.x recorded tokens only in the spans, which theirs does not read.",
        usage_from_spans,
        "2.22.5-registry-traces",
    ),
    Known(
        "trace_request_metadata",
        ("value",),
        "The spans are in the database in the form of schema 3.",
        schema_version,
        "2.14.3-traces",
    ),
)


# ------------------------------------------------------------------------------- the tests


def test_the_official_command_stops_exactly_where_metric_lines_repeat(case: Case) -> None:
    assert (case.raw.exit_code != 0) == (case.repeats > 0)
    if case.repeats:
        assert "UNIQUE constraint failed: metrics.key" in case.raw.stderr
    assert case.clean.exit_code == 0, case.clean.stderr


def test_our_database_holds_every_row_of_theirs(case: Case) -> None:
    unknown, taken = [], set()
    for difference in differences(case):
        known = [known.why for known in KNOWN if known.takes(case, difference)]
        taken.update(known)
        if not known:
            unknown.append(str(difference))
    assert unknown == []
    assert {known.why for known in KNOWN if known.seen_in == case.name} <= taken
    assert case.theirs["runs"] and case.theirs["tags"]


# What we have beyond theirs: these tables hold only traces and what belongs to them, ...
OF_TRACES = {
    "trace_info": "request_id",
    "trace_tags": "request_id",
    "trace_request_metadata": "request_id",
    "trace_metrics": "request_id",
    "spans": "trace_id",
    "assessments": "trace_id",
    "entity_associations": "source_id",
}
# ... and these are all the tags and metadata that we add to something that theirs has too.
OUR_EXPERIMENT_TAGS = {conventions.EXPERIMENT_KIND, conventions.MIGRATOR_SOURCE_NAME}
OUR_TRACE_TAGS = {
    conventions.MIGRATOR_INFERENCES,  # of a root span that we made
    conventions.MIGRATOR_VERSION,
    conventions.MIGRATOR_UNFINISHED,
    conventions.SPANS_LOCATION,
}
OUR_TRACE_METADATA = {
    conventions.MIGRATOR_SOURCE_TRACE,
    conventions.SIZE_STATS,
    conventions.SIZE_BYTES,
}


def test_what_we_hold_beyond_theirs_is_traces_and_a_few_tags(case: Case) -> None:
    rebuilt = {
        trace_id
        for key, trace_id in case.ours["trace_tags"]
        if key == conventions.MIGRATOR_ROOT_RUN
    }
    native = {trace_id for (trace_id,) in case.theirs["trace_info"]}
    assert {trace_id for (trace_id,) in case.ours["trace_info"]} == rebuilt | native
    assert not rebuilt & native
    added: dict[str, set[str]] = {"trace_tags": set(), "trace_request_metadata": set()}
    for table, rows in case.ours.items():
        if table == "migrator_seen":  # our own: what was converted
            assert table not in case.theirs
            continue
        more = [row for key, row in rows.items() if key not in case.theirs[table]]
        if table == "experiment_tags":
            assert {row["key"] for row in more} <= OUR_EXPERIMENT_TAGS
            continue
        if table not in OF_TRACES:
            assert more == [], table
            continue
        for row in more:
            trace_id = row[OF_TRACES[table]]
            assert trace_id in rebuilt | native, (table, row)
            if row.get("key") == conventions.ARTIFACT_LOCATION:
                # Where a trace has neither spans nor this tag, MLflow's trace search raises.
                assert trace_id in rebuilt or not spans_of(case, trace_id)
            elif trace_id in native and table in added:
                added[table].add(row["key"])
            if table == "assessments":
                assert trace_id in rebuilt
    assert added["trace_tags"] <= OUR_TRACE_TAGS
    assert added["trace_request_metadata"] <= OUR_TRACE_METADATA


# ------------------------------------------------- stores that the official command can't take


def store_with(path: Path) -> Path:
    """Write a store of one experiment with two runs; tests add what they are about."""
    root = path / "mlruns"
    write_experiment(root, "1", "one")
    for run_id in ("a1" * 16, "b2" * 16):
        write_run(root, "1", run_id, params={"p": "1"}, metrics={"m": [(1_700_000_000_000, 1, 0)]})
    return root


def two_experiments_of_one_name(root: Path) -> None:
    write_experiment(root, "2", "one")


def a_run_directory_was_copied(root: Path) -> None:
    shutil.copytree(root / "1" / ("a1" * 16), root / "1" / "copy of a run")


def a_blank_metric_line(root: Path) -> None:
    with (root / "1" / ("a1" * 16) / "metrics" / "m").open("ab") as file:
        file.write(b"\n1700000000001 2 1\n")


def a_param_in_latin_1(root: Path) -> None:
    (root / "1" / ("a1" * 16) / "params" / "city").write_bytes("Zürich".encode("latin-1"))


@pytest.mark.parametrize(
    ("damage", "their_words"),
    [
        (two_experiments_of_one_name, "UNIQUE constraint failed: experiments."),
        (a_run_directory_was_copied, "UNIQUE constraint failed: runs.run_uuid"),
        (a_blank_metric_line, "Malformed metric line: ''"),
        (a_param_in_latin_1, "UnicodeDecodeError"),
    ],
)
def test_stores_that_stop_the_official_command_are_converted(
    damage: Callable[[Path], None], their_words: str, tmp_path: Path
) -> None:
    root = store_with(tmp_path)
    damage(root)
    official = migrate_officially(root, tmp_path / "theirs.db")
    assert official.exit_code == 1 and their_words in official.stderr
    assert tables_of(tmp_path / "theirs.db")["runs"] == {}
    migrate_ours(root, tmp_path / "ours.db")
    assert {("a1" * 16,), ("b2" * 16,)} <= set(tables_of(tmp_path / "ours.db")["runs"])


def test_what_the_official_command_drops_in_silence_is_carried(tmp_path: Path) -> None:
    root = store_with(tmp_path)
    write_experiment(root, "production", "by hand")
    write_run(root, "production", "0badc0de", params={"p": "1"})
    empty = write_run(root, "1", "c3" * 16, params={"q": "2"})
    (empty / "meta.yaml").write_bytes(b"")
    write_experiment(root, "2", "two")
    (root / "2" / "meta.yaml").write_bytes(b"")
    write_run(root, "2", "d4" * 16, params={"r": "3"})
    official = migrate_officially(root, tmp_path / "theirs.db")
    assert official.exit_code == 0
    assert "production" not in official.stderr and "c3c3" not in official.stderr
    theirs = tables_of(tmp_path / "theirs.db")
    assert ("0badc0de",) not in theirs["runs"] and ("c3" * 16,) not in theirs["runs"]
    migrate_ours(root, tmp_path / "ours.db")
    ours = tables_of(tmp_path / "ours.db")
    run_ids = {run_id for (run_id,) in ours["runs"]}
    assert run_ids == {"a1" * 16, "b2" * 16, "c3" * 16, "d4" * 16, "0badc0de"}
    assert set(ours["params"]) >= {("q", "c3" * 16), ("r", "d4" * 16), ("p", "0badc0de")}
    assert "by hand" in {row["name"] for row in ours["experiments"].values()}
