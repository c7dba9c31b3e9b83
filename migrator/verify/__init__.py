"""Read a converted database back through MLflow, and compare it with what was to be written.

``verify`` reads a source again as ``convert`` does, with ``Comparer`` in place of the loader's
writer: it is handed every item that was decided, and looks each up with MLflow's own stores
(``mlflow.store.tracking`` and ``mlflow.store.model_registry``, 3.9 and later). It shares no code
with the loader, so that a mistake there can't hide itself here. What the source does not have is
not a difference, because a database may be in use; but what stands unexpected *inside* an expected
run or trace is one.

A few facts no MLflow entity carries (deletion time and source of a run, the span columns that
searches and charts read, token rows, datasets that no run uses). These, and the metric histories,
are read with MLflow's own table classes in the store's own session.

What MLflow itself makes of a value, and is therefore not a difference:

- A metric value of NaN is served as NaN; infinities as ±1.7976931348623157e308, the float nearest
  to them; -0.0 as 0.0 (SQLite). Points that are equal after that are one point. A logged model's
  metric has no NaN mark: MLflow keeps 0.0.
- The latest value of a metric is the point with the greatest step, time and encoded value. Where a
  NaN ties with 0.0, either is right.
- The message of a span is served only when its status is ERROR.
- The type of a span that has none is guessed from OpenTelemetry attributes as it is loaded; the
  same MLflow function is applied to what is expected.
- A model or version without a time, an experiment without one: any time is right.
- MLflow 3.17 and later keep a trace's session (cut to its column), token usage and cost in columns
  and serve them again as JSON, maybe in another order and without keys that are not numbers.
- Values in assessments that MLflow can't send over REST are made harmless (``conventions``).
- Keys that begin with ``migrator.``, and ``mlflow.experimentKind``, may stand beside what is
  expected. Those that this tool gives an experiment may have another value: it never overwrites.
- An experiment that was there before the conversion keeps its own fields and tags (``Comparer``).
- Of two items with one id, from two sources, the first is expected; of two equal edges between a
  run and a dataset or model, the first.

At the end MLflow's default ``search_traces``, spans included, is run on every experiment: one trace
that MLflow can't load makes it raise for all of them, and one that it takes for unfinished is left
out without a word. Both are differences.

Not compared: inputs whose dataset the source does not have, and the model inputs of a run that
expects none (MLflow shows them run by run only).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote

from migrator import (
    DEFAULT_SOURCE,
    DEFAULT_TARGET,
    __version__,
    addresses,
    conventions,
    databases,
    extractor,
    pipeline,
)
from migrator.credentials import masked
from migrator.errors import OptionError, TargetError
from migrator.issues import Kind
from migrator.loader import rest as server
from migrator.model import (
    ArtifactCopy,
    AssessmentRecord,
    Counts,
    DatasetRecord,
    ExperimentPlan,
    Json,
    LoggedModelRecord,
    MetricPoint,
    ModelVersionRecord,
    RegisteredModelRecord,
    RunRecord,
    SpanPlan,
    SpanType,
    TracePlan,
)
from migrator.outcome.summary import Outcome
from migrator.report.text import table

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

MAX_DIFFERENCES = 1000
_SHOWN_DIFFERENCES = 20
MISSING = "(missing)"
NOTHING = "(nothing)"
REVISION_39 = "d3e4f5a6b7c8"  # Alembic head of MLflow 3.9.0

_EXPERIMENTS_PER_PAGE = 1000
_RUNS_PER_CHUNK = 1000
_POINTS_PER_CHUNK = 100_000
_RUNS_PER_QUERY = 200  # a longer IN list makes MLflow's filter parser slow
_TRACES_PER_CHUNK = 200
_TRACES_PER_PAGE = 500  # what MLflow allows
_SPANS_PER_CHUNK = 5000
_DATASETS_PER_CHUNK = 200
_MAX_FLOAT = 1.7976931348623157e308
_DELETED_VERSION = "Deleted_Internal"
_OURS = "migrator."
_SERVED_FROM_COLUMNS = {
    conventions.TRACE_SESSION,
    conventions.TRACE_USAGE,
    conventions.TRACE_COST,
}

# Timestamp in ms, step, encoded value, whether it is NaN: a row of MLflow's table of metrics.
_Point: TypeAlias = tuple[int, int, float, bool]
_T = TypeVar("_T")
_Method = TypeVar("_Method", bound=Callable[..., Any])

# What a message says of a target that breaks while it is read, what is wrong then, what to do.
_DAMAGED = ("is damaged", "Restore a backup, or convert into a new database, and verify again.")
_SILENT = ("doesn't answer any more", "See that it runs, and verify again.")
_BROKEN: tuple[tuple[str, tuple[str, str]], ...] = (
    ("malformed", _DAMAGED),
    ("not a database", _DAMAGED),
    ("utf-8", _DAMAGED),
    ("disk i/o error", ("can't be read from its disk", "See that the disk is sound.")),
    ("locked", ("is locked by another process", "Stop what is writing into it, and try again.")),
    (" 500", ("answers with an error", "See its log, and verify again.")),
    ("internal_error", ("answers with an error", "See its log, and verify again.")),
    ("connection", _SILENT),
    ("max retries", _SILENT),
    ("timed out", _SILENT),
)
_CAUSE = re.compile(r".*\(Caused by (.*)\)$")  # of an error of requests, after all that was asked


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not in the database as it was to be written.

    ``field`` says what of the entity (``status``, ``param lr``, ``metric loss, step 3``).
    ``expected`` and ``found`` are short texts, around the first character that differs.
    """

    kind: Kind
    entity_id: str
    field: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was compared, and what differs: ``differences`` are the first 1,000 of all."""

    differences: tuple[Difference, ...]
    total: int
    compared: Counts
    exceptions: Mapping[str, int] = field(default_factory=dict)  # what a server's API can't keep
    recounted: int = 0  # native traces whose size statistics count other spans than the source's

    @property
    def same(self) -> bool:
        return self.total == 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "differences": [
                {
                    "kind": difference.kind.value,
                    "id": difference.entity_id,
                    "field": difference.field,
                    "expected": difference.expected,
                    "found": difference.found,
                }
                for difference in self.differences
            ],
            "total": self.total,
            "compared": {kind.value: count for kind, count in self.compared.items()},
            "exceptions": dict(self.exceptions),
            "recounted": self.recounted,
        }

    def as_text(self, verbose: bool = False) -> str:
        """Return what was compared and what differs, for people; 20 of it unless ``verbose``."""
        rows = [[kind.value, f"{count:,}"] for kind, count in self.compared.items()]
        shown = self.differences if verbose else self.differences[:_SHOWN_DIFFERENCES]
        lines = [
            f"{item.kind.value} {item.entity_id}, {item.field}: the source has {item.expected}, "
            f"the database {item.found}"
            for item in shown
        ]
        if self.total > len(shown):
            lines.append(f"… and {self.total - len(shown):,} more.")
        word = "difference" if self.total == 1 else "differences"
        parts = [
            table(["", "compared"], rows) if rows else "There was nothing to compare.",
            "\n".join(lines),
            self._exceptions_text(),
            self._recounted_text(),
            "No difference." if self.same else f"{self.total:,} {word}.",
        ]
        return "\n\n".join(part for part in parts if part)

    def _exceptions_text(self) -> str:
        if not self.exceptions:
            return ""
        counts = ", ".join(f"{name} {n:,}" for name, n in self.exceptions.items())
        return (
            f"What the server's API can't keep, and is no difference (docs/reference/"
            f"server-limits.md): {counts}."
        )

    def _recounted_text(self) -> str:
        if not self.recounted:
            return ""
        traces = "1 trace" if self.recounted == 1 else f"{self.recounted:,} traces"
        return (
            f"{conventions.SIZE_STATS} of {traces} has another number of spans than in the source "
            f"(kept as {conventions.MIGRATOR_SOURCE_SIZE_STATS}), and is no difference "
            "(docs/reference/mapping.md)."
        )


def verify(
    sources: pipeline.Paths = DEFAULT_SOURCE,
    against: str = DEFAULT_TARGET,
    options: pipeline.Options | None = None,
    progress: pipeline.Progress = pipeline.no_progress,
) -> VerifyResult:
    """Read the sources again and compare what they should have become with a database.

    ``options`` are those of the conversion, the choice for artifacts too: another makes every
    location a difference. Copied artifacts are compared byte for byte. Raises SourceError,
    OptionError and TargetError.
    """
    options = options or pipeline.Options()
    if not options.shard.is_whole:
        raise OptionError(
            "verify compares the whole of the sources: a database of several shards has more than "
            "one of them says.",
            todo="Verify when all shards are converted, without a shard.",
        )
    if addresses.is_server(against):
        return _verify_server(sources, against, options, progress)
    copies = options.artifacts.mode == "copy"
    with pipeline.fetched(sources, options, progress, whole=copies) as places:
        stores = pipeline.open_stores(places, progress)
        comparer = Comparer(against, joined=options.on_conflict == "merge")
        walked = pipeline.walk_sources(
            stores,
            options,
            comparer,
            Outcome(__version__, tuple(store.name for store in stores), against),
            pipeline.TargetFacts(comparer.experiments(), comparer.largest_id, comparer.name_key),
            pipeline.Observer(progress=progress),
        )
        comparer.compare_copies(walked.locations.copies)
        return walked.redactor.value(comparer.finish())


def _verify_server(
    sources: pipeline.Paths, against: str, options: pipeline.Options, progress: pipeline.Progress
) -> VerifyResult:
    from migrator.verify.rest import ServedComparer  # it uses what stands here

    # Of the minutes that MLflow's client asks again a server that is gone, seconds are enough here.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    server.open_server(against, to_read=True)
    whole = options.artifacts.mode != "keep"  # then they were sent, and are compared
    with pipeline.fetched(sources, options, progress, whole=whole) as places:
        stores = pipeline.open_stores(places, progress)
        comparer = ServedComparer(against, files=whole)
        walked = pipeline.walk_sources(
            stores,
            options,
            comparer,
            Outcome(__version__, tuple(store.name for store in stores), against),
            pipeline.TargetFacts(comparer.experiments(), largest_id=None),
            pipeline.Observer(progress=progress),
        )
        return walked.redactor.value(comparer.finish())


def reading(method: _Method) -> _Method:
    """Let a method of a comparer raise TargetError where its target breaks while it is read.

    MLflow and its libraries raise their own errors for a target that is gone, and any of Python's
    for rows that are damaged.
    """

    @functools.wraps(method)
    def guarded(comparer: Any, *arguments: Any, **named: Any) -> Any:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(comparer, *arguments, **named)
        except (
            *(MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ValueError, TypeError),
            *(LookupError, AttributeError, ArithmeticError),
        ) as error:
            raise broken(comparer.shown, error) from None  # its text may hold values of rows

    return guarded  # type: ignore[return-value]  # the same signature


def broken(shown: str, error: BaseException) -> TargetError:
    """Return what is wrong with a target that can't be read any more, in one sentence."""
    from mlflow.exceptions import MlflowException

    cause = _database_error(error) or error
    said = conventions.cut(_CAUSE.sub(r"\1", databases.first_line(cause)), 200)
    if cause is error and not isinstance(error, (MlflowException, OSError)):
        said = f"{type(error).__name__}: {said}"
    why, todo = next(
        (found for word, found in _BROKEN if word in said.lower()),
        ("can't be read", "It may be damaged: convert into a new database, and verify again."),
    )
    return TargetError(f"{shown} {why}: {said}.", todo=f"Nothing was changed. {todo}")


def _database_error(error: BaseException) -> BaseException | None:
    """Return the driver's error that is the cause of another, if there is one."""
    from sqlalchemy.exc import DBAPIError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError):
            return cause.orig or cause
        if isinstance(cause, sqlite3.Error):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


class Comparer:
    """Compares what is handed to it with a database that MLflow can open.

    The database is opened read-only, so that MLflow can't create it, upgrade it, or add its
    default experiment. Items are buffered and compared in chunks; memory follows the largest item
    and the number of ids.

    Raises ``TargetError`` when ``uri`` (``sqlite:///path``, ``postgresql://…``, ``mysql://…``)
    names no MLflow database, or one of a schema revision that the installed MLflow does not read.

    ``joined`` says whether an experiment with ``ExperimentPlan.merged`` may be another one, which
    keeps its own fields (``--on-conflict merge``). Otherwise it is the one that the source's became
    in an earlier conversion, and is compared; but experiment 0, which MLflow makes in every
    database, may be the database's own.
    """

    def __init__(self, uri: str, *, joined: bool = False) -> None:
        self._joined = joined
        self.largest_id = conventions.INT64_MAX
        self.name_key = databases.name_key(None)
        if databases.is_server(uri):
            self.largest_id = databases.LARGEST_EXPERIMENT_ID
            url = databases.server_url(uri)
            self.shown, upgrade = databases.shown(url), "mlflow db upgrade"
            revision, collation = _server_state(url)
            self.name_key = databases.name_key(collation)
            opened = databases.read_only_url(url).render_as_string(hide_password=False)
        else:
            path = _database_path(uri)
            self.shown, upgrade = str(path), "mlflow-migrate upgrade"
            revision = _revision(path)
            opened = _read_only(path)
        import mlflow  # noqa: F401  # sets up its loggers, before they are turned down

        # Alembic, which MLflow asks for the schema's revision, tells about its own plugins. What
        # MLflow logs of a database that breaks under it, with a traceback, we say in a sentence.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)
        _check_revision(self.shown, revision, f"{upgrade} {masked(uri)}")
        self._open(opened)
        self._findings = _Findings()
        self._experiments: dict[int, _ExpectedExperiment] = {}
        self._seen: set[tuple[Kind, str]] = set()
        self._trace_ids: dict[int, set[str]] = defaultdict(set)
        self._dataset_names: dict[tuple[int, str], tuple[str, str]] = {}
        self._waiting: list[tuple[_Entity, RunRecord, int, Any]] = []
        self._runs: list[tuple[RunRecord, int]] = []
        self._points = 0
        self._datasets: list[tuple[DatasetRecord, int]] = []
        self._traces: list[tuple[TracePlan, int]] = []
        self._spans = 0

    @reading
    def _open(self, uri: str) -> None:
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

        class ReadOnlyTracking(Tracking):  # type: ignore[misc]
            def _create_default_experiment(self, session: Any) -> None:
                """Leave the database as it is; MLflow would add experiment 0 on opening."""

        self._tracking: Any = ReadOnlyTracking(uri, "mlruns")
        self._client = _client_of(self._tracking, uri)
        self._registry: Any = Registry(uri)

    @reading
    def experiments(self) -> tuple[tuple[int, str], ...]:
        """Return id and name of every experiment that the database has, deleted ones too."""
        from mlflow.entities import ViewType

        found: list[tuple[int, str]] = []
        token = None
        while True:
            page = self._tracking.search_experiments(
                ViewType.ALL, _EXPERIMENTS_PER_PAGE, page_token=token
            )
            found += [(int(item.experiment_id), str(item.name)) for item in page]  # maybe bytes
            token = page.token
            if not token:
                return tuple(sorted(found))

    # ------------------------------------------------------------------- what is expected

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Expect an experiment; it is looked up at ``finish``, when all its tags are known."""
        expected = self._experiments.setdefault(plan.target_id, _ExpectedExperiment())
        expected.plan = expected.plan or plan
        for key, value in plan.tags.items():
            if key.startswith(_OURS):
                expected.own_tags.add(key)
            else:
                expected.tags.setdefault(key, value)

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Expect a tag on an experiment of the target; one that was there keeps its ``value``."""
        del value
        self._experiments.setdefault(experiment_id, _ExpectedExperiment()).own_tags.add(key)

    @reading
    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Expect a run, with its params, tags, metric histories, inputs and outputs."""
        if self._is_second(Kind.RUN, run.run_id):
            return
        self._runs.append((run, experiment_id))
        self._points += sum(map(len, run.metrics.values()))
        if len(self._runs) >= _RUNS_PER_CHUNK or self._points >= _POINTS_PER_CHUNK:
            self._compare_runs()

    @reading
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Expect a dataset of an experiment."""
        name = (record.name, record.digest)
        self._dataset_names[experiment_id, record.dataset_id] = name
        if self._is_second(Kind.DATASET, f"{experiment_id}/{record.name}/{record.digest}"):
            return
        self._datasets.append((record, experiment_id))
        if len(self._datasets) >= _DATASETS_PER_CHUNK:
            self._compare_datasets()

    @reading
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Expect a logged model, with its params, tags and metrics."""
        if not self._is_second(Kind.LOGGED_MODEL, record.model_id):
            self._compare_logged_model(record, experiment_id)

    @reading
    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Expect a registered model or prompt, with its versions, aliases and tags."""
        if not self._is_second(Kind.REGISTERED_MODEL, record.name):
            self._compare_registered_model(record)

    @reading
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Expect a trace, with its spans, tags, metadata, token counts and assessments."""
        if self._is_second(Kind.TRACE, plan.trace_id):
            return
        self._traces.append((plan, experiment_id))
        self._spans += len(plan.spans)
        if len(self._traces) >= _TRACES_PER_CHUNK or self._spans >= _SPANS_PER_CHUNK:
            self._compare_traces()

    def compare_copies(self, copies: Iterable[ArtifactCopy]) -> None:
        """Compare every file of copied artifacts with its source, by size and SHA-256."""
        for copy in copies:
            for relative, path, _ in extractor.artifact_files(copy.source, copy.bound):
                expected = _file_state(path)
                found = _file_state(str(Path(copy.target, relative)))
                if expected != found:
                    name = f"artifact {relative}"
                    self._findings.differs(copy.kind, copy.entity_id, name, expected, found)

    @reading
    def finish(self) -> VerifyResult:
        """Compare what is still buffered, close the database, and return what was found."""
        self._compare_experiments()
        self._compare_datasets()
        self._compare_runs()
        self._compare_traces()
        for of, run, experiment_id, entity in self._waiting:
            self._compare_inputs(of, run, experiment_id, entity)
        for experiment_id in sorted(self._experiments.keys() | self._trace_ids.keys()):
            search = partial(_read, self._client.search_traces, locations=[str(experiment_id)])
            trace_ids = self._trace_ids[experiment_id]
            compare_search(self._findings, search, str(experiment_id), trace_ids)
        self._tracking.engine.dispose()
        self._registry.engine.dispose()
        return self._findings.result()

    def _is_second(self, kind: Kind, entity_id: str) -> bool:
        known = len(self._seen)
        self._seen.add((kind, entity_id))
        return len(self._seen) == known

    # ------------------------------------------------------------------------ experiments

    def _compare_experiments(self) -> None:
        for experiment_id, expected in sorted(self._experiments.items()):
            name = str(experiment_id)
            found = _read(self._tracking.get_experiment, name)
            of = self._findings.entity(Kind.EXPERIMENT, name, found)
            if of is None:
                continue
            plan = expected.plan
            merged = plan is None or (plan.merged and self._has_its_own(plan, found))
            if plan is not None and not merged:
                of.check("name", plan.target_name, found.name)
                of.check("artifact_location", plan.artifact_location, found.artifact_location)
                of.check("lifecycle_stage", plan.record.lifecycle_stage, found.lifecycle_stage)
                of.check_known("creation_time", plan.record.creation_ms, found.creation_time)
                of.check_known(
                    "last_update_time", plan.record.last_update_ms, found.last_update_time
                )
            of.mapping(
                Kind.EXPERIMENT_TAG,
                "tag",
                expected.tags,
                found.tags,
                allowed=found.tags if merged else {conventions.EXPERIMENT_KIND, *expected.own_tags},
            )
            of.count(Kind.EXPERIMENT_TAG, len(expected.own_tags - expected.tags.keys()))
            for key in sorted(expected.own_tags - found.tags.keys()):
                of.differs(f"tag {key}", "one", MISSING)

    def _has_its_own(self, plan: ExperimentPlan, found: Any) -> bool:
        """Tell whether a merged experiment is the database's own, not one that we converted."""
        may_be = self._joined or plan.target_id == 0
        return may_be and plan.record.creation_ms != found.creation_time

    # ------------------------------------------------------------------------------- runs

    def _compare_runs(self) -> None:
        runs, self._runs, self._points = self._runs, [], 0
        found = self._find_runs(runs)
        columns = self._run_columns([run.run_id for run, _ in runs])
        histories = self._histories([run.run_id for run, _ in runs])
        for run, experiment_id in runs:
            entity = found[run.run_id]
            of = self._findings.entity(Kind.RUN, run.run_id, entity)
            if of is None:
                continue
            self._compare_run(of, run, experiment_id, entity, columns[run.run_id])
            self._compare_metrics(of, run, entity, histories[run.run_id])
            if self._knows_datasets(run, experiment_id):
                self._compare_inputs(of, run, experiment_id, entity)
            else:
                self._waiting.append((of, run, experiment_id, entity))

    def _knows_datasets(self, run: RunRecord, experiment_id: int) -> bool:
        return all(
            item.source_type == "MODEL" or (experiment_id, item.source_id) in self._dataset_names
            for item in run.inputs
        )

    def _find_runs(self, runs: Sequence[tuple[RunRecord, int]]) -> dict[str, Any]:
        """Return MLflow's entities by run id; a run of another experiment is found as well."""
        from mlflow.entities import ViewType

        by_experiment: dict[int, list[str]] = defaultdict(list)
        for run, experiment_id in runs:
            by_experiment[experiment_id].append(run.run_id)
        found: dict[str, Any] = {}
        for experiment_id, run_ids in by_experiment.items():
            for chunk in _chunks([r for r in run_ids if "'" not in r], _RUNS_PER_QUERY):
                ids = ",".join(f"'{run_id}'" for run_id in chunk)
                page = self._tracking.search_runs(
                    [str(experiment_id)],
                    f"attributes.run_id IN ({ids})",
                    ViewType.ALL,
                    max_results=len(chunk),
                )
                found.update((entity.info.run_id, entity) for entity in page)
        for run, _ in runs:
            reads_models = any(item.source_type == "MODEL" for item in run.inputs)
            if run.run_id not in found or reads_models:
                found[run.run_id] = _read(self._tracking.get_run, run.run_id)
        return found

    def _run_columns(self, run_ids: Sequence[str]) -> dict[str, Any]:
        from mlflow.store.tracking.dbmodels.models import SqlRun

        columns: dict[str, Any] = {}
        with self._tracking.ManagedSessionMaker() as session:
            for chunk in _chunks(run_ids, _RUNS_PER_QUERY):
                rows = session.query(
                    SqlRun.run_uuid,
                    SqlRun.deleted_time,
                    SqlRun.source_type,
                    SqlRun.source_name,
                    SqlRun.source_version,
                    SqlRun.entry_point_name,
                ).filter(SqlRun.run_uuid.in_(chunk))
                columns.update((row.run_uuid, row) for row in rows)
        return columns

    def _histories(self, run_ids: Sequence[str]) -> dict[str, dict[str, list[_Point]]]:
        """Return all points of the runs' metrics by run id and key.

        As plain columns: MLflow's ``get_metric_history_bulk`` takes ten times as long, since it
        makes two objects of each row, and reads one key of all runs of the database at a time.
        """
        from mlflow.store.tracking.dbmodels.models import SqlMetric

        histories: dict[str, dict[str, list[_Point]]] = defaultdict(lambda: defaultdict(list))
        with self._tracking.ManagedSessionMaker() as session:
            for chunk in _chunks(run_ids, _RUNS_PER_QUERY):
                rows = session.query(
                    SqlMetric.run_uuid,
                    SqlMetric.key,
                    SqlMetric.timestamp,
                    SqlMetric.step,
                    SqlMetric.value,
                    SqlMetric.is_nan,
                ).filter(SqlMetric.run_uuid.in_(chunk))
                for run_id, key, timestamp_ms, step, value, is_nan in rows:
                    histories[run_id][key].append((timestamp_ms, step, value, is_nan))
        return histories

    def _compare_run(
        self, of: _Entity, run: RunRecord, experiment_id: int, found: Any, columns: Any
    ) -> None:
        info = found.info
        of.check("experiment_id", str(experiment_id), info.experiment_id)
        of.check("name", run.name, info.run_name or "")
        of.check("status", run.status, info.status)
        of.check("start_time", run.start_ms, info.start_time)
        of.check("end_time", run.end_ms, info.end_time)
        of.check("lifecycle_stage", run.lifecycle_stage, info.lifecycle_stage)
        of.check("user_id", run.user_id, info.user_id or "")
        of.check("artifact_uri", run.artifact_uri, info.artifact_uri)
        of.check("deleted_time", run.deleted_ms, columns.deleted_time)
        of.check("source_type", run.source_type, columns.source_type)
        of.check("source_name", run.source_name, columns.source_name or "")
        of.check("source_version", run.source_version, columns.source_version or "")
        of.check("entry_point_name", run.entry_point_name, columns.entry_point_name or "")
        of.mapping(Kind.PARAM, "param", run.params, found.data.params)
        of.mapping(Kind.TAG, "tag", run.tags, found.data.tags)

    def _compare_metrics(
        self,
        of: _Entity,
        run: RunRecord,
        found: Any,
        history: Mapping[str, Sequence[_Point]],
    ) -> None:
        latest = {metric.key: _found_point(metric) for metric in found.data._metric_objs}
        known = {key for key, points in run.metrics.items() if points}
        for key in sorted((latest.keys() | history.keys()) - known):
            last = latest[key] if key in latest else max(history[key], key=_order)
            of.differs(f"metric {key}", NOTHING, _show_point(last))
        for key, points in run.metrics.items():
            expected = {_expected_point(point) for point in points}
            of.count(Kind.METRIC_POINT, len(expected))
            of.points(f"metric {key}", expected, history.get(key, ()))
            if expected:
                greatest = max(map(_order, expected))
                right = [point for point in expected if _order(point) == greatest]
                if latest.get(key) not in right:
                    shown = _show_point(latest[key]) if key in latest else MISSING
                    of.differs(f"latest metric {key}", _show_point(right[0]), shown)

    def _compare_inputs(self, of: _Entity, run: RunRecord, experiment_id: int, found: Any) -> None:
        datasets: dict[tuple[str, str], Mapping[str, str]] = {}
        models = set()
        for item in run.inputs:
            if item.source_type == "MODEL":
                models.add(item.source_id)
            elif (experiment_id, item.source_id) in self._dataset_names:
                name = self._dataset_names[experiment_id, item.source_id]
                datasets.setdefault(name, item.tags)
        found_datasets = {
            (item.dataset.name, item.dataset.digest): {tag.key: tag.value for tag in item.tags}
            for item in found.inputs.dataset_inputs
        }
        of.count(Kind.INPUT, len(datasets) + len(models))
        of.check("dataset inputs", sorted(datasets), sorted(found_datasets))
        for name in sorted(datasets.keys() & found_datasets.keys()):
            label = f"tag of input {name[0]} {name[1]}"
            of.mapping(Kind.INPUT, label, datasets[name], found_datasets[name], counted=False)
        if models:
            found_models = {item.model_id for item in found.inputs.model_inputs or ()}
            of.check("model inputs", sorted(models), sorted(found_models))
        outputs: dict[str, int] = {}
        for output in run.outputs:
            outputs.setdefault(output.model_id, output.step)
        of.count(Kind.OUTPUT, len(outputs))
        of.check(
            "model outputs",
            sorted(outputs.items()),
            sorted((output.model_id, output.step) for output in found.outputs.model_outputs),
        )

    def _compare_datasets(self) -> None:
        from mlflow.store.tracking.dbmodels.models import SqlDataset

        datasets, self._datasets = self._datasets, []
        found: dict[tuple[int, str, str], Any] = {}
        digests = sorted({record.digest for record, _ in datasets})
        with self._tracking.ManagedSessionMaker() as session:
            for row in session.query(SqlDataset).filter(SqlDataset.digest.in_(digests)):
                entity = row.to_mlflow_entity()
                found[row.experiment_id, entity.name, entity.digest] = entity
        for record, experiment_id in datasets:
            entity = found.get((experiment_id, record.name, record.digest))
            of = self._findings.entity(Kind.DATASET, record.dataset_id, entity)
            if of is not None and entity is not None:
                of.check("source_type", record.source_type, entity.source_type)
                of.check("source", record.source, entity.source)
                of.check("schema", record.schema, entity.schema)
                of.check("profile", record.profile, entity.profile)

    # ----------------------------------------------------------------------------- models

    def _compare_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        model_id = record.model_id
        found = _read(self._tracking.get_logged_model, model_id, allow_deleted=True)
        of = self._findings.entity(Kind.LOGGED_MODEL, model_id, found)
        if of is None:
            return
        active = _read(self._tracking.get_logged_model, model_id) is not None
        of.check("lifecycle_stage", record.lifecycle_stage, "active" if active else "deleted")
        of.check("experiment_id", str(experiment_id), found.experiment_id)
        of.check("name", record.name, found.name)
        of.check("artifact_location", record.artifact_location, found.artifact_location)
        of.check("creation_timestamp", record.creation_ms, found.creation_timestamp)
        of.check("last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp)
        of.check("status", record.status, found.status.to_int())
        of.check("status_message", record.status_message or "", found.status_message or "")
        of.check("model_type", record.model_type or "", found.model_type or "")
        of.check("source_run_id", record.source_run_id or "", found.source_run_id or "")
        of.mapping(Kind.LOGGED_MODEL_PARAM, "param", record.params, found.params or {})
        of.mapping(Kind.LOGGED_MODEL_TAG, "tag", record.tags, found.tags or {})
        self._compare_model_metrics(of, record, found)

    def _compare_model_metrics(self, of: _Entity, record: LoggedModelRecord, found: Any) -> None:
        once: dict[tuple[str, str, int, int], tuple[str, _Point]] = {}
        for metric in record.metrics:
            point = MetricPoint(metric.timestamp_ms, metric.value, metric.step)
            timestamp_ms, step, value, _ = _expected_point(point)
            name = _model_metric_name(metric)
            row = (metric.key, metric.run_id, timestamp_ms, step)  # MLflow's primary key
            once.setdefault(row, (name, (timestamp_ms, step, value, False)))
        of.count(Kind.LOGGED_MODEL_METRIC, len(once))
        expected: dict[str, set[_Point]] = defaultdict(set)
        for name, encoded in once.values():
            expected[name].add(encoded)
        points: dict[str, list[_Point]] = defaultdict(list)
        for item in found.metrics or ():
            points[_model_metric_name(item)].append(_found_point(item))
        for name in sorted(expected.keys() | points.keys()):
            of.points(f"metric {name}", expected[name], points[name])

    def _compare_registered_model(self, record: RegisteredModelRecord) -> None:
        found = _read(self._registry.get_registered_model, record.name)
        of = self._findings.entity(Kind.REGISTERED_MODEL, record.name, found)
        if of is None:
            for version in record.versions:
                self._findings.entity(Kind.MODEL_VERSION, f"{record.name}/{version.version}", None)
            return
        of.check_known("creation_timestamp", record.creation_ms, found.creation_timestamp)
        of.check_known(
            "last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp
        )
        of.check("description", record.description or "", found.description or "")
        # The property hides what marks a prompt; the message has all tags.
        tags = {tag.key: tag.value for tag in found.to_proto().tags}
        of.mapping(Kind.REGISTERED_MODEL_TAG, "tag", record.tags, tags)
        of.mapping(
            Kind.ALIAS,
            "alias",
            {alias: str(version) for alias, version in record.aliases.items()},
            {alias: str(version) for alias, version in found.aliases.items()},
        )
        for version in record.versions:
            self._compare_version(version)

    def _compare_version(self, record: ModelVersionRecord) -> None:
        deleted = record.current_stage == _DELETED_VERSION
        # MLflow hides a deleted version from everybody but its own tests.
        read = (
            self._registry._get_sql_model_version_including_deleted
            if deleted
            else self._registry.get_model_version
        )
        found = _read(read, record.name, record.version)
        of = self._findings.entity(Kind.MODEL_VERSION, f"{record.name}/{record.version}", found)
        if of is None:
            return
        of.check_known("creation_timestamp", record.creation_ms, found.creation_timestamp)
        of.check_known(
            "last_updated_timestamp", record.last_updated_ms, found.last_updated_timestamp
        )
        of.check("description", record.description or "", found.description or "")
        of.check("user_id", record.user_id or "", found.user_id or "")
        of.check("current_stage", record.current_stage or "None", found.current_stage or "None")
        of.check("source", record.source or "", found.source or "")
        of.check("run_id", record.run_id or "", found.run_id or "")
        of.check("status", record.status or "READY", found.status)
        of.check("status_message", record.status_message or "", found.status_message or "")
        of.check("run_link", record.run_link or "", found.run_link or "")
        of.mapping(Kind.MODEL_VERSION_TAG, "tag", record.tags, found.tags)
        if not deleted:
            location = self._registry.get_model_version_download_uri(record.name, record.version)
            expected = record.storage_location or record.source or ""
            of.check("download location", expected, location or "")

    # ----------------------------------------------------------------------------- traces

    def _compare_traces(self) -> None:
        traces, self._traces, self._spans = self._traces, [], 0
        found = self._find_traces([plan.trace_id for plan, _ in traces])
        rows = self._trace_rows(list(found))
        for plan, experiment_id in traces:
            self._findings.count_recounted(plan)
            entity = found[plan.trace_id]
            of = self._findings.entity(Kind.TRACE, plan.trace_id, entity)
            if of is None:
                self._findings.count(Kind.SPAN, len(plan.spans))
                continue
            self._trace_ids[experiment_id].add(plan.trace_id)
            self._compare_trace(of, plan, experiment_id, entity.info)
            self._compare_assessments(of, plan, entity.info)
            self._compare_tokens(of, plan, rows.tokens[plan.trace_id])
            self._compare_spans(plan, experiment_id, entity.data.spans, rows.spans[plan.trace_id])
            self._compare_links(of, plan, entity.info)

    def _find_traces(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        """Return MLflow's traces by id.

        A trace that MLflow can't give whole (a span row is missing, one can't be parsed) spoils or
        leaves the batch: it is then read alone, and with whatever spans MLflow still gives.
        """
        if not trace_ids:
            return {}
        batch = _read(self._tracking.batch_get_traces, list(trace_ids))
        whole = () if isinstance(batch, _Unreadable) else batch
        found = {trace.info.trace_id: trace for trace in whole}
        for trace_id in trace_ids:
            if trace_id not in found:
                found[trace_id] = self._find_trace(trace_id)
        return found

    def _find_trace(self, trace_id: str) -> Any:
        from mlflow.entities import Trace, TraceData

        trace = _read(self._tracking.get_trace, trace_id, allow_partial=True)
        if not isinstance(trace, _Unreadable):
            return trace
        info = _read(self._tracking.get_trace_info, trace_id)
        if info is None or isinstance(info, _Unreadable):
            return info
        return Trace(info=info, data=TraceData(spans=[]))

    def _trace_rows(self, trace_ids: Sequence[str]) -> _TraceRows:
        """Return what searches and charts read of the traces, and no entity carries."""
        from mlflow.store.tracking.dbmodels import models

        rows = _TraceRows()
        info, span = models.SqlTraceInfo, models.SqlSpan
        with self._tracking.ManagedSessionMaker() as session:
            for row in session.query(
                span.trace_id,
                span.experiment_id,
                span.span_id,
                span.parent_span_id,
                span.name,
                span.type,
                span.status,
                span.start_time_unix_nano,
                span.end_time_unix_nano,
            ).filter(span.trace_id.in_(trace_ids)):
                rows.spans[row.trace_id][row.span_id] = row
            if hasattr(info, "input_tokens"):  # 3.17 and later keep the token counts in columns
                query = session.query(
                    info.request_id, info.input_tokens, info.output_tokens, info.total_tokens
                ).filter(info.request_id.in_(trace_ids))
                for row in query:
                    counts = row._asdict()
                    trace_id = counts.pop("request_id")
                    rows.tokens[trace_id] = {k: v for k, v in counts.items() if v is not None}
            else:
                metrics = models.SqlTraceMetrics
                for row in session.query(metrics).filter(metrics.request_id.in_(trace_ids)):
                    rows.tokens[row.request_id][row.key] = row.value
        return rows

    def _compare_trace(self, of: _Entity, plan: TracePlan, experiment_id: int, info: Any) -> None:
        of.check("experiment_id", str(experiment_id), info.experiment_id)
        of.check("timestamp_ms", plan.timestamp_ms, info.request_time)
        of.check("execution_ms", plan.execution_ms, info.execution_duration)
        of.check("status", plan.status, info.state.value)
        of.check("client_request_id", plan.client_request_id, info.client_request_id)
        of.check("request_preview", plan.request_preview, info.request_preview)
        of.check("response_preview", plan.response_preview, info.response_preview)
        of.mapping(Kind.TRACE_TAG, "tag", plan.tags, info.tags)
        metadata = dict(info.trace_metadata)
        from_columns = _SERVED_FROM_COLUMNS if self._serves_from_columns else set()
        for key in from_columns & plan.metadata.keys() & metadata.keys():
            if _same_from_column(plan.metadata[key], metadata[key]):
                metadata[key] = plan.metadata[key]
        # Token usage is served even where only its rows were written.
        usage = from_columns & {conventions.TRACE_USAGE} if plan.usage else set()
        of.mapping(Kind.TRACE_METADATA, "metadata", plan.metadata, metadata, allowed=usage)
        stats = info.trace_metadata.get(conventions.SIZE_STATS)
        if stats is not None:
            of.check("number of spans in size stats", len(plan.spans), _span_count(stats))

    @property
    def _serves_from_columns(self) -> bool:
        from mlflow.store.tracking.dbmodels.models import SqlTraceInfo

        return hasattr(SqlTraceInfo, "session_id")

    def _compare_assessments(self, of: _Entity, plan: TracePlan, info: Any) -> None:
        found = {item.assessment_id: item for item in info.assessments}
        expected = {item.assessment_id for item in plan.assessments}
        for assessment_id in sorted(found.keys() - expected):
            of.differs(f"assessment {assessment_id}", NOTHING, found[assessment_id].name)
        for record in plan.assessments:
            item = found.get(record.assessment_id)
            name = f"{plan.trace_id}/{record.assessment_id}"
            compare_assessment(self._findings.entity(Kind.ASSESSMENT, name, item), record, item)

    def _compare_tokens(self, of: _Entity, plan: TracePlan, found: Mapping[str, float]) -> None:
        usage = plan.usage
        expected: dict[str, int] = {}
        if usage is not None:
            counts = {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
            }
            expected = {key: count for key, count in counts.items() if count is not None}
        for key in sorted(expected.keys() | found.keys()):
            of.check(f"token metric {key}", expected.get(key, NOTHING), found.get(key, MISSING))

    def _compare_spans(
        self, plan: TracePlan, experiment_id: int, found: Sequence[Any], rows: Mapping[str, Any]
    ) -> None:
        by_id = {span.span_id: span for span in found}
        expected = {span.span_id for span in plan.spans}
        for span_id in sorted((by_id.keys() | rows.keys()) - expected):
            name = by_id[span_id].name if span_id in by_id else rows[span_id].name
            self._findings.differs(
                Kind.SPAN, f"{plan.trace_id}/{span_id}", "span", NOTHING, str(name)
            )
        for span in plan.spans:
            name = f"{plan.trace_id}/{span.span_id}"
            of = self._findings.entity(Kind.SPAN, name, by_id.get(span.span_id))
            if of is not None:
                _compare_span(of, plan, span, by_id[span.span_id])
                _compare_span_row(of, span, experiment_id, rows.get(span.span_id))

    def _compare_links(self, of: _Entity, plan: TracePlan, info: Any) -> None:
        from mlflow.entities.entity_type import EntityAssociationType as EntityType

        if plan.run_ids:
            links = self._tracking.search_entities_by_source(
                plan.trace_id, EntityType.TRACE, EntityType.RUN
            )
            linked = {*links, info.trace_metadata.get(conventions.SOURCE_RUN)}
            for run_id in plan.run_ids:
                if run_id not in linked:
                    of.differs(f"link to run {run_id}", "linked", MISSING)
        if plan.prompts:
            prompts = self._tracking.search_entities_by_source(
                plan.trace_id, EntityType.TRACE, EntityType.PROMPT_VERSION
            )
            of.check("linked prompts", sorted(plan.prompts), sorted(prompts))


def _compare_span(of: _Entity, plan: TracePlan, span: SpanPlan, found: Any) -> None:
    """Compare a span with what MLflow makes of its content."""
    from mlflow.tracing.otel.translation import translate_loaded_span

    attributes = dict(translate_loaded_span({"attributes": dict(span.attributes)})["attributes"])
    data = found.to_dict()
    of.check("trace_id", plan.trace_id, found.trace_id)
    of.check("parent", span.parent_span_id, found.parent_id)
    of.check("name", span.name, found.name)
    of.check("type", span.type, found.span_type or SpanType.UNKNOWN)
    of.check("status", span.status, found.status.status_code.value)
    if span.status == "ERROR":
        of.check("status message", span.status_message, found.status.description or "")
    of.check("start_ns", span.start_ns, found.start_time_ns)
    of.check("end_ns", span.end_ns, found.end_time_ns)
    of.mapping(Kind.SPAN, "attribute", attributes, data["attributes"], counted=False)
    of.check(
        "events",
        [(event.name, event.time_ns, _canonical(event.attributes)) for event in span.events],
        [(event.name, event.timestamp, _canonical(event.attributes)) for event in found.events],
    )


def _compare_span_row(of: _Entity, span: SpanPlan, experiment_id: int, row: Any) -> None:
    """Compare a span with the columns that span filters and charts read."""
    if row is None:
        of.differs("row", "one", MISSING)
        return
    of.check("column experiment_id", experiment_id, row.experiment_id)
    of.check("column parent_span_id", span.parent_span_id, row.parent_span_id)
    of.check("column name", span.name, row.name)
    of.check("column type", span.type, row.type)
    of.check("column status", span.status, row.status)
    of.check("column start_time_unix_nano", span.start_ns, row.start_time_unix_nano)
    of.check("column end_time_unix_nano", span.end_ns, row.end_time_unix_nano)


@dataclass(slots=True)
class _ExpectedExperiment:
    plan: ExperimentPlan | None = None
    tags: dict[str, str] = field(default_factory=dict)
    own_tags: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _TraceRows:
    spans: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    tokens: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))


def _file_state(path: str) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"(unreadable: {error.strerror})"
    return f"{size:,} bytes, SHA-256 {digest.hexdigest()[:16]}…"


class _Findings:
    """The differences found so far, and how much was compared."""

    def __init__(self) -> None:
        self._differences: list[Difference] = []
        self._total = 0
        self._compared: Counter[Kind] = Counter()
        self._recounted = 0

    def count(self, kind: Kind, number: int = 1) -> None:
        self._compared[kind] += number

    def count_recounted(self, plan: TracePlan) -> None:
        """Count a trace whose number of spans in ``mlflow.trace.sizeStats`` had to be changed."""
        self._recounted += conventions.MIGRATOR_SOURCE_SIZE_STATS in plan.metadata

    def differs(
        self, kind: Kind, entity_id: str, field_name: str, expected: str, found: str
    ) -> None:
        self._total += 1
        if len(self._differences) < MAX_DIFFERENCES:
            self._differences.append(Difference(kind, entity_id, field_name, expected, found))

    def entity(self, kind: Kind, entity_id: str, found: Any) -> _Entity | None:
        """Count an entity; return what takes its differences, or None if there is none."""
        self.count(kind)
        if found is None or isinstance(found, _Unreadable):
            shown = MISSING if found is None else f"(unreadable: {found.why})"
            self.differs(kind, entity_id, kind.value, "one", shown)
            return None
        return _Entity(self, kind, entity_id)

    def result(self) -> VerifyResult:
        compared = {kind: self._compared[kind] for kind in Kind if self._compared[kind]}
        return VerifyResult(
            tuple(self._differences), self._total, compared, recounted=self._recounted
        )


@dataclass(frozen=True, slots=True)
class _Entity:
    """One entity that both sides have, and its differences."""

    findings: _Findings
    kind: Kind
    entity_id: str

    def differs(self, field_name: str, expected: str, found: str) -> None:
        self.findings.differs(self.kind, self.entity_id, field_name, expected, found)

    def count(self, kind: Kind, number: int) -> None:
        self.findings.count(kind, number)

    def check(self, field_name: str, expected: object, found: object) -> None:
        if expected != found:
            self.differs(field_name, *_shown(expected, found))

    def check_known(self, field_name: str, expected: object, found: object) -> None:
        """Like ``check``; a source that does not say (None) agrees with anything."""
        if expected is not None:
            self.check(field_name, expected, found)

    def mapping(
        self,
        kind: Kind,
        label: str,
        expected: Mapping[str, str],
        found: Mapping[str, str],
        *,
        allowed: Iterable[str] = (),
        counted: bool = True,
    ) -> None:
        """Compare keys and values. ``allowed`` keys may be there without being expected."""
        if counted:
            self.count(kind, len(expected))
        if expected == found:
            return
        for key, value in expected.items():
            self.check(f"{label} {key}", value, found.get(key, MISSING))
        for key in sorted(found.keys() - expected.keys() - set(allowed)):
            if not key.startswith(_OURS):
                self.differs(f"{label} {key}", NOTHING, _shown("", found[key])[1])

    def points(self, label: str, expected: set[_Point], found: Sequence[_Point]) -> None:
        """Compare the whole history of one metric; order does not matter."""
        if len(found) == len(expected) and expected.issuperset(found):
            return
        apart: dict[tuple[int, int], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        surplus = Counter(found) - Counter(expected)
        for side, points in enumerate((expected.difference(found), surplus.elements())):
            for point in sorted(points):
                apart[point[1], point[0]][side].append(_show_point(point))
        for (step, timestamp_ms), (missing, unexpected) in sorted(apart.items()):
            self.differs(
                f"{label}, step {step}, time {timestamp_ms}",
                ", ".join(missing) or NOTHING,
                ", ".join(unexpected) or MISSING,
            )


def compare_search(
    findings: _Findings, search: Callable[..., Any], experiment_id: str, trace_ids: set[str]
) -> None:
    """Search an experiment's traces as MLflow does by default: it must answer, with all of them.

    ``search`` is MLflow's ``search_traces`` for the experiment, which may answer ``_Unreadable``;
    ``trace_ids`` are those that the database has and that are expected. Raises TargetError.
    """
    found: set[str] = set()
    token = None
    while True:
        try:
            page = search(max_results=_TRACES_PER_PAGE, page_token=token)
        except TargetError:
            raise
        except Exception as error:  # noqa: BLE001  # of any library that opens a trace's location
            page = _Unreadable(f"{type(error).__name__}: {error}")
        if isinstance(page, _Unreadable):
            why = (page.why.splitlines() or [""])[0]
            findings.differs(
                Kind.EXPERIMENT,
                experiment_id,
                "search_traces",
                "an answer",
                f"(raises: {why:.200})",
            )
            return
        found.update(trace.info.trace_id for trace in page)
        token = page.token
        if not token:
            break
    for trace_id in sorted(trace_ids - found):
        findings.differs(Kind.TRACE, trace_id, "search_traces", "found", MISSING)


def _client_of(store: Any, uri: str) -> Any:
    """Make MLflow's client of traces on a store that is open."""
    from mlflow.tracing.client import TracingClient

    class Client(TracingClient):  # type: ignore[misc]
        @property
        def store(self) -> Any:
            return store

    return Client(uri)


def compare_assessment(of: _Entity | None, record: AssessmentRecord, found: Any) -> None:
    """Compare an assessment with what MLflow says of it; ``of`` is None where there is none."""
    if of is None:
        return
    body = getattr(found, record.type, None)  # .feedback or .expectation
    if body is None:
        of.differs("type", record.type, type(found).__name__.lower())
        return
    of.check("name", record.name, found.name)
    value = conventions.sanitize(record.value)
    of.check("value", _canonical(value), _canonical(body.value))
    error = getattr(body, "error", None)
    of.check(
        "error",
        _canonical(_without_none(conventions.sanitize(record.error))),
        _canonical(None if error is None else _without_none(error.to_dictionary())),
    )
    of.check("source_type", record.source_type, found.source.source_type)
    of.check("source_id", record.source_id or "", found.source.source_id or "")
    of.check("create_time_ms", record.created_ms, found.create_time_ms)
    of.check("last_update_time_ms", record.last_updated_ms, found.last_update_time_ms)
    of.check("run_id", record.run_id, found.run_id)
    of.check("span_id", record.span_id, found.span_id)
    of.check("rationale", record.rationale or "", found.rationale or "")
    of.check("overrides", record.overrides, found.overrides)
    of.check("valid", record.valid, found.valid)
    of.check("metadata", dict(record.metadata or {}), dict(found.metadata or {}))


def _database_path(uri: str) -> Path:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    todo = "Give the database that was converted to, as sqlite:///path/to/mlflow.db."
    addresses.refuse_mistaken(uri, TargetError, todo)
    if "://" not in uri and uri.endswith((".db", ".sqlite", ".sqlite3")):  # as convert takes it
        return _existing(Path(uri), todo)
    try:
        url = make_url(uri)
    except ArgumentError:
        shown = masked(uri)
        raise TargetError(f"{shown} is not a database URI.", todo=todo) from None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        shown = masked(uri)
        raise TargetError(
            f"{shown} is not a SQLite file or a database of PostgreSQL or MySQL.", todo=todo
        )
    return _existing(Path(url.database), todo)


def _existing(path: Path, todo: str) -> Path:
    if not path.is_file():
        raise TargetError(f"There is no database {path.absolute()}.", todo=todo)
    return path.absolute()


def _read_only(path: Path) -> str:
    """Return the URI under which MLflow opens a SQLite file without writing to it."""
    from sqlalchemy.engine import URL

    # SQLite decodes the path. MLflow makes the parent directories of what it takes for one: with
    # its slashes encoded that is the current directory.
    file = f"file:{quote(os.fsencode(path), safe='')}"
    return str(URL.create("sqlite", database=file, query={"mode": "ro", "uri": "true"}))


def _check_revision(shown: str, revision: str, upgrade: str) -> None:
    """Raise ``TargetError`` unless the installed MLflow can open a database without changing it.

    A newer MLflow upgrades an older SQLite file as it opens it, without asking and without a
    backup.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision
    from mlflow.version import VERSION

    wanted = _get_latest_schema_revision()
    if revision == wanted:
        return
    if revision == REVISION_39:
        raise TargetError(
            f"{shown} is a database of MLflow 3.9, and MLflow {VERSION} is installed, which would"
            " upgrade it in place and without a backup.",
            todo=f"Verify it with 'mlflow==3.9.*' installed, or upgrade it first: {upgrade}",
        )
    raise TargetError(
        f"{shown} has the schema revision {revision}, and MLflow {VERSION} reads {wanted}.",
        todo="Verify it with the MLflow version that it was converted for ('mlflow==3.9.*' unless"
        f" --schema said otherwise), or upgrade it first: {upgrade}",
    )


def _server_state(url: URL) -> tuple[str, tuple[str, str] | None]:
    """Return the schema revision of MLflow's database on a server, and how it compares text.

    Raises TargetError.
    """
    import sqlalchemy

    with databases.reporting(url):
        engine = databases.engine_of(url, read_only=True)
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                raise TargetError(
                    f"{databases.shown(url)} holds no tables of MLflow.",
                    todo="Give the database that was converted to.",
                )
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            return str(found.scalar()), databases.collation(connection)


def _revision(path: Path) -> str:
    try:
        connection = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro", uri=True)
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        if "no such table" not in str(error) and "not a database" not in str(error):
            raise broken(str(path), error) from error
        raise TargetError(
            f"{path} is not an MLflow database that can be read ({error}).",
            todo="Give the database that was converted to, as sqlite:///path/to/mlflow.db.",
        ) from error
    return str(row[0]) if row else "none"


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """What stands for an entity that is there, but that MLflow can't read."""

    why: str


def _read(read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what MLflow reads, None when there is no such entity, or ``_Unreadable``."""
    from mlflow.exceptions import MlflowException

    try:
        return read(*args, **options)
    except MlflowException as error:
        if _database_error(error) is not None:
            raise broken("The database", error) from None
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        return _Unreadable(str(error.message))


def _chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _expected_point(point: MetricPoint) -> _Point:
    """Return the row that MLflow's SQL store makes of a point (``sanitize_metric_value``)."""
    if math.isnan(point.value):
        return point.timestamp_ms, point.step, 0.0, True
    value = min(max(float(point.value), -_MAX_FLOAT), _MAX_FLOAT)
    return point.timestamp_ms, point.step, value, False


def _found_point(metric: Any) -> _Point:
    value = metric.value
    if value is None or math.isnan(value):
        return metric.timestamp, metric.step, 0.0, True
    return metric.timestamp, metric.step, value, False


def _model_metric_name(metric: Any) -> str:
    """Return the name of a logged model's series: of our record or of MLflow's ``Metric``."""
    parts = (metric.key, metric.run_id, metric.dataset_name or "", metric.dataset_digest or "")
    return " ".join(parts).strip()


def _order(point: _Point) -> tuple[int, int, float]:
    timestamp_ms, step, value, _ = point
    return step, timestamp_ms, value


def _show_point(point: _Point) -> str:
    timestamp_ms, step, value, is_nan = point
    return f"{'nan' if is_nan else value} (step {step}, time {timestamp_ms})"


def _canonical(value: Json) -> str:
    """Return JSON text by which values of any shape can be compared; 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=dict)


def _without_none(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if item is not None}
    return value


def _same_from_column(expected: str, found: str) -> bool:
    """Tell whether ``found`` is what MLflow 3.17's columns can hold of ``expected``."""
    try:
        old, new = json.loads(expected), json.loads(found)
    except (ValueError, RecursionError):
        return expected[: conventions.METADATA_CHARS] == found
    if not isinstance(old, dict) or not isinstance(new, dict):
        return expected[: conventions.METADATA_CHARS] == found
    return {key: value for key, value in old.items() if key in new} == new


def _span_count(stats: str) -> object:
    try:
        return json.loads(stats).get("num_spans")
    except (ValueError, AttributeError):
        return stats


def _shown(expected: object, found: object) -> tuple[str, str]:
    """Return both values as short texts that show the first place where they differ."""
    texts = [value if value in (MISSING, NOTHING) else repr(value) for value in (expected, found)]
    left, right = (str(text) for text in texts)
    if max(len(left), len(right)) <= 120:
        return left, right
    start = next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
    start = max(0, start - 40)
    return _window(left, start), _window(right, start)


def _window(text: str, start: int) -> str:
    before = "…" if start else ""
    after = "…" if len(text) > start + 120 else ""
    return f"{before}{text[start : start + 120]}{after}"
