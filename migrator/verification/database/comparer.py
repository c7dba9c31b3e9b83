"""Takes every item that was decided, and compares it with what a database holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrator import conventions, extractor
from migrator.errors import TargetError
from migrator.issues import Kind
from migrator.model import (
    ArtifactCopy,
    Asset,
    DatasetRecord,
    ExistingExperiment,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.object_stores import RemoteFolder, explained
from migrator.verification.database.assets import compare_asset
from migrator.verification.database.changes import TargetChanges
from migrator.verification.database.models import compare_logged_model, compare_registered_model
from migrator.verification.database.opening import open_database
from migrator.verification.database.recorder import Compared, ComparisonRecorder
from migrator.verification.database.runs import RunComparison
from migrator.verification.database.traces import TraceComparison
from migrator.verification.findings import MISSING, Findings, VerifyResult
from migrator.verification.reading import existing_experiment, read_entity, reading

_EXPERIMENTS_PER_PAGE = 1000
_RUNS_PER_QUERY = 500
_OURS = "migrator."


class DatabaseComparer:
    """Compares what is handed to it with a database that MLflow can open.

    Items are buffered and compared in chunks; memory follows the largest item and the number of
    ids. The database is opened read-only.

    Raises ``TargetError`` when ``uri`` (``sqlite:///path``, ``postgresql://…``, ``mysql://…``)
    names no MLflow database, or one of a schema revision that the installed MLflow does not read.

    With ``joined`` an experiment with ``ExperimentPlan.merged`` may be another one, which keeps its
    own fields (``--on-conflict merge``). Otherwise it is the one that the source's became in an
    earlier conversion, and is compared; but experiment 0, which MLflow makes in every database, may
    be the database's own.
    """

    def __init__(self, uri: str, *, joined: bool = False) -> None:
        self._uri = uri
        self._joined = joined
        self._database = open_database(uri)
        self.shown = self._database.shown
        self._findings = Findings(TargetChanges(self._database.tracking).made)
        self._runs = RunComparison(self._database, self._findings)
        self._traces = TraceComparison(self._database, self._findings)
        self._experiments: dict[int, _ExpectedExperiment] = {}
        self._seen: set[tuple[Kind, str]] = set()

    lot_runs = 250  # of a recorder: each query costs as much as reading some runs

    @property
    def has_workspaces(self) -> bool:
        """Whether what is in it may be in several workspaces."""
        return self._database.has_workspaces

    @property
    def largest_id(self) -> int:
        """The largest experiment id that the database can hold."""
        return self._database.largest_id

    @property
    def collation_key(self) -> Callable[[str], str]:
        """Key function: names that the database treats as equal get equal keys."""
        return self._database.collation_key

    @reading
    def experiments(self) -> tuple[ExistingExperiment, ...]:
        """Return every experiment that the database has, deleted ones too."""
        from mlflow.entities import ViewType

        found: list[ExistingExperiment] = []
        token = None
        while True:
            page = self._database.tracking.search_experiments(
                ViewType.ALL, _EXPERIMENTS_PER_PAGE, page_token=token
            )
            found += [existing_experiment(int(item.experiment_id), item) for item in page]
            token = page.token
            if not token:
                return tuple(sorted(found, key=lambda each: each.target_id))

    @reading
    def experiments_of_runs(self, run_ids: Sequence[str]) -> frozenset[int]:
        """Return the ids of the experiments that have one of these runs."""
        from mlflow.store.tracking.dbmodels.models import SqlRun

        found: set[int] = set()
        with self._database.tracking.ManagedSessionMaker() as session:
            for start in range(0, len(run_ids), _RUNS_PER_QUERY):
                some = run_ids[start : start + _RUNS_PER_QUERY]
                query = session.query(SqlRun.experiment_id).filter(SqlRun.run_uuid.in_(some))
                found.update(int(number) for (number,) in query.distinct())
        return frozenset(found)

    # --------------------------------------------------------------- sharing among processes

    def recorder(self) -> ComparisonRecorder:
        """Make a recorder, which compares runs and traces in another process.

        The datasets must have been added. Another process may inherit our connections, so they are
        closed.
        """
        self._database.close()
        return ComparisonRecorder(self._uri, self._runs.dataset_names)

    def replay(self, recorded: Compared) -> None:
        """Add what a recorder has compared. The walk gives each run to one process only."""
        self._findings.add(recorded.findings)
        self._database.tracking.add_given(recorded.given)
        for experiment_id, trace_ids in recorded.trace_ids.items():
            self._traces.trace_ids[experiment_id] |= trace_ids
            self._seen.update((Kind.TRACE, trace_id) for trace_id in trace_ids)

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
        if not self._is_second(Kind.RUN, run.run_id):
            self._runs.add(run, experiment_id)

    @reading
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Expect a dataset of an experiment."""
        name = f"{experiment_id}/{record.name}/{record.digest}"
        self._runs.add_dataset(record, experiment_id, again=self._is_second(Kind.DATASET, name))

    @reading
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Expect a logged model, with its params, tags and metrics."""
        if not self._is_second(Kind.LOGGED_MODEL, record.model_id):
            compare_logged_model(self._database, self._findings, record, experiment_id)

    @reading
    def add_registered_model(self, record: RegisteredModelRecord) -> None:
        """Expect a registered model or prompt, with its versions, aliases and tags."""
        if not self._is_second(Kind.REGISTERED_MODEL, record.full_name):
            compare_registered_model(self._database, self._findings, record)

    @reading
    def add_asset(self, record: Asset, experiment_id: int | None) -> None:
        """Expect an evaluation dataset, scorer or webhook with its parts."""
        compare_asset(self._database, self._findings, record, experiment_id)

    @reading
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Expect a trace, with its spans, tags, metadata, token counts and assessments."""
        if not self._is_second(Kind.TRACE, plan.trace_id):
            self._traces.add(plan, experiment_id)

    def compare_copies(self, copies: Iterable[ArtifactCopy]) -> None:
        """Compare every file of copied artifacts with its source, by size and SHA-256."""
        remote: RemoteFolder | None = None
        for copy in copies:
            is_remote = "://" in copy.target
            for relative, path, _ in extractor.artifact_files(copy.source, copy.bound):
                expected = _file_state(path)
                if is_remote:
                    with explained(copy.target, TargetError):
                        remote = remote or RemoteFolder(copy.target, TargetError)
                        found = _object_state(remote, f"{copy.target}/{relative}")
                else:
                    found = _file_state(str(Path(copy.target, relative)))
                if expected != found:
                    name = f"artifact {relative}"
                    self._findings.differs(copy.kind, copy.entity_id, name, expected, found)

    @reading
    def finish(self) -> VerifyResult:
        """Compare what is still buffered, close the database, and return the result."""
        self._compare_experiments()
        self._runs.finish()
        self._traces.flush()
        self._traces.search(self._experiments)
        self._database.close()
        return self._findings.result()

    def _is_second(self, kind: Kind, entity_id: str) -> bool:
        known = len(self._seen)
        self._seen.add((kind, entity_id))
        return len(self._seen) == known

    # ------------------------------------------------------------------------ experiments

    def _compare_experiments(self) -> None:
        for experiment_id, expected in sorted(self._experiments.items()):
            found = read_entity(self._database.tracking.get_experiment, str(experiment_id))
            self._compare_experiment(experiment_id, expected, found)

    def _compare_experiment(
        self, experiment_id: int, expected: _ExpectedExperiment, found: Any
    ) -> None:
        of = self._findings.entity(Kind.EXPERIMENT, str(experiment_id), found)
        if of is None:
            return
        plan = expected.plan
        keeps_its_own = plan is None or (plan.merged and self._is_another(plan, found))
        if plan is not None and not keeps_its_own:
            record = plan.record
            of.check("name", plan.target_name, found.name)
            if self.has_workspaces:
                of.check("workspace", record.workspace, found.workspace)
            of.check("artifact_location", plan.artifact_location, found.artifact_location)
            of.check("lifecycle_stage", record.lifecycle_stage, found.lifecycle_stage)
            of.check_known("creation_time", record.creation_ms, found.creation_time)
            if not _was_used_there(plan, found):
                of.check_known("last_update_time", record.last_update_ms, found.last_update_time)
        allowed = {conventions.EXPERIMENT_KIND, *expected.own_tags}
        if keeps_its_own:
            allowed = set(found.tags)
        of.mapping(Kind.EXPERIMENT_TAG, "tag", expected.tags, found.tags, allowed=allowed)
        of.count(Kind.EXPERIMENT_TAG, len(expected.own_tags - expected.tags.keys()))
        for key in sorted(expected.own_tags - found.tags.keys()):
            of.differs(f"tag {key}", "one", MISSING)

    def _is_another(self, plan: ExperimentPlan, found: Any) -> bool:
        """Return True for a merged experiment that is the database's own, not converted by us."""
        may_be_another = self._joined or plan.target_id == 0
        return may_be_another and plan.record.creation_ms != found.creation_time


def _was_used_there(plan: ExperimentPlan, found: Any) -> bool:
    """Whether people changed an experiment in the database, which sets its last update."""
    if not plan.merged:
        return False
    if found.name != plan.record.name:
        return True
    updated_ms = plan.record.last_update_ms
    return bool(updated_ms) and (found.last_update_time or 0) > (updated_ms or 0)


@dataclass(slots=True)
class _ExpectedExperiment:
    plan: ExperimentPlan | None = None
    tags: dict[str, str] = field(default_factory=dict)
    own_tags: set[str] = field(default_factory=set)


def _file_state(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return _state(file)
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"(unreadable: {error.strerror})"


def _object_state(remote: RemoteFolder, address: str) -> str:
    try:
        with remote.filesystem.open(remote.key_of(address), "rb") as file:
            return _state(file)
    except FileNotFoundError:
        return MISSING


def _state(file: Any) -> str:
    digest, size = hashlib.sha256(), 0
    while block := file.read(1 << 20):
        digest.update(block)
        size += len(block)
    return f"{size:,} bytes, SHA-256 {digest.hexdigest()[:16]}…"
