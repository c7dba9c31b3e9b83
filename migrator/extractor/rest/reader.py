"""Reads everything that a server's API gives into a mirror.

Every list is read in pages, deleted items too. The number of requests that cost the most, those
for metric histories, follows the number of keys: one request asks for a key of many runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from migrator.extractor.filestore.traces import SPANS
from migrator.extractor.rest import rows
from migrator.extractor.rest.assets import AssetReader
from migrator.extractor.rest.client import API, API_3, PAGES, Client, Refused
from migrator.extractor.rest.files import ArtifactMirror, Owner
from migrator.extractor.rest.mirror import Mirror
from migrator.extractor.rest.values import fields, integer, items
from migrator.extractor.source import Takes
from migrator.issues import Issue, Kind

Json = Mapping[str, Any]

_PAGE = 1000  # experiments or runs
_TRACES_A_PAGE = 500  # what MLflow allows
_MODELS_A_PAGE = 50  # likewise
_EXPERIMENTS_A_SEARCH = 100
_RUNS_A_HISTORY = 20  # 2.9 allows no more, later releases 100
_POINTS = 25_000  # at which MLflow cuts the answer for several runs, without a word
_MODELS_SINCE = (3, 0)
_PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"  # which a search leaves out by default


class _Run(NamedTuple):
    """A run as the API gives it."""

    run_id: str
    experiment_id: str
    given: Json

    @property
    def owner(self) -> Owner:
        location = str(fields(self.given.get("info")).get("artifact_uri") or "")
        return Owner(Kind.RUN, self.experiment_id, self.run_id, location)

    @property
    def last_points(self) -> list[Json]:
        """The last point of each of its metrics."""
        return items(fields(self.given.get("data")).get("metrics"))


class _Series(NamedTuple):
    """A metric key, and the last point that each of some runs has of it."""

    key: str
    last: dict[str, Json]  # by run id


class Reader:
    """Reads one server once: call ``read``."""

    def __init__(
        self,
        client: Client,
        mirror: Mirror,
        artifacts: ArtifactMirror,
        takes: Takes,
        on_progress: Callable[[int], None],
    ) -> None:
        """``takes`` chooses the experiments whose contents are read.

        ``on_progress`` gets the number of runs and traces so far.
        """
        self._client = client
        self._mirror = mirror
        self._artifacts = artifacts
        self._takes = takes
        self._on_progress = on_progress
        self._assets = AssetReader(client, mirror)
        self._active: list[str] = []  # experiments that are read and not deleted
        self._done = 0
        self._has_bulk = True  # until the server says that it has not

    def read(self) -> tuple[Issue, ...]:
        """Read everything; the result names what the server refuses. Raises SourceError."""
        experiments = list(self._experiments())
        for at in range(0, len(experiments), _EXPERIMENTS_A_SEARCH):
            some = experiments[at : at + _EXPERIMENTS_A_SEARCH]
            self._runs(some)
            self._logged_models(some)
            self._traces(some)
        self._registry()
        self._assets.read(self._active)
        return (*self._artifacts.issues, *self._assets.issues)

    def _count(self, number: int) -> None:
        self._done += number
        self._on_progress(self._done)

    # ------------------------------------------------------------------------ experiments

    def _experiments(self) -> Iterator[str]:
        """Read all experiments, and yield the ids of those whose contents are to be read."""
        body = {"view_type": "ALL", "max_results": _PAGE}
        for page in self._must_pages("experiments", "POST", f"{API}/experiments/search", body):
            for experiment in page:
                key = integer(experiment.get("experiment_id"))
                if self._mirror.add_entity("experiments", rows.experiment(experiment)):
                    tags = rows.tags(experiment.get("tags"), experiment_id=key)
                    self._mirror.add("experiment_tags", tags)
                    is_deleted = experiment.get("lifecycle_stage") == "deleted"
                    if self._takes(str(key), str(experiment.get("name")), is_deleted):
                        if not is_deleted:
                            self._active.append(str(key))
                        yield str(key)

    def _must_pages(
        self, name: str, method: str, path: str, body: Json
    ) -> Iterator[list[dict[str, Any]]]:
        try:
            yield from self._client.pages(name, method, path, body)
        except Refused as error:
            raise self._client.refused(path, error) from error

    # -------------------------------------------------------------------------------- runs

    def _runs(self, experiments: Sequence[str]) -> None:
        body = {
            "experiment_ids": experiments,
            "run_view_type": "ALL",
            "max_results": _PAGE,
            # New runs come last, so that pages don't shift while runs are written.
            "order_by": ["attributes.start_time ASC"],
        }
        for page in self._must_pages("runs", "POST", f"{API}/runs/search", body):
            new = []
            for given in page:
                row = rows.run(fields(given.get("info")))
                run = _Run(str(row["run_uuid"]), str(row["experiment_id"]), given)
                if self._mirror.add_entity("runs", row):
                    data = fields(given.get("data"))
                    self._mirror.add("params", rows.tags(data.get("params"), run_uuid=run.run_id))
                    self._mirror.add("tags", rows.tags(data.get("tags"), run_uuid=run.run_id))
                    new.append(run)
            for run in self._client.each(self._with_models, new):
                self._links(run)
            for points in self._client.each(self._history, _series_of(new)):
                self._mirror.add("metrics", points)
            self._artifacts.add_all(run.owner for run in new)
            self._count(len(new))

    def _with_models(self, run: _Run) -> _Run:
        """A run with its logged models: a search leaves those out that it used (3.9), or all."""
        if (0, 0) < self._client.release < _MODELS_SINCE:
            return run
        try:
            answer = self._client.ask("GET", f"{API}/runs/get", params={"run_id": run.run_id})
        except Refused as error:
            if error.is_unknown:  # deleted for good since
                return run
            raise self._client.refused(f"{API}/runs/get", error) from error
        return run._replace(given=fields(answer.get("run")) or run.given)

    def _links(self, run: _Run) -> None:
        """Add the datasets and models that a run used, and the models that it made."""
        add, run_id = self._mirror.add, run.run_id
        inputs, outputs = fields(run.given.get("inputs")), fields(run.given.get("outputs"))
        for given in items(inputs.get("dataset_inputs")):
            dataset = rows.dataset(fields(given.get("dataset")), run.experiment_id)
            self._mirror.add_entity("datasets", dataset)
            edge = rows.edge("DATASET", dataset["dataset_uuid"], "RUN", run_id)
            add("inputs", [edge])
            add("input_tags", rows.input_tags(given.get("tags"), edge["input_uuid"]))
        for model in items(inputs.get("model_inputs")):
            add("inputs", [rows.edge("RUN_INPUT", run_id, "MODEL_INPUT", model.get("model_id"))])
        for model in items(outputs.get("model_outputs")):
            edge = rows.edge("RUN_OUTPUT", run_id, "MODEL_OUTPUT", model.get("model_id"))
            add("inputs", [{**edge, "step": integer(model.get("step", 0))}])

    # ------------------------------------------------------------------------------ metrics

    def _history(self, series: _Series) -> list[dict[str, Any]]:
        """All points of a metric of some runs.

        The last point, which the run itself shows, must be among them; otherwise the history was
        cut, and the run is asked for alone.
        """
        found = self._bulk(series)
        points = []
        for run_id, last in series.last.items():
            own = found.get(run_id, [])
            if not _has_point(own, last):
                own = self._own_history(run_id, series.key)
            if not _has_point(own, last):  # written since, or there is only this one
                own.append(last)
            points += [rows.metric(point, run_id, series.key) for point in own]
        return points

    def _bulk(self, series: _Series) -> dict[str, list[Json]]:
        if not self._has_bulk or len(series.last) == 1:
            return {}
        params = {
            "run_id": list(series.last),
            "metric_key": series.key,
            "max_results": _POINTS,
        }
        try:
            answer = self._client.ask("GET", f"{PAGES}/metrics/get-history-bulk", params=params)
        except Refused:
            self._has_bulk = False
            return {}
        points = items(answer.get("metrics"))
        if len(points) >= _POINTS:
            return {}
        found: dict[str, list[Json]] = {}
        for point in points:
            found.setdefault(str(point.get("run_id")), []).append(point)
        return found

    def _own_history(self, run_id: str, key: str) -> list[Json]:
        params = {"run_id": run_id, "metric_key": key, "max_results": _POINTS}
        points: list[Json] = []
        for page in self._must_pages("metrics", "GET", f"{API}/metrics/get-history", params):
            points += page
        return points

    # ------------------------------------------------------------------------------- models

    def _logged_models(self, experiments: Sequence[str]) -> None:
        body = {"experiment_ids": experiments, "max_results": _MODELS_A_PAGE}
        for page in self._optional_pages("models", "POST", f"{API}/logged-models/search", body):
            owners = []
            for model in page:
                row = rows.logged_model(fields(model.get("info")))
                if not self._mirror.add_entity("logged_models", row):
                    continue
                parts = rows.LoggedModelParts(model)
                self._mirror.add("logged_model_params", parts.params())
                self._mirror.add("logged_model_tags", parts.tags())
                self._mirror.add("logged_model_metrics", parts.metrics())
                place = (str(row["experiment_id"]), str(row["model_id"]))
                owners.append(Owner(Kind.LOGGED_MODEL, *place, str(row["artifact_location"])))
            self._artifacts.add_all(owners)

    def _optional_pages(
        self, name: str, method: str, path: str, body: Json
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of what older servers don't have: nothing then."""
        try:
            yield from self._client.pages(name, method, path, body)
        except Refused as error:
            if not error.is_unknown:
                raise self._client.refused(path, error) from error

    # ------------------------------------------------------------------------------- traces

    def _traces(self, experiments: Sequence[str]) -> None:
        for page in self._trace_pages(experiments):
            new = []
            for trace in page:
                row = rows.trace(trace)
                if self._mirror.add_entity("trace_info", row):
                    parts = rows.TraceParts(trace)
                    self._mirror.add("trace_tags", parts.tags())
                    self._mirror.add("trace_request_metadata", parts.metadata())
                    self._mirror.add("assessments", parts.assessments())
                    new.append(parts)
            for parts, data in self._client.each(self._spans, new):
                self._add_spans(parts, data)
            self._count(len(new))

    def _trace_pages(self, experiments: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Pages of traces: by the API of 3.x where there is one, else by that of 2.14."""
        shared = {"max_results": _TRACES_A_PAGE, "order_by": ["timestamp_ms ASC"]}
        locations = []
        for key in experiments:
            place = {"experiment_id": key}
            locations.append({"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": place})
        body = {**shared, "locations": locations}
        try:
            yield from self._client.pages("traces", "POST", f"{API_3}/traces/search", body)
        except Refused as error:
            if not error.is_unknown:
                raise self._client.refused(f"{API_3}/traces/search", error) from error
        else:
            return
        body = {**shared, "experiment_ids": experiments}
        yield from self._optional_pages("traces", "GET", f"{API}/traces", body)

    def _spans(self, parts: rows.TraceParts) -> tuple[rows.TraceParts, dict[str, Any]]:
        """A trace and the answer for its spans; an empty one if the server has or gives none."""
        try:
            path = f"{PAGES}/get-trace-artifact"
            return parts, self._client.ask("GET", path, params={"request_id": parts.trace_id})
        except Refused:
            return parts, {}

    def _add_spans(self, parts: rows.TraceParts, data: dict[str, Any]) -> None:
        """Put spans where MLflow has them: in rows, or in the trace's artifact."""
        if not data:
            return
        if parts.has_spans_in_rows:
            self._mirror.add("spans", parts.spans(data))
            return
        owner = Owner(Kind.TRACE, parts.experiment_id, parts.trace_id, parts.artifact_location)
        self._artifacts.add_text(owner, SPANS, json.dumps(data))

    # ----------------------------------------------------------------------------- registry

    def _registry(self) -> None:
        for chosen in ({}, {"filter": _PROMPTS}):
            body = {"max_results": _PAGE, **chosen}
            path = f"{API}/registered-models/search"
            for page in self._optional_pages("registered_models", "GET", path, body):
                for model in page:
                    self._registered_model(model)
            path = f"{API}/model-versions/search"
            for page in self._optional_pages("model_versions", "GET", path, body):
                for version, storage in self._client.each(self._storage, page):
                    row = {**rows.model_version(version), "storage_location": storage}
                    if self._mirror.add_entity("model_versions", row):
                        key = {"name": row["name"], "version": row["version"]}
                        tags = rows.tags(version.get("tags"), **key)
                        self._mirror.add("model_version_tags", tags)

    def _storage(self, version: Json) -> tuple[Json, Any]:
        """A version, and where its files are: its source may name a logged model only."""
        key = {"name": version.get("name"), "version": version.get("version")}
        try:
            path = f"{API}/model-versions/get-download-uri"
            return version, self._client.ask("GET", path, params=key).get("artifact_uri")
        except Refused:  # deleted since, or of a release without it
            return version, None

    def _registered_model(self, model: Json) -> None:
        if not self._mirror.add_entity("registered_models", rows.registered_model(model)):
            return
        name = model.get("name")
        self._mirror.add("registered_model_tags", rows.tags(model.get("tags"), name=name))
        self._mirror.add("registered_model_aliases", rows.aliases(model))


def _series_of(runs: Iterable[_Run]) -> Iterator[_Series]:
    """The histories to ask for: each key once for up to ``_RUNS_A_HISTORY`` runs."""
    open_series: dict[str, _Series] = {}
    for run in runs:
        for last in run.last_points:
            key = str(last.get("key"))
            series = open_series.setdefault(key, _Series(key, {}))
            series.last[run.run_id] = last
            if len(series.last) == _RUNS_A_HISTORY:
                yield open_series.pop(key)
    yield from open_series.values()


def _has_point(points: Iterable[Json], last: Json) -> bool:
    wanted = (integer(last.get("timestamp")), integer(last.get("step", 0)))
    return any(
        (integer(point.get("timestamp")), integer(point.get("step", 0))) == wanted
        for point in points
    )
