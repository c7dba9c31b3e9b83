"""Builders of records for the transformer's tests: only what a test is about is spelled out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from migrator.model import (
    ArtifactFile,
    ExperimentRecord,
    Json,
    MetricPoint,
    RunEntry,
    RunRecord,
    SpanPlan,
    TracePlan,
    TreePlan,
)
from migrator.transformer import (
    PlanOptions,
    Profile,
    RunTree,
    build_forest,
    load_profiles,
    plan_tree,
)
from migrator.transformer.trace_totals import decoded

T0 = 1_700_000_000_000  # ms
MS = 1_000_000  # ns
PROFILES = load_profiles()


def run_id(name: str) -> str:
    """Return a run id of MLflow's form, the same for the same name."""
    return hashlib.md5(name.encode()).hexdigest()


def run(name: str, parent: str | None = None, **given: Any) -> RunRecord:
    """Build a run of 1 s. ``metrics`` are numbers, or lists of ``(ms after T0, value, step)``."""
    start: int | None = given.pop("start", 0)
    end: int | None = given.pop("end", 1000)
    texts: Mapping[str, str] = given.pop("texts", {})
    metrics: dict[str, tuple[MetricPoint, ...]] = {}
    for key, value in given.pop("metrics", {}).items():
        points = value if isinstance(value, list) else [(end or start or 0, value, 0)]
        metrics[key] = tuple(MetricPoint(T0 + ms, float(v), step) for ms, v, step in points)
    tags = dict(given.pop("tags", {}))
    if parent is not None:
        tags["mlflow.parentRunId"] = run_id(parent)
    identity = given.pop("id", run_id(name))
    record = RunRecord(
        run_id=identity,
        experiment_id=given.pop("experiment_id", "1"),
        name=given.pop("run_name", name),
        status=given.pop("status", "FINISHED"),
        start_ms=None if start is None else T0 + start,
        end_ms=None if end is None else T0 + end,
        lifecycle_stage="deleted" if given.pop("deleted", False) else "active",
        deleted_ms=None,
        user_id="os-user",
        source_type="LOCAL",
        source_name="app.py",
        source_version="",
        entry_point_name="",
        artifact_uri="file:///elsewhere",
        params=given.pop("params", {}),
        tags=tags,
        metrics=metrics,
        artifacts=tuple(
            ArtifactFile(path, 1) for path in sorted({*texts, *given.pop("artifacts", ())})
        ),
        texts=texts,
        inputs=(),
        outputs=(),
        path=f"/store/1/{identity}",
        artifact_dir=f"/store/1/{identity}/artifacts",
        deleted_with_experiment=given.pop("deleted_with_experiment", False),
    )
    assert not given, f"unknown: {given}"
    return record


def entry(record: RunRecord) -> RunEntry:
    folder, _, name = record.path.rpartition("/")
    return RunEntry(
        record.run_id,
        folder,
        name,
        record.experiment_id,
        False,
        record.tags.get("mlflow.parentRunId"),
    )


def plans(
    *records: RunRecord,
    profiles: tuple[Profile, ...] = PROFILES,
    options: PlanOptions | None = None,
    native: Mapping[str, tuple[str, ...]] | None = None,
    known: Iterable[str] = (),
) -> list[TreePlan]:
    """Plan all trees of the records, in the order of their roots' ids."""
    runs = {record.run_id: record for record in records}
    forest = build_forest([entry(record) for record in records])
    return [
        plan_tree(
            RunTree(tree.root_id, {i: runs[i] for i in tree.run_ids}, tree.children),
            profiles,
            options or PlanOptions(version="test"),
            native or {},
            frozenset(known),
        )
        for tree in forest.trees()
    ]


def plan(*records: RunRecord, **given: Any) -> TreePlan:
    """Plan the one tree of the records."""
    (only,) = plans(*records, **given)
    return only


def trace(*records: RunRecord, **given: Any) -> TracePlan:
    """Plan the one trace of the one tree of the records."""
    made = plan(*records, **given)
    assert len(made.traces) == 1, (made.left_as_runs, made.reasons)
    return made.traces[0]


def span(of: TracePlan, name: str) -> SpanPlan:
    (only,) = [s for s in of.spans if s.name == name]
    return only


def value(of: SpanPlan, key: str) -> Json:
    return decoded(of, key)


def experiment(identity: str, name: str, **given: Any) -> ExperimentRecord:
    return ExperimentRecord(
        experiment_id=identity,
        name=name,
        artifact_location=f"file:///store/{identity}",
        lifecycle_stage="deleted" if given.get("deleted") else "active",
        creation_ms=given.get("creation_ms", T0),
        last_update_ms=T0,
        tags=given.get("tags", {}),
        path=f"/store/{identity}",
    )


LLM: dict[str, Any] = {
    "params": {"model": "gpt-4o"},
    "metrics": {"input_tokens": 10, "output_tokens": 5},
    "texts": {"prompt.txt": "Say hello to the world", "response.txt": "Hello, world"},
}
