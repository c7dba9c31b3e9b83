"""Compares runs with their metrics, inputs, outputs and artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from migrator import conventions
from migrator.issues import Kind
from migrator.model import DatasetRecord, RunRecord
from migrator.verification.findings import NOTHING, Entity
from migrator.verification.reading import source_fields
from migrator.verification.rest.served import Server, ServerExperiment
from migrator.verification.values import expected_point, found_point

_PARAM_CHARS, _TAG_CHARS = 6000, 8000


class RunComparison:
    """Compares runs one by one, and remembers the datasets that they may use."""

    def __init__(self, server: Server, *, files: bool) -> None:
        """With ``files`` the artifacts are expected on the server too."""
        self._server = server
        self._files = files
        self._datasets: dict[tuple[int, str], tuple[str, str]] = {}  # names and digests

    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None:
        """Remember a dataset by its experiment and directory."""
        self._datasets[experiment_id, record.dataset_id] = (record.name, record.digest)

    def compare(
        self, run: RunRecord, experiment_id: int, experiment: ServerExperiment | None
    ) -> None:
        """Compare a run; ``experiment`` is None if the server lacks it."""
        server = self._server
        new_id = None if experiment is None else experiment.runs.get(run.run_id)
        found: Any = None
        if new_id is not None:
            found = server.read(server.client.get_run, new_id)
        of = server.findings.entity(Kind.RUN, run.run_id, found)
        if of is None:
            return
        server.exceptions["run-id"] += 1
        server.exceptions["run-name"] += not run.name
        server.exceptions["artifacts"] += 1
        self._compare_fields(of, run, found)
        server.compare_texts(of, Kind.PARAM, run.params, found.data.params, _PARAM_CHARS)
        server.compare_texts(of, Kind.TAG, self._tags_of(run), found.data.tags, _TAG_CHARS)
        self._compare_metrics(of, run, found)
        self._compare_inputs(of, run, experiment_id, found)
        self._compare_outputs(of, run, found)
        if self._files and run.artifacts:
            expected = sorted((each.path, each.size_bytes) for each in run.artifacts)
            of.check("artifacts", expected, sorted(self._files_of(found.info.run_id)))

    def _compare_fields(self, of: Entity, run: RunRecord, found: Any) -> None:
        info, fields = found.info, source_fields(found.data.tags)
        of.check("name", run.name or run.run_id, info.run_name)
        of.check("status", run.status, info.status)
        of.check("start_time", run.start_ms or 0, info.start_time)
        of.check("end_time", run.end_ms, info.end_time)
        of.check("lifecycle_stage", run.lifecycle_stage, info.lifecycle_stage)
        of.check("user_id", run.user_id, info.user_id or "")
        of.check("artifact_uri", run.artifact_uri, fields.get("artifact_uri"))
        of.check("source_name", run.source_name or None, fields.get("source_name"))
        of.check("source_version", run.source_version or None, fields.get("source_version"))
        of.check("entry_point_name", run.entry_point_name or None, fields.get("entry_point_name"))
        of.check("deleted_time", run.deleted_ms or None, fields.get("deleted_ms"))

    def _tags_of(self, run: RunRecord) -> dict[str, str]:
        """Return the tags that the server is to have: with its ids, and the run's own name."""
        tags = dict(run.tags)
        name = run.name or run.run_id
        if conventions.RUN_NAME in tags:
            self._server.exceptions["run-name-tag"] += tags[conventions.RUN_NAME] != name
            tags[conventions.RUN_NAME] = name
        if conventions.PARENT_RUN_ID in tags and run.parent_run_id in self._server.runs:
            tags[conventions.PARENT_RUN_ID] = self._server.runs[run.parent_run_id]
        return tags

    def _compare_metrics(self, of: Entity, run: RunRecord, found: Any) -> None:
        server = self._server
        expected_keys = {key for key, points in run.metrics.items() if points}
        for key in sorted(found.data.metrics.keys() - expected_keys):
            of.differs(f"metric {key}", NOTHING, str(found.data.metrics[key]))
        for key in sorted(expected_keys):
            points = {expected_point(p) for p in run.metrics[key] if p.timestamp_ms >= 0}
            early = sum(point.timestamp_ms < 0 for point in run.metrics[key])
            server.exceptions["negative-time"] += early
            read = server.client.get_metric_history
            history = server.read(read, found.info.run_id, key) or ()
            of.count(Kind.METRIC_POINT, len(points))
            of.points(f"metric {key}", points, [found_point(metric) for metric in history])

    def _compare_inputs(self, of: Entity, run: RunRecord, experiment_id: int, found: Any) -> None:
        datasets: dict[tuple[str, str], Mapping[str, str]] = {}
        models = set()
        for item in run.inputs:
            if item.source_type != "DATASET":
                models.add(self._server.models.get(item.source_id, item.source_id))
            elif (experiment_id, item.source_id) in self._datasets:
                datasets.setdefault(self._datasets[experiment_id, item.source_id], item.tags)
        found_datasets = {
            (item.dataset.name, item.dataset.digest): {tag.key: tag.value for tag in item.tags}
            for item in found.inputs.dataset_inputs
        }
        of.count(Kind.INPUT, len(datasets) + len(models))
        of.check("dataset inputs", sorted(datasets), sorted(found_datasets))
        for name in sorted(datasets.keys() & found_datasets.keys()):
            label = f"tags of input {name[0]} {name[1]}"
            of.check(label, dict(datasets[name]), found_datasets[name])
        found_models = sorted(item.model_id for item in found.inputs.model_inputs)
        of.check("model inputs", sorted(models), found_models)

    def _compare_outputs(self, of: Entity, run: RunRecord, found: Any) -> None:
        outputs: dict[str, int] = {}
        for output in run.outputs:
            new_id = self._server.models.get(output.model_id, output.model_id)
            outputs.setdefault(new_id, output.step)
        found_outputs = sorted((each.model_id, each.step) for each in found.outputs.model_outputs)
        of.count(Kind.OUTPUT, len(outputs))
        of.check("model outputs", sorted(outputs.items()), found_outputs)

    def _files_of(self, run_id: str, folder: str | None = None) -> Iterator[tuple[str, int]]:
        """Yield the paths and sizes (bytes) of a run's artifacts on the server."""
        for each in self._server.read(self._server.client.list_artifacts, run_id, folder) or ():
            if each.is_dir:
                yield from self._files_of(run_id, each.path)
            else:
                yield each.path, each.file_size or 0  # a server leaves out the size of an empty one
