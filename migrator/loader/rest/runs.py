"""Writes one run through the API: creates it, fills it, marks it as complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from migrator import conventions, encoding
from migrator.counting import counted
from migrator.issues import Code, Kind
from migrator.loader.rest import clashes
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.digests import digest_of
from migrator.loader.rest.experiment_index import Found, TargetExperiment, fields_tag
from migrator.loader.rest.limits import PARAM_CHARS, TAG_CHARS, encoded, run_fields
from migrator.model import DatasetRecord, RunRecord
from migrator.outcome.written import Written

FILES = "+files"  # end of a mark: the artifacts were sent too
_NOT_SENT = frozenset({"path", "artifact_dir", "artifact_uri", "texts", "artifacts"})
_METRICS, _PER_CALL = 800, 100  # of params, and of tags; MLflow takes 1,000 in all
_BATCH_CHARS = 150_000  # of keys and values: MLflow takes a request of 1 MB, escapes included

Files = Callable[[str], Iterable[tuple[str, str, int]]]  # directory -> relative, path, bytes
Point = tuple[int, "float | None", int]  # time in ms, value (None for NaN), step


@dataclass(frozen=True, slots=True)
class Edges:
    """A run's inputs and outputs, each once."""

    datasets: Mapping[tuple[str, str], tuple[DatasetRecord, Mapping[str, str]]]
    models: tuple[str, ...]
    outputs: Mapping[str, int]  # model id in the source -> step
    merged_inputs: int
    merged_outputs: int
    unknown: tuple[str, ...]  # datasets that the source does not have


def edges_of(run: RunRecord, datasets: Mapping[str, DatasetRecord]) -> Edges:
    """Return the edges of a run; ``datasets`` are those of its experiment, by directory."""
    used: dict[tuple[str, str], tuple[DatasetRecord, Mapping[str, str]]] = {}
    models: dict[str, None] = {}
    unknown = []
    for item in run.inputs:
        if item.source_type != "DATASET":
            models[item.source_id] = None
        elif item.source_id in datasets:
            record = datasets[item.source_id]
            used.setdefault((record.name, record.digest), (record, item.tags))
        else:
            unknown.append(item.source_id)
    outputs: dict[str, int] = {}
    for output in run.outputs:
        outputs.setdefault(output.model_id, output.step)
    merged = len(run.inputs) - len(used) - len(models) - len(unknown)
    return Edges(
        used, tuple(models), outputs, merged, len(run.outputs) - len(outputs), tuple(unknown)
    )


@dataclass(slots=True)
class RunJob:
    """A run on its way to the server."""

    run: RunRecord
    experiment: TargetExperiment
    edges: Edges
    mark: str
    found: Found | None
    new_id: str = ""
    there: Any = None  # the server's run, if an earlier conversion made one
    points_there: dict[str, set[Point]] = field(default_factory=dict)
    clash: str = ""  # why that is a different run
    refused: bool = False  # the server does not create it
    failed: bool = False  # the server failed at a part, which the next conversion sends again
    sent: tuple[int, int] = (0, 0)  # files and bytes
    written: Written = field(default_factory=Written)

    @property
    def is_complete(self) -> bool:
        """True if an earlier conversion wrote all of it."""
        found = self.found
        if found is None or found.mark is None:
            return False
        return found.mark in (self.mark, self.mark.removesuffix(FILES) + FILES)

    @property
    def needs_models(self) -> bool:
        """True if it can only be completed when the logged models are there."""
        return bool(self.edges.models or self.edges.outputs)


def mark_of(run: RunRecord, files: bool) -> str:
    """Return the mark of a run; ``files`` is True if its artifacts are sent too."""
    return digest_of(run, _NOT_SENT) + (FILES if files and run.artifact_dir else "")


def points_of(run: RunRecord) -> dict[str, dict[Point, float]]:
    """Return each metric's points as the server keeps them, without repeats."""
    points: dict[str, dict[Point, float]] = {}
    for key, of_key in run.metrics.items():
        once = points[key] = {}
        for point in of_key:
            once.setdefault((point.timestamp_ms, encoded(point.value), point.step), point.value)
    return points


def count_there(job: RunJob) -> None:
    """Count a run that is complete, and all of its parts."""
    run, edges, written = job.run, job.edges, job.written
    points = sum(map(len, points_of(run).values()))
    _count_merged(job, points)
    for kind, n in (
        (Kind.RUN, 1),
        (Kind.PARAM, len(run.params)),
        (Kind.TAG, len(run.tags)),
        (Kind.METRIC_POINT, points),
        (Kind.INPUT, len(edges.datasets) + len(edges.models)),
        (Kind.OUTPUT, len(edges.outputs)),
    ):
        written.count(kind, n, new=False)


def _count_merged(job: RunJob, points: int) -> None:
    merged = job.written.merged
    merged[Kind.METRIC_POINT] += sum(map(len, job.run.metrics.values())) - points
    merged[Kind.INPUT] += job.edges.merged_inputs
    merged[Kind.OUTPUT] += job.edges.merged_outputs
    for dataset in job.edges.unknown:
        job.written.issue(
            Code.LOAD_WITHOUT_PARENT,
            Kind.INPUT,
            f"{job.run.run_id}/{dataset}",
            f"Run {job.run.run_id} used dataset {dataset}, which is not in experiment "
            f"{job.run.experiment_id}.",
            path=job.run.path,
        )


def create(server: Connection, job: RunJob) -> None:
    """Create a run with its old id in a tag, so that it is found again. Raises TargetError.

    A run that the server refuses is rejected with all its parts.
    """
    from mlflow.entities import RunTag

    run = job.run
    try:
        made = server.call(
            server.store.create_run,
            job.experiment.experiment_id,
            encoding.clean_text(run.user_id),
            run.start_ms or 0,
            [RunTag(conventions.MIGRATOR_SOURCE_RUN, run.run_id)],
            _name_of(run),
        )
    except Refused as error:
        job.refused = True
        message = f"Run {run.run_id}: {error}."
        job.written.reject_parts(error.code, run.run_id, message, _parts_of(run), run.path)
        return
    job.new_id = made.info.run_id


def _parts_of(run: RunRecord) -> dict[Kind, int]:
    return {
        Kind.RUN: 1,
        Kind.PARAM: len(run.params),
        Kind.TAG: len(run.tags),
        Kind.METRIC_POINT: sum(map(len, run.metrics.values())),
        Kind.INPUT: len(run.inputs),
        Kind.OUTPUT: len(run.outputs),
    }


def _name_of(run: RunRecord) -> str:
    return encoding.clean_text(run.name) or run.run_id


def look(server: Connection, job: RunJob) -> None:
    """Read the run that an earlier conversion made, and compare it. Raises TargetError.

    If it is a different run, the source's is rejected with all its parts.
    """
    run = job.run
    there = job.there = server.call(server.store.get_run, job.new_id)
    points = points_of(run)
    job.points_there = {
        key: _history(server, job.new_id, key) for key in points if key in there.data.metrics
    }
    params = {k: encoding.clean_text(v)[:PARAM_CHARS] for k, v in run.params.items()}
    job.clash = clashes.of_run(there, run.start_ms, params, points, job.points_there)
    if not job.clash:
        return
    message = f"The target has another run {run.run_id}, as {job.new_id}: {job.clash}."
    for kind, count in _parts_of(run).items():
        if count:
            job.written.issue(
                Code.ENTITY_CLASHES, kind, run.run_id, message, path=run.path,
                kept="what the target has", count=count,
            )  # fmt: skip


def fill(
    server: Connection, job: RunJob, parent: str | None, files_of: Files | None
) -> tuple[int, int]:
    """Add everything that a run lacks except its models, and mark it unless it needs those.

    ``parent`` is the new id of its parent, None if that is not known yet. Returns the number of
    files sent, and their bytes.
    """
    from mlflow.entities import Metric, Param, RunTag

    run, written = job.run, job.written
    there = job.there
    written.count(Kind.RUN, 1, new=job.found is None)
    points = points_of(run)
    _count_merged(job, sum(map(len, points.values())))
    _send_datasets(server, job, there)
    sent = _send_files(server, job, files_of) if files_of is not None else (0, 0)
    _finish_status(server, job, there)

    params = _lacking(job, Kind.PARAM, run.params, there and there.data.params, PARAM_CHARS)
    tags = _lacking(job, Kind.TAG, _tags_of(job, parent), there and there.data.tags, TAG_CHARS)
    metrics = []
    for key, of_key in points.items():
        known = job.points_there.get(key, set())
        lacking = [(point, value) for point, value in of_key.items() if point not in known]
        written.count(Kind.METRIC_POINT, len(of_key) - len(lacking), new=False)
        metrics += [Metric(key, value, p[0], p[2]) for p, value in lacking]
    items = [
        *(Param(key, value) for key, value in params),
        *metrics,
        *(RunTag(key, value) for key, value in tags),
    ]
    for batch in _batches(items):
        _send(server, job, batch)
    if not job.needs_models:
        mark(server, job)
    return sent


def mark(server: Connection, job: RunJob) -> None:
    """Mark a run as complete, unless the server failed at a part of it. Raises TargetError."""
    from mlflow.entities import RunTag

    if job.failed:
        return
    server.call(server.store.set_tag, job.new_id, RunTag(conventions.MIGRATOR_DIGEST, job.mark))


# ---------------------------------------------------------------------------- logged models


def link_models(server: Connection, new_ids: Mapping[str, str], job: RunJob) -> None:
    """Link a run with the models that it used and made; then it is complete.

    ``new_ids`` are those of the server's logged models by those of the source.
    """
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    store = server.store
    there = server.call(store.get_run, job.new_id)
    known = {each.model_id for each in there.inputs.model_inputs or ()}
    made = {each.model_id for each in there.outputs.model_outputs or ()}
    job.written = Written()
    for old in job.edges.models:
        new_id = new_ids.get(old, old)
        ask = partial(store.log_inputs, job.new_id, None, [LoggedModelInput(new_id)])
        _link(server, job, (Kind.INPUT, old), None if new_id in known else ask)
    for old, step in job.edges.outputs.items():
        new_id = new_ids.get(old, old)
        ask = partial(store.log_outputs, job.new_id, [LoggedModelOutput(new_id, step)])
        _link(server, job, (Kind.OUTPUT, old), None if new_id in made else ask)
    mark(server, job)


def _link(
    server: Connection, job: RunJob, edge: tuple[Kind, str], ask: Callable[[], object] | None
) -> None:
    """Link a run with a model by a request; None: the link is there."""
    kind, model = edge
    if ask is None:
        job.written.count(kind, 1, new=False)
        return
    try:
        server.call(ask)
    except Refused as error:
        job.failed |= not error.is_lasting
        job.written.issue(
            Code.SERVER_REFUSED, kind, f"{job.run.run_id}/{model}",
            f"Logged model {model} as {kind.value} {job.run.run_id}: {error}.",
            path=job.run.path,
        )  # fmt: skip
    else:
        job.written.count(kind, 1, new=True)


def _tags_of(job: RunJob, parent: str | None) -> dict[str, str]:
    """Return the tags to write: the source's, and ours, which are not counted."""
    run = job.run
    tags = dict(run.tags)
    if conventions.RUN_NAME in tags:
        tags[conventions.RUN_NAME] = _name_of(run)  # MLflow keeps tag and name equal
    if parent is not None:
        tags[conventions.PARENT_RUN_ID] = parent
    fields = {**run_fields(run), "artifact_uri": run.artifact_uri}
    if run.tags.get(conventions.RUN_NAME, run.name) != run.name:
        fields["name_tag"] = run.tags[conventions.RUN_NAME]
    tags[conventions.MIGRATOR_SOURCE_FIELDS] = fields_tag(fields)
    return tags


def _lacking(
    job: RunJob,
    kind: Kind,
    wanted: Mapping[str, str],
    there: Mapping[str, str] | None,
    limit: int,
) -> list[tuple[str, str]]:
    """Return the params or tags that the run lacks, cut to the API's limit; count the others."""
    own = job.run.params if kind is Kind.PARAM else job.run.tags
    lacking, differ = [], []
    for key, whole in wanted.items():
        value = encoding.clean_text(whole)
        if len(value) > limit:
            job.written.issue(
                Code.SERVER_VALUE_CUT, kind, f"{job.run.run_id}/{key}",
                f"{kind.value} {key} of run {job.run.run_id} has {len(value):,} characters.",
                path=job.run.path, kept=f"the first {limit:,}",
            )  # fmt: skip
            value = value[:limit]
        if there is None or key not in there:
            lacking.append((key, value))
            continue
        if there[key] != value and key in own:
            differ.append(key)
        job.written.count(kind, key in own, new=False)
    if differ:
        job.written.issue(
            Code.TARGET_DIFFERS, kind, f"{job.run.run_id}/{differ[0]}",
            f"Run {job.new_id} of the target has {len(differ)} of kind {kind.value} with other "
            f"values: {', '.join(differ[:3])}.",
            path=job.run.path, kept="what the target has", count=len(differ),
        )  # fmt: skip
    return lacking


def _send(server: Connection, job: RunJob, items: Sequence[Any]) -> None:
    """Log a batch. If the server refuses it, log its halves, down to the items refused."""
    metrics, params, tags = _by_type(items)
    try:
        server.call(server.store.log_batch, job.new_id, metrics, params, tags)
    except Refused as error:
        if len(items) > 1:
            half = len(items) // 2
            _send(server, job, items[:half])
            _send(server, job, items[half:])
            return
        job.failed |= not error.is_lasting
        key = items[0].key
        kind = _kind_of(metrics, params)
        if tags and key not in job.run.tags:
            raise server.lost(f"it refuses tag {key}: {error}") from error
        job.written.issue(
            Code.SERVER_REFUSED, kind, f"{job.run.run_id}/{key}",
            f"{kind.value} {key} of run {job.run.run_id}: {error}.", path=job.run.path,
        )  # fmt: skip
        return
    job.written.count(Kind.METRIC_POINT, len(metrics), new=True)
    job.written.count(Kind.PARAM, len(params), new=True)
    job.written.count(Kind.TAG, sum(tag.key in job.run.tags for tag in tags), new=True)


def _kind_of(metrics: Sequence[Any], params: Sequence[Any]) -> Kind:
    if metrics:
        return Kind.METRIC_POINT
    return Kind.PARAM if params else Kind.TAG


def _by_type(items: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    from mlflow.entities import Metric, Param

    metrics = [item for item in items if isinstance(item, Metric)]
    params = [item for item in items if isinstance(item, Param)]
    return metrics, params, [i for i in items if not isinstance(i, Metric | Param)]


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield batches of items that fit into one call each."""
    batch: list[Any] = []
    chars = 0
    counts: Counter[type] = Counter()
    for item in items:
        size = len(item.key) + (len(item.value) if isinstance(item.value, str) else 60)
        full = counts[type(item)] >= (_PER_CALL if isinstance(item.value, str) else _METRICS)
        if batch and (full or chars + size > _BATCH_CHARS):
            yield batch
            batch, chars, counts = [], 0, Counter()
        batch.append(item)
        counts[type(item)] += 1
        chars += size
    if batch:
        yield batch


def _history(server: Connection, run_id: str, key: str) -> set[Point]:
    points = server.metric_history(run_id, key)
    return {(point.timestamp, encoded(point.value), point.step) for point in points}


def _send_datasets(server: Connection, job: RunJob, there: Any) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    known: set[tuple[str, str]] = set()
    if there is not None:
        known = {(i.dataset.name, i.dataset.digest) for i in there.inputs.dataset_inputs}
    for name, (record, tags) in job.edges.datasets.items():
        if name in known:
            job.written.count(Kind.INPUT, 1, new=False)
            continue
        dataset = Dataset(
            record.name, record.digest, record.source_type, record.source, record.schema,
            record.profile,
        )  # fmt: skip
        entry = DatasetInput(dataset, [InputTag(key, value) for key, value in tags.items()])
        try:
            server.call(server.store.log_inputs, job.new_id, [entry])
        except Refused as error:
            job.failed |= not error.is_lasting
            job.written.issue(
                Code.SERVER_REFUSED, Kind.INPUT, f"{job.run.run_id}/{record.dataset_id}",
                f"Dataset {record.name} as input of run {job.run.run_id}: {error}.",
                path=job.run.path,
            )  # fmt: skip
        else:
            job.written.count(Kind.INPUT, 1, new=True)


def _finish_status(server: Connection, job: RunJob, there: Any) -> None:
    from mlflow.entities import RunStatus

    run = job.run
    info = there.info if there is not None else None
    if info is None and run.status == "RUNNING" and run.end_ms is None:
        return
    if info is not None and (info.status, info.end_time) == (run.status, run.end_ms):
        return
    try:
        server.call(
            server.store.update_run_info,
            job.new_id,
            RunStatus.from_string(run.status),
            run.end_ms,
            None,
        )
    except Refused as error:
        raise server.lost(f"it refuses the end of run {run.run_id}: {error}") from error


def _send_files(server: Connection, job: RunJob, files_of: Files) -> tuple[int, int]:
    """Upload the run's artifacts; return their number and bytes. A failure is an issue."""
    run = job.run
    files = list(files_of(run.artifact_dir)) if run.artifact_dir else []
    if not files:
        return 0, 0
    place = server.call(server.store.get_run, job.new_id).info.artifact_uri
    owner = FilesOwner(Kind.RUN, run.run_id, run.path)
    sent = send_files(server, job.written, owner, place, files)
    if not sent[0]:
        job.mark = job.mark.removesuffix(FILES)  # so that the next conversion sends them
    return sent


@dataclass(frozen=True, slots=True)
class FilesOwner:
    """The run or model that has artifacts."""

    kind: Kind
    entity_id: str
    path: str  # of its meta.yaml


def send_files(
    server: Connection,
    written: Written,
    owner: FilesOwner,
    place: str,
    files: Sequence[tuple[str, str, int]],
) -> tuple[int, int]:
    """Upload files to a location of the server; return their number and bytes."""
    why = ""
    if _is_local(place) and not server.is_here:
        why = f"the server keeps artifacts in a directory of its own machine ({place})"
    else:
        try:
            server.upload(place, [(name, opened) for name, opened, _ in files])
        except Refused as error:
            why = str(error)
    if not why:
        return len(files), sum(size for _, _, size in files)
    unsent = counted(len(files), "artifact")
    written.issue(
        Code.SERVER_ARTIFACTS_LEFT, owner.kind, owner.entity_id,
        f"{unsent} of {owner.kind.value} {owner.entity_id} not sent: {why}.", path=owner.path,
    )  # fmt: skip
    return 0, 0


def _is_local(uri: str) -> bool:
    return uri.startswith(("/", "file:", "./")) or ("://" not in uri and ":/" not in uri)
