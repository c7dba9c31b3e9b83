"""The writer: turns records and plans into a complete and checked database.

Rows go by ``sqlite3.executemany`` and not by SQLAlchemy Core: they are tuples already, and on the
same rows Core takes about twice the time (measured: 2.3 against 1.2 s of CPU for 260,000 rows).
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType

from migrator import conventions, empty_database
from migrator.errors import LedgerError
from migrator.issues import Code, Issue, Kind
from migrator.loader import rows, schema
from migrator.loader.publication import PublishOptions, Staged
from migrator.loader.row_buffer import RowBuffer
from migrator.loader.rows import KINDS, Row, RowRecorder, RunRows, TraceRows
from migrator.loader.schema import MLFLOW_39
from migrator.loader.sqlite import audit, newer_columns, staging
from migrator.loader.sqlite.files import reporting
from migrator.loader.targets import Target
from migrator.model import (
    Asset,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.outcome.written import Written
from migrator.workers import ProcessExecutor


class Writer:
    """Writes one conversion into a staging file, and publishes that.

        with Writer(open_target("sqlite:///mlflow.db")) as writer:
            writer.add_experiment(plan)
            writer.add_run(run, plan.target_id)
            writer.finish()
            result = writer.publish()

    The staging file has the wanted schema from the start, if that is kept (``empty_database``).
    If not, it has that of MLflow 3.9, and the first run starts a process that imports MLflow and
    later upgrades the file. Meanwhile the source can be read, and this process stays small. If
    MLflow has been imported already, this process does the upgrade. Leaving the ``with`` block
    always removes the staging file.

    Methods raise TargetError when the target can't be written; one bad row never stops the others.
    They must be called from one thread.
    """

    lot_runs = 50  # of a recorder: its rows are sent between processes

    def __init__(self, target: Target) -> None:
        self._target = target
        self._rows = RowBuffer(target.path, self._ready)
        self._merged: Counter[Kind] = Counter()
        self._issues = self._rows.issues
        self._written = self._rows.written
        self._seen: defaultdict[Kind, set[str]] = defaultdict(set)  # of all but runs and traces
        self._has_experiment_0 = False
        self._has_default = False  # an experiment of this name
        self._joined: set[int] = set()  # experiments that take the place of another source's
        self._late_tags: list[tuple[int, str, str]] = []  # of experiments that were added before
        self._datasets: dict[tuple[int, str], str] = {}  # (experiment, directory) -> uuid
        self._waiting: list[RunRows] = []  # runs whose dataset was not yet added
        self._counts: tuple[Counter[Kind], Counter[Kind]] | None = None  # source's, rebuilt
        self._placeholders = 0

    def __enter__(self) -> Writer:
        self._file = staging.StagingFile(self._target.path)
        self._db: sqlite3.Connection | None = None
        self._upgrader: ProcessExecutor | None = None
        self._is_kept = empty_database.is_kept(self._target.wanted)
        self._upgrades_apart = not self._is_kept and "mlflow" not in sys.modules
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._upgrader is not None:  # it must not make the file anew after we have removed it
            self._upgrader.stop()
        if self._db is not None:
            self._db.close()
        self._file.remove()

    def _ready(self) -> sqlite3.Connection:
        """Return the connection to the staging file; the first call creates its tables."""
        if self._db is None:
            first = self._target.wanted if self._is_kept else MLFLOW_39
            empty_database.create(self._file.path, first)
            self._db = sqlite3.connect(self._file.path, isolation_level=None)
            schema.tune(self._db)
            for statement in audit.SIDE_TABLES:
                self._db.execute(statement)
            self._db.execute("BEGIN")
        return self._db

    def _start_upgrader(self) -> None:
        """Start the process that will upgrade the staging file, if there is to be one.

        Not before the first run was added: the executor has threads in this process, and with
        threads the processes that read could not be forked any more. It is spawned itself, because
        a forked one would share our lock on the staging file.
        """
        if self._upgrades_apart and self._upgrader is None:
            self._upgrader = ProcessExecutor(1, "spawn")
            self._upgrader.submit(schema.prepare)

    def _upgrade(self) -> None:
        """Upgrade the staging file, which has no open transaction, to the wanted schema."""
        self._start_upgrader()
        if self._upgrader is None:
            schema.upgrade(self._file.path, self._target.wanted)
        else:
            self._upgrader.call(schema.upgrade, self._file.path, self._target.wanted)

    # ------------------------------------------------------------------------------ adding

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Add an experiment and its tags. No two may have the same target id."""
        target_id = plan.target_id
        self._has_experiment_0 |= target_id == 0
        self._has_default |= plan.target_name == "Default"
        if plan.merged:
            self._joined.add(target_id)
        self._rows.put("experiments", [rows.experiment_row(plan)])
        for key, value in plan.tags.items():
            is_own = key not in plan.record.tags
            self._put_experiment_tag(target_id, key, value, is_own=is_own)

    def _put_experiment_tag(
        self, experiment_id: int, key: str, value: str, *, is_own: bool
    ) -> None:
        self._rows.put("experiment_tags", [(key, value, experiment_id)])
        if is_own:
            self._rows.note("own_tags", (key, experiment_id))

    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None:
        """Give an experiment a tag of ours, unless it has one of that name."""
        self._late_tags.append((experiment_id, key, value))

    def recorder(self) -> RowRecorder:
        """Return a recorder: it makes rows in another process, for ``replay``."""
        return RowRecorder()

    def replay(self, recorded: Iterable[RunRows | TraceRows]) -> None:
        """Add the rows that a recorder has made."""
        for item in recorded:
            if isinstance(item, RunRows):
                self._add_run_rows(item)
            else:
                self._add_trace_rows(item)

    def add_run(self, run: RunRecord, experiment_id: int) -> None:
        """Add a run with its params, tags, metrics, inputs and outputs."""
        self._add_run_rows(rows.run_rows(run, experiment_id))

    def _add_run_rows(self, run: RunRows) -> None:
        self._start_upgrader()
        if self._rows.is_repeated(Kind.RUN, run.run_id):
            points = len(run.tables.get("metrics", ())) + run.merged_points
            self._refuse_duplicate(
                Kind.RUN,
                run.run_id,
                run.path,
                {
                    Kind.PARAM: len(run.tables.get("params", ())),
                    Kind.TAG: len(run.tables.get("tags", ())),
                    Kind.METRIC_POINT: points,
                    Kind.INPUT: len(run.inputs),
                    Kind.OUTPUT: len(run.outputs),
                },
            )
            return
        for table, new in run.tables.items():
            self._rows.put(table, new)
        if run.merged_points:
            self._merged[Kind.METRIC_POINT] += run.merged_points
        if run.inputs:
            self._add_inputs(run)
        if run.outputs:
            self._add_edges(
                Kind.OUTPUT,
                [
                    rows.input_row(
                        ("RUN_OUTPUT", run.run_id), ("MODEL_OUTPUT", output.model_id), output.step
                    )
                    for output in run.outputs
                ],
            )

    def _add_inputs(self, run: RunRows) -> None:
        known = all(
            source.source_type != "DATASET"
            or (run.experiment_id, source.source_id) in self._datasets
            for source in run.inputs
        )
        if known:
            self._write_inputs(run)
        else:
            self._waiting.append(run)

    def _write_inputs(self, run: RunRows) -> None:
        edges: list[Row] = []
        tags: dict[tuple[str, str], str] = {}
        for source in run.inputs:
            if source.source_type == "DATASET":
                uuid = self._datasets.get((run.experiment_id, source.source_id))
                if uuid is None:
                    self._issues.append(
                        Issue(
                            Code.LOAD_WITHOUT_PARENT,
                            run.path,
                            f"Run {run.run_id} used dataset {source.source_id}, which is not in "
                            f"experiment {run.source_experiment_id}.",
                            kind=Kind.INPUT,
                            entity_id=f"{run.run_id}/{source.source_id}",
                        )
                    )
                    continue
                edge = rows.input_row(("DATASET", uuid), ("RUN", run.run_id))
            else:
                edge = rows.input_row(("RUN_INPUT", run.run_id), ("MODEL_INPUT", source.source_id))
            edges.append(edge)
            for name, value in source.tags.items():
                tags.setdefault((str(edge[0]), name), value)
        self._add_edges(Kind.INPUT, edges)
        self._rows.put("input_tags", [(*key, value) for key, value in tags.items()])

    def _add_edges(self, kind: Kind, edges: Sequence[Row]) -> None:
        """Add rows of ``inputs``, of equal ones the first, as MLflow does."""
        once = {edge[:5]: edge for edge in reversed(edges)}
        self._merged[kind] += len(edges) - len(once)
        self._rows.put("inputs", list(once.values()))

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Add a dataset; of those with one name and digest in an experiment, one is kept."""
        row = rows.dataset_row(record, experiment_id)
        uuid = str(row[0])
        self._datasets[(experiment_id, record.dataset_id)] = uuid
        if uuid in self._seen[Kind.DATASET]:
            self._merged[Kind.DATASET] += 1
            return
        self._seen[Kind.DATASET].add(uuid)
        self._rows.put("datasets", [row])

    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Add a logged model with its params, tags and metrics."""
        model_id = record.model_id
        if model_id in self._seen[Kind.LOGGED_MODEL]:
            self._refuse_duplicate(
                Kind.LOGGED_MODEL,
                model_id,
                record.path,
                {
                    Kind.LOGGED_MODEL_PARAM: len(record.params),
                    Kind.LOGGED_MODEL_TAG: len(record.tags),
                    Kind.LOGGED_MODEL_METRIC: len(record.metrics),
                },
            )
            return
        self._seen[Kind.LOGGED_MODEL].add(model_id)
        self._rows.put("logged_models", [rows.logged_model_row(record, experiment_id)])
        own = (model_id, experiment_id)
        self._rows.put("logged_model_params", [(*own, k, v) for k, v in record.params.items()])
        self._rows.put("logged_model_tags", [(*own, k, v) for k, v in record.tags.items()])
        points: dict[Row, Row] = {}
        for metric in record.metrics:
            value, is_nan = rows.number(metric.value)
            if is_nan:
                self._issues.append(
                    Issue(
                        Code.LOAD_MODEL_NAN,
                        record.path,
                        f"Metric {metric.key} of logged model {model_id} is NaN at step "
                        f"{metric.step}.",
                        kept="0.0, as MLflow stores it",
                        kind=Kind.LOGGED_MODEL_METRIC,
                        entity_id=f"{model_id}/{metric.key}",
                    )
                )
            key = (model_id, metric.key, metric.timestamp_ms, metric.step, metric.run_id)
            row = (
                *key[:4],
                value,
                experiment_id,
                metric.run_id,
                None,  # as MLflow: it finds the dataset by name and digest
                metric.dataset_name,
                metric.dataset_digest,
            )
            there = points.setdefault(key, row)
            if there is not row and there == row:
                self._merged[Kind.LOGGED_MODEL_METRIC] += 1
            elif there is not row:
                self._issues.append(
                    Issue(
                        Code.LOAD_REFUSED,
                        record.path,
                        f"Logged model {model_id} has two values of {metric.key} at one time "
                        f"and step: {there[4]!r} and {value!r}; the database holds one.",
                        kept=f"{there[4]!r}",
                        kind=Kind.LOGGED_MODEL_METRIC,
                        entity_id=f"{model_id}/{metric.key}",
                    )
                )
        self._rows.put("logged_model_metrics", list(points.values()))

    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Add a registered model or prompt with its tags, versions and aliases."""
        name, workspace = record.full_name, record.workspace
        if name in self._seen[Kind.REGISTERED_MODEL]:
            self._refuse_duplicate(
                Kind.REGISTERED_MODEL,
                name,
                record.path,
                {
                    Kind.REGISTERED_MODEL_TAG: len(record.tags),
                    Kind.ALIAS: len(record.aliases),
                    Kind.MODEL_VERSION: len(record.versions),
                    Kind.MODEL_VERSION_TAG: sum(len(v.tags) for v in record.versions),
                },
            )
            return
        self._seen[Kind.REGISTERED_MODEL].add(name)
        self._rows.put(
            "registered_models",
            [
                (
                    record.name,
                    record.creation_ms,
                    record.last_updated_ms,
                    record.description,
                    workspace,
                )
            ],
        )
        own = (record.name, workspace)
        self._rows.put("registered_model_tags", [(k, v, *own) for k, v in record.tags.items()])
        self._rows.put("model_versions", rows.model_version_rows(record))
        self._rows.put(
            "model_version_tags",
            rows.model_version_tag_rows(record),
        )
        self._rows.put(
            "registered_model_aliases",
            [(alias, version, *own) for alias, version in record.aliases.items()],
        )

    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Add an evaluation dataset, scorer, webhook or workspace with its parts."""
        for table, new in rows.asset_rows(record, experiment_id).items():
            self._rows.put(table, new)

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Add a trace, rebuilt or native, with its spans, assessments and links."""
        spans = rows.span_batches(plan, experiment_id)
        first = rows.trace_rows(plan, experiment_id, next(spans, []))
        self._add_trace_rows(first, spans)

    def _add_trace_rows(self, trace: TraceRows, more_spans: Iterable[list[Row]] = ()) -> None:
        if self._rows.is_repeated(Kind.TRACE, trace.trace_id):
            counts = Counter({KINDS[t]: len(r) for t, r in trace.tables.items() if t in KINDS})
            counts[Kind.SPAN] += sum(map(len, more_spans))
            del counts[Kind.TRACE]
            self._refuse_duplicate(Kind.TRACE, trace.trace_id, "", counts)
            return
        if trace.native:
            self._rows.note("native", (trace.trace_id,))
        for table, new in trace.tables.items():
            self._rows.put(table, new, trace.chars if table == "spans" else 0)
        for spans in more_spans:
            self._rows.put("spans", spans, rows.chars_of(spans))

    def _refuse_duplicate(
        self, kind: Kind, name: str, path: str, parts: Mapping[Kind, int]
    ) -> None:
        for part, count in {kind: 1, **parts}.items():
            if count:
                self._issues.append(
                    Issue(
                        Code.LOAD_DUPLICATE,
                        path,
                        f"There are two of {kind.value} {name}; this is the second.",
                        kind=part,
                        entity_id=name,
                        count=count,
                    )
                )

    # ----------------------------------------------------------------- checking, publishing

    def finish(self) -> Written:
        """Bring the staging file to the wanted schema, and check it.

        Returns what it holds, as ``publish`` will return it for a new target. Raises LedgerError
        when it does not hold exactly what was added.
        """
        self._flush_all()
        with reporting(self._target.path):
            db = self._ready()
            if self._rows.is_latest_missing:
                self._written["latest_metrics"] += audit.add_latest(db)
            refused, issues = self._target.apply_limits(db)
            self._written.subtract(refused)
            self._issues += issues
            dropped, issues = audit.drop_orphans(db)
            self._written.subtract(dropped)
            self._issues += issues
            source, rebuilt = audit.by_kind(db)
            source[Kind.EXPERIMENT] -= self._placeholders
            promoted = self._bring_to_schema(db)
            # Bringing it to the disk takes as long as checking it: both at once.
            syncing = threading.Thread(target=staging.sync_early, args=(self._file.path,))
            syncing.start()
            try:
                audit.check(db, self._written, promoted)
            finally:
                syncing.join()
            self._counts = source, rebuilt
        return Written(
            converted=+source, merged=+self._merged, rebuilt=+rebuilt, issues=list(self._issues)
        )

    def _flush_all(self) -> None:
        """Write everything that still waits: runs without their datasets, tags of experiments."""
        for run in self._waiting:
            self._write_inputs(run)
        self._waiting.clear()
        self._rows.put("experiments", self._placeholder())
        self._rows.flush()
        has_tag = "SELECT 1 FROM experiment_tags WHERE key = ? AND experiment_id = ?"
        for experiment_id, key, value in self._late_tags:
            if not self._ready().execute(has_tag, (key, experiment_id)).fetchone():
                self._put_experiment_tag(experiment_id, key, value, is_own=True)
        self._late_tags.clear()
        self._rows.flush()

    def _bring_to_schema(self, db: sqlite3.Connection) -> dict[str, int]:
        """Give the rows the shape of the wanted schema, and end the transaction.

        Returns, by table, the rows that may have become columns.
        """
        if self._target.wanted == MLFLOW_39:
            db.execute("COMMIT")
            return {}
        promoted = audit.promoted_rows(db)
        audit.remember_promoted(db)
        if self._is_kept:
            newer_columns.promote(db)
        else:
            db.execute("COMMIT")
            self._upgrade()
            db.execute("BEGIN")
        newer_columns.finish(db)
        db.execute("COMMIT")
        if audit.promoted_rows(db) == promoted:  # a schema that keeps them as rows
            db.execute("DELETE FROM temp.promoted")
        return promoted

    def _placeholder(self) -> list[Row]:
        """Return experiment 0 if MLflow could not open the database otherwise.

        See Code.LOAD_DEFAULT_ADDED.
        """
        if self._target.exists or self._has_experiment_0 or not self._has_default:
            return []
        self._placeholders = 1
        self._issues.append(
            Issue(
                Code.LOAD_DEFAULT_ADDED,
                "",
                "The experiment called Default has another id than 0; an empty, deleted "
                "experiment 0 was added.",
                kind=Kind.EXPERIMENT,
                entity_id="0",
            )
        )
        home = conventions.DEFAULT_WORKSPACE
        return [(0, "Default (empty)", "", "deleted", None, None, home)]

    def publish(self, options: PublishOptions | None = None) -> Written:
        """Give the target its new content; ``finish`` must have been called.

        A SQLite file changes in one step, a database on a server experiment by experiment, which
        can be interrupted. Raises TargetError and LedgerError; a SQLite file is then as it was.
        """
        if self._counts is None:
            raise LedgerError("The staging file was not finished; nothing was published.")
        source, rebuilt = self._counts
        staged = Staged(self._ready(), self._file.path, frozenset(self._joined))
        with reporting(self._target.path):
            there = self._target.publish(staged, options or PublishOptions())
        return Written(
            converted=+(source - there.already_there - there.rejected - there.left_out),
            already_there=+there.already_there,
            merged=+self._merged,
            left_out=+there.left_out,
            rebuilt=+(
                rebuilt
                - there.rebuilt_already_there
                - there.rebuilt_rejected
                - there.rebuilt_left_out
            ),
            rebuilt_already_there=+there.rebuilt_already_there,
            issues=[*self._issues, *there.issues],
            backup_path=there.backup_path,
            unchanged=there.unchanged,
        )
