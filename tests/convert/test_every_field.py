"""Every field of every record is read, written and verified, or is listed here with the reason.

A field that someone adds to a record with a default value could stay unread, unwritten and
unverified while all other tests pass. These tests go over ``dataclasses.fields`` instead of a list
of names, so a new field fails them until it reaches the database.

The tests start from ``SAMPLE``: one of everything, with all optional fields set. For each field
they change that one value, write both, and expect that some row of the database differs and that
``verify``, which reads through MLflow's own stores, reports a difference. And over all fixture
stores together, each field that is read has more than one value.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pytest

from migrator import empty_database, encoding, extractor, model
from migrator.loader import Writer
from migrator.loader.sqlite.target import open_sqlite
from migrator.model import (
    AssessmentRecord,
    Asset,
    DatasetRecord,
    EvaluationDatasetRecord,
    EvaluationItemRecord,
    ExperimentPlan,
    ExperimentRecord,
    InputRecord,
    LinkRecord,
    LoggedModelRecord,
    MetricPoint,
    ModelVersionRecord,
    OutputRecord,
    RegisteredModelRecord,
    RunRecord,
    ScorerRecord,
    ScorerVersionRecord,
    SpanEvent,
    SpanPlan,
    SpanRecord,
    TokenUsage,
    TracePlan,
    TraceRecord,
    WebhookEventRecord,
    WebhookRecord,
    WorkspaceRecord,
)
from migrator.transformer.experiments import FoundExperiment, plan_experiments
from migrator.transformer.native import plan_native_trace
from migrator.verification.database import DatabaseComparer
from tests.support import databasekit, fixturekit, loaderkit, storekit

only_39 = pytest.mark.skipif(
    not version("mlflow").startswith("3.9."), reason="verify opens the schema of 3.9 with 3.9 only"
)

pytestmark = pytest.mark.xdist_group("convert_every_field")

Place = tuple[str | int, ...]  # field names and indices that lead from a sample to a value
MLFLOW_39 = empty_database.MLFLOW_39
NEWEST = re.findall(r"^-- revision (\w+)", empty_database.SCHEMAS.read_text(), re.MULTILINE)[-1]
T0 = loaderkit.T0
RUN = loaderkit.hex_id("run")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One of everything that a source can hold; ``rebuilt`` is a trace made from a run."""

    experiments: tuple[ExperimentRecord, ...]
    dataset: DatasetRecord
    run: RunRecord
    model: LoggedModelRecord
    registered: RegisteredModelRecord
    trace: TraceRecord
    rebuilt: TracePlan
    evaluation: EvaluationDatasetRecord
    scorer: ScorerRecord
    webhook: WebhookRecord
    workspace: WorkspaceRecord


class Sink(Protocol):
    """What the writer and the comparer of ``verify`` have in common."""

    def add_experiment(self, plan: ExperimentPlan) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...
    def add_trace(self, plan: TracePlan, experiment_id: int) -> None: ...
    def add_asset(self, record: Asset, experiment_id: int | None) -> None: ...


def experiment(experiment_id: str) -> ExperimentRecord:
    name, location = f"agents {experiment_id}", f"/store/{experiment_id}"
    return ExperimentRecord(
        experiment_id, name, location, "active", T0, T0 + 1, {"team": "a"}, location
    )


def registered_model() -> RegisteredModelRecord:
    version = ModelVersionRecord(
        name="bot",
        version=1,
        creation_ms=T0,
        last_updated_ms=T0 + 1,
        description="first",
        user_id="ada",
        current_stage="Staging",
        source="/models/bot",
        run_id=RUN,
        status="READY",
        status_message="fine",
        run_link="https://example.com/run",
        storage_location="/models/bot",
        tags={"k": "v"},
    )
    return RegisteredModelRecord(
        "bot", T0, T0 + 2, "a bot", {"team": "a"}, {"champion": 1}, (version,), "/store/models/bot"
    )


def native_trace() -> TraceRecord:
    start_ns = T0 * loaderkit.NS
    boom = SpanEvent("exception", start_ns + 5, {"exception.message": "boom"})
    root = SpanRecord(
        span_id="00000000000000a1",
        parent_span_id=None,
        name="chat",
        start_ns=start_ns,
        end_ns=start_ns + 9 * loaderkit.NS,
        status="ERROR",
        status_message="boom",
        attributes={"mlflow.spanType": '"CHAIN"', "mlflow.spanInputs": '{"q": 1}'},
        events=(boom,),
    )
    child = dataclasses.replace(
        root, span_id="00000000000000b2", parent_span_id=root.span_id, name="call"
    )
    feedback = AssessmentRecord(
        assessment_id="a-1",
        name="quality",
        type="feedback",
        value=0.5,
        error={"error_code": "E1", "error_message": "no answer"},
        source_type="HUMAN",
        source_id="ada",
        created_ms=T0,
        last_updated_ms=T0 + 1,
        run_id=RUN,
        span_id=child.span_id,
        rationale="so so",
        overrides="a-0",
        metadata={"k": "v"},
    )
    return TraceRecord(
        trace_id="tr-" + "ab" * 16,
        experiment_id="1",
        timestamp_ms=T0,
        execution_ms=9,
        status="ERROR",
        client_request_id="request-1",
        request_preview="q",
        response_preview="a",
        tags={"team": "a"},
        metadata={"mlflow.sourceRun": RUN},
        assessments=(feedback,),
        spans=(child, root),
        path="/store/1/traces/t",
        spans_path="/store/1/traces/t/artifacts/traces.json",
        links=(LinkRecord("run", loaderkit.hex_id("linked"), T0 + 2),),
    )


def evaluation_dataset() -> EvaluationDatasetRecord:
    item = EvaluationItemRecord(
        record_id="dr-1",
        inputs='{"question": "Who?"}',
        expectations='{"answer": "Ada"}',
        outputs='{"answer": "Bob"}',
        tags='{"hard": "yes"}',
        source='{"source_type": "HUMAN"}',
        source_id="s-1",
        source_type="HUMAN",
        created_ms=T0,
        last_updated_ms=T0 + 1,
        created_by="ada",
        last_updated_by="bob",
        input_hash="a" * 64,
    )
    return EvaluationDatasetRecord(
        dataset_id="d-" + "1" * 32,
        name="questions",
        schema='{"inputs": {}}',
        profile='{"num_records": 1}',
        digest="abc",
        created_ms=T0,
        last_updated_ms=T0 + 1,
        created_by="ada",
        last_updated_by="bob",
        tags={"team": "a"},
        items=(item,),
        links=(LinkRecord("experiment", "1", T0),),
        path="/old.db/evaluation_datasets/d-1",
    )


def scorer() -> ScorerRecord:
    version = ScorerVersionRecord(1, '{"name": "polite"}', T0)
    return ScorerRecord("s-1", "1", "polite", (version,), "/old.db/experiments/1/scorers:s-1")


def webhook() -> WebhookRecord:
    return WebhookRecord(
        webhook_id="w-1",
        name="notify",
        description="tells us",
        url="https://example.com/hook",
        status="ACTIVE",
        created_ms=T0,
        last_updated_ms=T0 + 1,
        deleted_ms=T0 + 2,
        events=(WebhookEventRecord("model_version", "created"),),
        path="/old.db/webhooks/w-1",
    )


def workspace() -> WorkspaceRecord:
    return WorkspaceRecord(
        name="team-a",
        description="of team A",
        default_artifact_root="/store/team-a",
        trace_archival_location="/archive",
        trace_archival_retention="30d",
        path="/old.db/workspaces/team-a",
    )


def sample() -> Sample:
    rebuilt = loaderkit.trace()
    # Listed first, so that the fields of a span are changed in one that has all of them.
    full = dataclasses.replace(rebuilt.spans[2], run_id=RUN)
    rebuilt = dataclasses.replace(
        rebuilt,
        spans=(full, *rebuilt.spans[:2], rebuilt.spans[3]),
        client_request_id="request-2",
        # Without mlflow.sourceRun, which links the run as well.
        metadata={"mlflow.trace.session": "session-1"},
        prompts=("greeting/1",),
        links=(LinkRecord("model", "m-1", T0 + 3),),
    )
    logged = loaderkit.logged_model(status_message="fine", artifact_dir="/store/1/models/m")
    run = loaderkit.run(
        inputs=(
            InputRecord("DATASET", "d" * 32, {"mlflow.data.context": "training"}),
            InputRecord("MODEL", logged.model_id),
        ),
        outputs=(OutputRecord(logged.model_id, 3),),
        deleted_ms=T0 + 6000,
        artifact_dir="/store/1/run/artifacts",
    )
    return Sample(
        experiments=(experiment("1"), experiment("2")),
        dataset=loaderkit.dataset(),
        run=run,
        model=logged,
        registered=registered_model(),
        trace=native_trace(),
        rebuilt=rebuilt,
        evaluation=evaluation_dataset(),
        scorer=scorer(),
        webhook=webhook(),
        workspace=workspace(),
    )


SAMPLE = sample()

# Values that a field may have, where any other text or number would not be one.
OTHER_VALUES: Mapping[tuple[type, str], Any] = {
    (ExperimentRecord, "experiment_id"): "3",
    (ExperimentRecord, "lifecycle_stage"): "deleted",
    (RunRecord, "run_id"): loaderkit.hex_id("another"),
    (RunRecord, "experiment_id"): "2",
    (RunRecord, "status"): "KILLED",
    (RunRecord, "lifecycle_stage"): "deleted",
    (RunRecord, "source_type"): "NOTEBOOK",
    (RunRecord, "artifacts"): (model.ArtifactFile("a.txt", 1),),
    (DatasetRecord, "experiment_id"): "2",
    (LoggedModelRecord, "experiment_id"): "2",
    (LoggedModelRecord, "lifecycle_stage"): "deleted",
    (LoggedModelRecord, "status"): 3,
    (InputRecord, "source_type"): "MODEL",
    (ModelVersionRecord, "name"): "bot",  # the model's, see FOLLOWS
    (ModelVersionRecord, "current_stage"): "Production",
    (ModelVersionRecord, "status"): "FAILED_REGISTRATION",
    (TraceRecord, "trace_id"): "tr-" + "cd" * 16,
    (TraceRecord, "experiment_id"): "2",
    (TraceRecord, "status"): "OK",
    (SpanRecord, "span_id"): "00000000000000c3",
    (SpanRecord, "parent_span_id"): None,
    (SpanRecord, "status"): "OK",
    (SpanEvent, "attributes"): {"exception.message": "bang"},
    (AssessmentRecord, "type"): "expectation",
    (AssessmentRecord, "error"): {"error_code": "E2"},
    (AssessmentRecord, "source_type"): "CODE",
    (AssessmentRecord, "span_id"): None,
    (TracePlan, "trace_id"): "tr-" + "ef" * 16,
    (TracePlan, "experiment_id"): "2",
    (TracePlan, "status"): "OK",
    (TracePlan, "usage"): TokenUsage(1, 2, 3),
    (TracePlan, "contents"): tuple(
        encoding.span_content(SAMPLE.rebuilt.trace_id, span) for span in SAMPLE.rebuilt.spans
    ),
    (EvaluationItemRecord, "inputs"): '{"question": "What?"}',
    (EvaluationItemRecord, "expectations"): None,
    (EvaluationItemRecord, "outputs"): "{}",
    (EvaluationItemRecord, "tags"): "{}",
    (EvaluationItemRecord, "source"): "null",
    (ScorerRecord, "experiment_id"): "2",
    (SpanPlan, "span_id"): "00000000000000d4",
    (SpanPlan, "type"): "AGENT",
    (SpanPlan, "status"): "OK",
    (SpanPlan, "parent_span_id"): None,
}

FOR_MESSAGES = "says in messages where the item lies"
NOT_WRITTEN: Mapping[tuple[type, str], str] = {
    (ExperimentRecord, "path"): FOR_MESSAGES,
    (RunRecord, "path"): FOR_MESSAGES,
    (RunRecord, "artifacts"): "files stay where they are; traces are made from some",
    (RunRecord, "texts"): "traces are made from them",
    (RunRecord, "artifact_dir"): "the pipeline decides artifact_uri by it",
    (RunRecord, "deleted_with_experiment"): "lets the trees of a deleted experiment become traces",
    (LoggedModelRecord, "path"): FOR_MESSAGES,
    (LoggedModelRecord, "artifact_dir"): "the pipeline decides artifact_location by it",
    (RegisteredModelRecord, "path"): FOR_MESSAGES,
    (ModelVersionRecord, "name"): "the model's name, which is a field of its own",
    (TraceRecord, "path"): FOR_MESSAGES,
    (TraceRecord, "spans_path"): FOR_MESSAGES,
    (EvaluationDatasetRecord, "path"): FOR_MESSAGES,
    (ScorerRecord, "path"): FOR_MESSAGES,
    (WebhookRecord, "path"): FOR_MESSAGES,
    (WorkspaceRecord, "path"): FOR_MESSAGES,
    (TracePlan, "native"): "says how the trace is counted",
    (TracePlan, "name"): "is a tag",
    (TracePlan, "contents"): "the text of the spans, made early",
    (SpanPlan, "run_id"): "shown beside the run by the command show",
    (SpanPlan, "origins"): "shown by the command show",
}


def needs_workspaces(field: tuple[type, str]) -> bool:
    """Whether only a schema with workspaces can keep a field, which 3.9's is not.

    MLflow 3.9 can't open one, so ``tests/sources/test_workspaces.py`` verifies these.
    """
    record, name = field
    return record is WorkspaceRecord or name == "workspace"


# ------------------------------------------------------------------------ changing one field


def is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value) or isinstance(value, MetricPoint)


def field_names(record: Any) -> tuple[str, ...]:
    if issubclass(record, MetricPoint):
        return MetricPoint._fields
    return tuple(field.name for field in dataclasses.fields(record))


def records_in(value: object, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every record below a value with its place, outer ones first."""
    if is_record(value):
        yield place, value
        for name in field_names(type(value)):
            yield from records_in(getattr(value, name), (*place, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from records_in(item, (*place, key))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from records_in(item, (*place, number))


def with_value(value: Any, place: Place, new: object) -> Any:
    """Copy a nested value with another one at a place."""
    if not place:
        return new
    step, rest = place[0], place[1:]
    if isinstance(value, Mapping):
        return {**value, step: with_value(value[step], rest, new)}
    if isinstance(step, int):
        items = list(value)
        items[step] = with_value(items[step], rest, new)
        return tuple(items)
    changed = {step: with_value(getattr(value, step), rest, new)}
    if isinstance(value, MetricPoint):
        return value._replace(**changed)
    return dataclasses.replace(value, **changed)


def another(record: object, name: str) -> object:
    """Make a valid value of a field that differs from the record's."""
    own = getattr(record, name)
    if (type(record), name) in OTHER_VALUES:
        return OTHER_VALUES[type(record), name]
    if isinstance(own, bool):
        return not own
    if isinstance(own, (int, float)):
        return own + 1
    if isinstance(own, str):
        return f"{own}x"
    if isinstance(own, Mapping):
        is_text = all(isinstance(value, str) for value in own.values())
        return {**own, "added": "x"} if is_text else {}
    if isinstance(own, tuple) and own:
        return own[:-1]
    kind = type(record).__name__
    raise AssertionError(f"SAMPLE has no value of {kind}.{name}: give it one there")


PLACES: dict[type, Place] = {}
for place, found in records_in(SAMPLE):
    if place:
        PLACES.setdefault(type(found), place)
FIELDS = [(record, name) for record in PLACES for name in field_names(record)]


def id_of(field: tuple[type, str]) -> str:
    record, name = field
    return f"{record.__name__}.{name}"


def changed_sample(field: tuple[type, str]) -> Sample:
    record, name = field
    place = PLACES[record]
    found = next(each for at, each in records_in(SAMPLE) if at == place)
    changed: Sample = with_value(SAMPLE, (*place, name), another(found, name))
    return changed


# ------------------------------------------------------------------------ writing a sample


def hand_over(found: Sample, sink: Sink, revision: str = MLFLOW_39) -> None:
    """Give a sample to a sink, planned as the pipeline plans it for a target of a revision."""
    experiments = [FoundExperiment(0, record) for record in found.experiments]
    plans, _ = plan_experiments(experiments, [], "fail")
    ids = {plan.record.experiment_id: plan.target_id for plan in plans.values()}
    for plan in plans.values():
        sink.add_experiment(plan)
    sink.add_dataset(found.dataset, ids.get(found.dataset.experiment_id, 1))
    sink.add_run(found.run, ids.get(found.run.experiment_id, 1))
    sink.add_logged_model(found.model, ids.get(found.model.experiment_id, 1))
    sink.add_registered_model(found.registered)
    native, _ = plan_native_trace(found.trace)
    sink.add_trace(native, ids.get(native.experiment_id, 1))
    sink.add_trace(found.rebuilt, ids.get(found.rebuilt.experiment_id, 1))
    sink.add_asset(found.evaluation, None)
    sink.add_asset(found.scorer, ids.get(found.scorer.experiment_id, 1))
    sink.add_asset(found.webhook, None)
    if revision != MLFLOW_39:
        sink.add_asset(found.workspace, None)


def write(found: Sample, path: Path, revision: str = MLFLOW_39) -> None:
    with Writer(open_sqlite(f"sqlite:///{path}", revision)) as writer:
        hand_over(found, writer, revision)
        writer.finish()
        writer.publish()


def differences(found: Sample, path: Path) -> int:
    """Count what ``verify`` finds different between a sample and a database."""
    comparer = DatabaseComparer(f"sqlite:///{path}")
    hand_over(found, comparer)
    return comparer.finish().total


# ------------------------------------------------------------------------ the tests


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that SAMPLE becomes."""
    path = tmp_path_factory.mktemp("sample") / "mlflow.db"
    write(SAMPLE, path)
    return path


@pytest.fixture(scope="module")
def written_newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the newest schema, which has workspaces."""
    path = tmp_path_factory.mktemp("sample-newest") / "mlflow.db"
    write(SAMPLE, path, NEWEST)
    return path


@only_39
def test_the_sample_has_every_kind_of_record_and_is_written_as_it_is(written: Path) -> None:
    kinds = inspect.getmembers(model, inspect.isclass)
    records = {kind for name, kind in kinds if name.endswith("Record")}
    assert records - PLACES.keys() == set()
    assert differences(SAMPLE, written) == 0


@only_39
@pytest.mark.parametrize("field", [f for f in FIELDS if not needs_workspaces(f)], ids=id_of)
def test_a_change_of_any_field_reaches_the_database_and_verify(
    field: tuple[type, str], written: Path, tmp_path: Path
) -> None:
    path = tmp_path / "changed.db"
    write(changed_sample(field), path)
    is_written = loaderkit.tables(path) != loaderkit.tables(written)
    if field in NOT_WRITTEN:
        assert not is_written, f"{id_of(field)} is written: take it out of NOT_WRITTEN"
        return
    assert is_written, f"{id_of(field)} changes no row: write it, or give a reason in NOT_WRITTEN"
    assert differences(SAMPLE, path) > 0, f"verify does not compare {id_of(field)}"


@pytest.mark.parametrize("field", [f for f in FIELDS if needs_workspaces(f)], ids=id_of)
def test_a_change_of_a_workspace_reaches_the_database(
    field: tuple[type, str], written_newest: Path, tmp_path: Path
) -> None:
    path = tmp_path / "changed.db"
    write(changed_sample(field), path, NEWEST)
    is_written = loaderkit.tables(path) != loaderkit.tables(written_newest)
    assert is_written is (field not in NOT_WRITTEN)


def test_every_field_is_read_with_more_than_one_value(tmp_path: Path) -> None:
    """A field that always has its default value is not read."""
    write_rare_fields(tmp_path / "mlruns")
    database = fixturekit.database("3.5.1-database", tmp_path)
    write_rare_rows(database)
    stores = map(fixturekit.store, fixturekit.names())
    roots = [tmp_path / "mlruns", *stores, database, *write_workspaces(tmp_path)]
    values: defaultdict[tuple[type, str], set[str]] = defaultdict(set)
    for root in roots:
        for record in read_all(root):
            for _, each in records_in(record):
                for field in field_names(type(each)):
                    values[type(each), field].add(repr(getattr(each, field)))
    constant = [id_of(field) for field, found in values.items() if len(found) == 1]
    assert constant == [], "the same in every record: read them, or write them in a store here"
    read = {kind for kind, _ in values}
    assert {kind for kind in PLACES if kind.__name__.endswith("Record")} - read == set()


def write_rare_fields(root: Path) -> None:
    """Write a store whose files set what no fixture sets."""
    storekit.write_experiment(root, "1", "rare")
    storekit.write_run(
        root, "1", RUN, source_name="train.py", source_version="abc", source_type=3,
        entry_point_name="main",
    )  # fmt: skip
    storekit.write_dataset(root, "1", "data", "d1", runs=[RUN])
    storekit.write_logged_model(
        root, "1", "m-" + RUN, source_run_id=RUN, output_step=3, status=3, status_message="failed"
    )
    version = {
        "run_link": "https://example.com/run",
        "status": "FAILED_REGISTRATION",
        "status_message": "failed",
        "user_id": "ada",
    }
    storekit.write_registered_model(root, "bot", versions=[version])
    feedback = {
        "assessment_id": "a-1",
        "assessment_name": "quality",
        "create_time": "2025-06-16T09:01:32.832Z",
        "last_update_time": "2025-06-16T09:01:32.832Z",
        "feedback": {"value": 1.0},
        "run_id": RUN,
        "source": {"source_id": "ada", "source_type": "HUMAN"},
    }
    storekit.write_trace(root, "1", "tr-" + RUN, assessments={"a-1": feedback})


def write_rare_rows(database: Path) -> None:
    """Add what only databases hold: links, evaluation datasets, scorers and webhooks."""
    databasekit.execute(database, *databasekit.ASSETS)


def write_workspaces(folder: Path) -> list[Path]:
    """Write two databases of the newest schema that differ in all that is about workspaces."""
    elsewhere = SAMPLE
    for record, place in PLACES.items():
        for name in field_names(record):
            if needs_workspaces((record, name)):
                found = next(each for at, each in records_in(elsewhere) if at == place)
                elsewhere = with_value(elsewhere, (*place, name), another(found, name))
    paths = [folder / "workspaces-1.db", folder / "workspaces-2.db"]
    write(SAMPLE, paths[0], NEWEST)
    write(elsewhere, paths[1], NEWEST)
    return paths


def read_all(root: Path) -> Iterator[object]:
    """Yield every record of a store."""
    with extractor.open_source(str(root), keeps_workspaces=True) as source:
        index = source.index()
        for entry in index.experiments:
            yield source.read_experiment(entry).record
        for run in index.runs:
            yield source.read_run(run, lambda path: True).record
        for entry in index.datasets:
            yield source.read_dataset(entry).record
        for entry in index.logged_models:
            yield source.read_logged_model(entry).record
        for entry in index.registered_models:
            yield source.read_registered_model(entry).record
        for trace in index.traces:
            yield source.read_trace(trace).record
        for asset in index.assets:
            yield source.read_asset(asset).record
