"""The two sums that must hold for everything the extractor reads, whatever lies on the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from migrator.extractor.filestore import FileStoreSource
from migrator.issues import Issue, Kind, Severity
from migrator.model import (
    DatasetRecord,
    ExperimentRecord,
    Extracted,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    SourceIndex,
    TraceRecord,
)
from migrator.paths import readable_path


def kept_of(record: object) -> Counter[Kind]:
    """Return how many entities of each kind a record holds."""
    kept: Counter[Kind] = Counter()
    if isinstance(record, ExperimentRecord):
        kept.update({Kind.EXPERIMENT: 1, Kind.EXPERIMENT_TAG: len(record.tags)})
    elif isinstance(record, RunRecord):
        kept.update(
            {
                Kind.RUN: 1,
                Kind.PARAM: len(record.params),
                Kind.TAG: len(record.tags),
                Kind.METRIC_POINT: sum(map(len, record.metrics.values())),
                Kind.INPUT: len(record.inputs),
                Kind.OUTPUT: len(record.outputs),
            }
        )
    elif isinstance(record, DatasetRecord):
        kept[Kind.DATASET] = 1
    elif isinstance(record, TraceRecord):
        kept.update(
            {
                Kind.TRACE: 1,
                Kind.TRACE_TAG: len(record.tags),
                Kind.TRACE_METADATA: len(record.metadata),
                Kind.SPAN: len(record.spans),
                Kind.ASSESSMENT: len(record.assessments),
            }
        )
    elif isinstance(record, LoggedModelRecord):
        kept.update(
            {
                Kind.LOGGED_MODEL: 1,
                Kind.LOGGED_MODEL_PARAM: len(record.params),
                Kind.LOGGED_MODEL_TAG: len(record.tags),
                Kind.LOGGED_MODEL_METRIC: len(record.metrics),
            }
        )
    elif isinstance(record, RegisteredModelRecord):
        kept.update(
            {
                Kind.REGISTERED_MODEL: 1,
                Kind.REGISTERED_MODEL_TAG: len(record.tags),
                Kind.ALIAS: len(record.aliases),
                Kind.MODEL_VERSION: len(record.versions),
                Kind.MODEL_VERSION_TAG: sum(len(version.tags) for version in record.versions),
            }
        )
    else:
        assert record is None, f"not a record: {record!r}"
    return kept


def rejected_of(issues: tuple[Issue, ...]) -> Counter[Kind]:
    """Return how many entities of each kind the issues reject."""
    rejected: Counter[Kind] = Counter()
    for issue in issues:
        if issue.severity is Severity.REJECTED and issue.kind is not None:
            rejected[issue.kind] += issue.count
    return rejected


def assert_closed(result: Extracted[Any]) -> None:
    """Assert found = kept + merged + rejected for each kind, and that every issue can be shown."""
    kept, rejected = kept_of(result.record), rejected_of(result.issues)
    for kind in Kind:
        found = result.found.get(kind, 0)
        merged = result.merged.get(kind, 0)
        assert found == kept[kind] + merged + rejected[kind], (
            f"{kind.value}: found {found}, kept {kept[kind]}, merged {merged}, "
            f"rejected {rejected[kind]}: {result.issues}"
        )
    for issue in result.issues:
        assert issue.message and issue.count > 0
        f"{readable_path(issue.path)}{issue.message}{issue.kept}".encode()


def read_all(
    index: SourceIndex,
    *,
    wanted: Callable[[str], bool] = lambda path: True,
    artifact_roots: tuple[str, ...] = (),
) -> Iterator[Extracted[Any]]:
    """Read every entity that an index holds."""
    source = FileStoreSource(index.root, artifact_roots)
    for experiment in index.experiments:
        yield source.read_experiment(experiment)
    for run in index.runs:
        yield source.read_run(run, wanted)
    for dataset in index.datasets:
        yield source.read_dataset(dataset)
    for trace in index.traces:
        yield source.read_trace(trace)
    for model in index.logged_models:
        yield source.read_logged_model(model)
    for registered in index.registered_models:
        yield source.read_registered_model(registered)


def assert_census(index: SourceIndex, results: list[Extracted[Any]]) -> None:
    """Assert that every regular file is read, referred to, or named as ignored."""
    accounted = sum(r.files_read + r.files_referred + r.files_ignored for r in results)
    assert index.files == accounted + index.ignored_files, (
        f"{index.files} files, {accounted} accounted for, {index.ignored_files} ignored by the "
        f"index: {index.issues}"
    )
