"""Writes logged models, registered models, prompts and their versions through the API."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from migrator import conventions
from migrator.issues import Code, Kind
from migrator.loader.rest import clashes
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.digests import digest_of
from migrator.loader.rest.experiment_index import MODEL_TAG, Found, TargetExperiment, fields_tag
from migrator.loader.rest.limits import DELETED_VERSION, PROMPT, is_path
from migrator.loader.rest.model_names import GIVEN_NAME
from migrator.loader.rest.runs import FILES, Files, FilesOwner, send_files
from migrator.loader.rest.seen import SeenItems
from migrator.model import LoggedModelRecord, ModelVersionRecord, RegisteredModelRecord
from migrator.outcome.written import Written

_METRICS = 800  # a call
_NOT_SENT = frozenset({"path", "artifact_dir", "artifact_location"})
_NO_SOURCE = "migrator-source:"  # scheme of a source that can't be opened
_SERVED = "mlflow-artifacts:"  # of the server that wrote the source
_VERSIONS = "mlflow.modelVersions"  # tag of a logged model: a list of what it is registered as
_PENDING, _READY, _FAILED = 1, 2, 3

MetricKey = tuple[str, int, int, str]  # key, time in ms, step, run


@dataclass(slots=True)
class Ids:
    """The server's ids of runs and models by their ids in the source."""

    runs: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    # Tag _VERSIONS of models that are not deleted, by their new ids; None without one.
    version_lists: dict[str, str | None] = field(default_factory=dict)

    def add_model(self, record: LoggedModelRecord, new_id: str) -> None:
        """Remember a logged model that is on the server."""
        self.models[record.model_id] = new_id
        if record.lifecycle_stage != "deleted":
            self.version_lists[new_id] = record.tags.get(_VERSIONS)


def mark_of(record: LoggedModelRecord, files: bool) -> str:
    """Return the mark of a model; ``files`` is True if its files are sent too."""
    return digest_of(record, _NOT_SENT) + (FILES if files and record.artifact_dir else "")


def is_complete(found: Found | None, mark: str) -> bool:
    """Return True if a model was written completely."""
    return found is not None and found.mark in (mark, mark.removesuffix(FILES) + FILES)


def count_model(record: LoggedModelRecord, written: Written, *, new: bool) -> None:
    """Count a model with its params and tags; its metrics are counted one by one."""
    written.count(Kind.LOGGED_MODEL, 1, new=new)
    written.count(Kind.LOGGED_MODEL_PARAM, len(record.params), new=new)
    written.count(Kind.LOGGED_MODEL_TAG, len(record.tags), new=new)


class ModelWriter:
    """Writes one logged model."""

    def __init__(
        self,
        server: Connection,
        written: Written,
        ids: Ids,
        files_of: Files | None,
        activate: Callable[[str], None],
    ) -> None:
        """``activate`` restores a run that is deleted, by its new id, until the end."""
        self._server = server
        self._written = written
        self._ids = ids
        self._files_of = files_of
        self._activate = activate

    def write(
        self, record: LoggedModelRecord, experiment: TargetExperiment, found: Found | None
    ) -> tuple[int, int]:
        """Create a model, or complete one; return how many files were sent, and their bytes.

        Raises Refused where the server does not make it.
        """
        from mlflow.entities import LoggedModelParameter, LoggedModelStatus, LoggedModelTag

        call, store = self._server.call, self._server.store
        mark = mark_of(record, self._files_of is not None)
        params = [LoggedModelParameter(k, v) for k, v in record.params.items()]
        tags = {**record.tags, **self._own_tags(record)}
        if found is None:
            model = call(
                store.create_logged_model,
                experiment.experiment_id,
                record.name or record.model_id,
                self._ids.runs.get(record.source_run_id or "", record.source_run_id),
                [LoggedModelTag(key, value) for key, value in tags.items()],
                params,
                record.model_type,
            )
            new = True
        else:
            new = False
            model = call(store.get_logged_model, found.new_id, allow_deleted=True)
            if why := clashes.of_logged_model(record, model):
                self._ids.models[record.model_id] = model.model_id
                raise clashes.AnotherEntity(f"the target has another one: {why}")
            lacking = [param for param in params if param.key not in (model.params or {})]
            if lacking:
                call(store.log_logged_model_params, model.model_id, lacking)
        self._ids.add_model(record, model.model_id)
        count_model(record, self._written, new=new)
        self._log_metrics(record, model)
        sent = self._send_files(record, model)
        if sent is None:
            mark, sent = mark.removesuffix(FILES), (0, 0)
        if record.status in (_READY, _FAILED) and model.status.to_int() != record.status:
            call(
                store.finalize_logged_model,
                model.model_id,
                LoggedModelStatus.from_int(record.status),
            )
        call(
            store.set_logged_model_tags,
            model.model_id,
            [LoggedModelTag(conventions.MIGRATOR_DIGEST, mark)],
        )
        if record.lifecycle_stage == "deleted":
            self.delete(record, experiment, model.model_id, mark)
        return sent

    def delete(
        self, record: LoggedModelRecord, experiment: TargetExperiment, model_id: str, mark: str
    ) -> None:
        """Delete a model; a tag of its experiment keeps its id, because MLflow hides it then."""
        from mlflow.entities import ExperimentTag

        tag = ExperimentTag(MODEL_TAG + record.model_id, f"{model_id} {mark}")
        self._server.call(self._server.store.set_experiment_tag, experiment.experiment_id, tag)
        self._server.call(self._server.store.delete_logged_model, model_id)

    def _own_tags(self, record: LoggedModelRecord) -> dict[str, str]:
        fields = {
            "artifact_location": record.artifact_location,
            "creation_ms": record.creation_ms,
            "last_updated_ms": record.last_updated_ms,
            "status_message": record.status_message or None,
            "status": record.status if record.status not in (_PENDING, _READY, _FAILED) else None,
        }
        return {
            conventions.MIGRATOR_SOURCE_MODEL: record.model_id,
            conventions.MIGRATOR_SOURCE_FIELDS: fields_tag(fields),
        }

    def _log_metrics(self, record: LoggedModelRecord, model: Any) -> None:
        from mlflow.entities import Metric

        written, ids = self._written, self._ids
        known = {(m.key, m.timestamp, m.step, m.run_id) for m in model.metrics or ()}
        by_run: dict[str, list[Any]] = defaultdict(list)
        for key, metric in metrics_of(record, written, ids.runs).items():
            run_id = ids.runs[metric.run_id]
            if (*key[:3], run_id) in known:
                written.count(Kind.LOGGED_MODEL_METRIC, 1, new=False)
                continue
            by_run[run_id].append(
                Metric(
                    metric.key,
                    metric.value,
                    metric.timestamp_ms,
                    metric.step,
                    model_id=model.model_id,
                    dataset_name=metric.dataset_name,
                    dataset_digest=metric.dataset_digest,
                    run_id=run_id,
                )
            )
        for run_id, metrics in by_run.items():
            self._activate(run_id)
            for at in range(0, len(metrics), _METRICS):
                self._send(record, run_id, metrics[at : at + _METRICS])

    def _send(self, record: LoggedModelRecord, run_id: str, metrics: list[Any]) -> None:
        try:
            self._server.call(self._server.store.log_batch, run_id, metrics, [], [])
        except Refused as error:
            if len(metrics) > 1:
                half = len(metrics) // 2
                self._send(record, run_id, metrics[:half])
                self._send(record, run_id, metrics[half:])
                return
            self._written.issue(
                Code.SERVER_REFUSED, Kind.LOGGED_MODEL_METRIC,
                f"{record.model_id}/{metrics[0].key}",
                f"Metric {metrics[0].key} of logged model {record.model_id}: {error}.",
                path=record.path,
            )  # fmt: skip
        else:
            self._written.count(Kind.LOGGED_MODEL_METRIC, len(metrics), new=True)

    def _send_files(self, record: LoggedModelRecord, model: Any) -> tuple[int, int] | None:
        """Send the model's files; return their number and bytes, None if they could not be sent."""
        if self._files_of is None or not record.artifact_dir:
            return 0, 0
        files = list(self._files_of(record.artifact_dir))
        if not files:
            return 0, 0
        owner = FilesOwner(Kind.LOGGED_MODEL, record.model_id, record.path)
        sent = send_files(self._server, self._written, owner, model.artifact_location, files)
        return sent if sent[0] else None


def metrics_of(
    record: LoggedModelRecord, written: Written, runs: Mapping[str, str]
) -> dict[MetricKey, Any]:
    """Return a model's metric points by MLflow's key; the others are counted or become issues."""
    points: dict[MetricKey, Any] = {}
    for metric in record.metrics:
        name = f"{record.model_id}/{metric.key}"
        if metric.run_id not in runs:
            written.issue(
                Code.LOAD_WITHOUT_PARENT, Kind.LOGGED_MODEL_METRIC, name,
                f"Metric {metric.key} of logged model {record.model_id} is of run "
                f"{metric.run_id}, which was not converted.", path=record.path,
            )  # fmt: skip
            continue
        key = (metric.key, metric.timestamp_ms, metric.step, metric.run_id)
        first = points.setdefault(key, metric)
        if first is metric and metric.value != metric.value:  # NaN
            del points[key]
            written.issue(
                Code.SERVER_REFUSED, Kind.LOGGED_MODEL_METRIC, name,
                f"Metric {metric.key} of logged model {record.model_id} is NaN at step "
                f"{metric.step}: the API fails, because the run has that point already.",
                path=record.path, kept="the run's own metric",
            )  # fmt: skip
        elif first is not metric and first == metric:
            written.merged[Kind.LOGGED_MODEL_METRIC] += 1
        elif first is not metric:
            written.issue(
                Code.LOAD_REFUSED, Kind.LOGGED_MODEL_METRIC, name,
                f"Logged model {record.model_id} has two values of {metric.key} at one time and "
                f"step: {first.value!r} and {metric.value!r}; the server holds one.",
                path=record.path, kept=repr(first.value),
            )  # fmt: skip
    return points


# ----------------------------------------------------------------------------- the registry


class RegistryWriter:
    """Writes one registered model or prompt, with its versions and aliases."""

    def __init__(
        self, server: Connection, written: Written, ids: Ids, restore: bool = False
    ) -> None:
        """``restore`` brings back aliases and tags that people deleted."""
        self._server = server
        self._written = written
        self._ids = ids
        self._restore = restore
        self._seen = SeenItems({})

    def _is_gone(self, kind: Kind, entity_id: str) -> bool:
        """Whether people deleted an alias, tag or version that the server lacks."""
        if not self._seen.has(kind, entity_id):
            return False
        if self._restore and kind is not Kind.MODEL_VERSION:  # its number can't be used again
            return False
        self._written.left_out[kind] += 1
        self._written.issue(
            Code.TARGET_DELETED, kind, entity_id,
            f"1 of kind {kind.value} deleted in the target since the last conversion: "
            f"{entity_id}.", kept="nothing",
        )  # fmt: skip
        return True

    def write(self, record: RegisteredModelRecord, name: str) -> None:
        """Create what is missing of a model that has, or gets, this name on the server.

        Raises Refused if the server does not create it.
        """
        from mlflow.entities.model_registry import RegisteredModelTag

        call, registry = self._server.call, self._server.registry
        mark = digest_of(record, frozenset({"path"}))
        own = {} if name != record.name else {GIVEN_NAME: name}
        if name != record.name:
            versions = tuple(replace(version, name=name) for version in record.versions)
            record = replace(record, name=name, versions=versions)
        fields = fields_tag(
            {"creation_ms": record.creation_ms, "last_updated_ms": record.last_updated_ms}
        )
        there = self._there(name)
        is_new = there is None
        tags: dict[str, str] = {}
        if there is None:
            # With the source's times at once, so that it is known as ours whatever happens.
            known = {**record.tags, **own, conventions.MIGRATOR_SOURCE_FIELDS: fields}
            made = [RegisteredModelTag(key, value) for key, value in known.items()]
            call(registry.create_registered_model, name, made, record.description)
        else:
            known = tags = {tag.key: tag.value for tag in there.to_proto().tags}  # with hidden ones
            if why := clashes.of_registered_model(record, there, tags):
                raise clashes.AnotherEntity(f"the target has another one: {why}")
        self._seen = SeenItems(tags)
        self._written.count(Kind.REGISTERED_MODEL, 1, new=is_new)
        if tags.get(conventions.MIGRATOR_DIGEST) == mark:
            self._count_there(record)
            self._set_tags(name, own, tags)
            return
        self._write_tags(record, tags, is_new=is_new)
        is_interrupted = conventions.MIGRATOR_DIGEST not in tags
        incomplete, rejected = self._write_versions(
            record, is_new=is_new, is_interrupted=is_interrupted
        )
        aliases = {} if there is None else {a: int(v) for a, v in there.aliases.items()}
        self._write_aliases(record, aliases, rejected)
        own[conventions.MIGRATOR_SOURCE_FIELDS] = fields
        if not incomplete and not rejected:  # else the next conversion tries again, and reports it
            self._remember(record)
            own |= {**self._seen.new_tags(), conventions.MIGRATOR_DIGEST: mark}
        self._set_tags(name, own, known)

    def _write_tags(
        self, record: RegisteredModelRecord, there: Mapping[str, str], *, is_new: bool
    ) -> None:
        """Set the tags that the model lacks, unless people deleted them; a new one has them all."""
        from mlflow.entities.model_registry import RegisteredModelTag

        set_tag = self._server.registry.set_registered_model_tag
        for key, value in record.tags.items():
            is_missing = key not in there
            if is_missing and self._is_gone(Kind.REGISTERED_MODEL_TAG, key):
                continue
            if is_missing and not is_new:
                self._server.call(set_tag, record.name, RegisteredModelTag(key, value))
            self._written.count(Kind.REGISTERED_MODEL_TAG, 1, new=is_missing)

    def _remember(self, record: RegisteredModelRecord) -> None:
        """Remember what was converted, so that the next conversion sees what people deleted."""
        versions = [str(version.version) for version in record.versions]
        for kind, names in (
            (Kind.REGISTERED_MODEL_TAG, record.tags),
            (Kind.ALIAS, record.aliases),
            (Kind.MODEL_VERSION, versions),
        ):
            for name in names:
                self._seen.add(kind, name)

    def _set_tags(self, name: str, tags: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Set tags in their order, except for those that the server knows."""
        from mlflow.entities.model_registry import RegisteredModelTag

        set_tag = self._server.registry.set_registered_model_tag
        for key, value in tags.items():
            if known.get(key) != value:
                self._server.call(set_tag, name, RegisteredModelTag(key, value))

    def _write_versions(
        self, record: RegisteredModelRecord, *, is_new: bool, is_interrupted: bool
    ) -> tuple[set[int], set[int]]:
        """Write all versions; return the numbers of incomplete ones, and of rejected ones."""
        alive = [each for each in record.versions if each.current_stage != DELETED_VERSION]
        if not is_new:
            self._clear_gaps(record, {each.version for each in alive})
        incomplete: set[int] = set()
        rejected: set[int] = set()
        for version in sorted(alive, key=lambda each: each.version):
            found = self._version_there(record.name, version.version)
            if found is not None and (why := clashes.of_version(version, found)):
                rejected.add(version.version)
                self._reject_version(version, why)
            elif found is None and self._is_gone(Kind.MODEL_VERSION, str(version.version)):
                self._written.left_out[Kind.MODEL_VERSION_TAG] += len(version.tags)
            elif not self._version(version, found, cut_off=is_interrupted):
                incomplete.add(version.version)
        for version in record.versions:
            if version.current_stage == DELETED_VERSION:  # its number is left out
                self._written.count(Kind.MODEL_VERSION, 1, new=is_new)
                self._written.count(Kind.MODEL_VERSION_TAG, len(version.tags), new=is_new)
        return incomplete, rejected

    def _write_aliases(
        self, record: RegisteredModelRecord, aliases: Mapping[str, int], rejected: set[int]
    ) -> None:
        """Set the aliases that the server lacks; ``aliases`` are those that it has."""
        name, written = record.name, self._written
        set_alias = self._server.registry.set_registered_model_alias
        for alias, number in record.aliases.items():
            entity_id = f"{name}/{alias}"
            if number in rejected:
                message = f"Alias {alias} of {name} is of a version that was rejected."
                written.issue(Code.ENTITY_CLASHES, Kind.ALIAS, entity_id, message)
                continue
            if alias not in aliases and self._is_gone(Kind.ALIAS, alias):
                continue
            if alias not in aliases:
                try:
                    self._server.call(set_alias, name, alias, str(number))
                except Refused as error:
                    message = f"Alias {alias} of {name}: {error}."
                    written.issue(Code.SERVER_REFUSED, Kind.ALIAS, entity_id, message)
                    continue
            elif aliases[alias] != number:
                self._differs(Kind.ALIAS, entity_id, f"Alias {alias} of {name}")
            written.count(Kind.ALIAS, 1, new=alias not in aliases)

    def _there(self, name: str) -> Any:
        try:
            return self._server.call(self._server.registry.get_registered_model, name)
        except Refused as error:
            if "not found" in str(error):
                return None
            raise

    def _count_there(self, record: RegisteredModelRecord) -> None:
        for kind, n in (
            (Kind.REGISTERED_MODEL_TAG, len(record.tags)),
            (Kind.ALIAS, len(record.aliases)),
            (Kind.MODEL_VERSION, len(record.versions)),
            (Kind.MODEL_VERSION_TAG, sum(len(version.tags) for version in record.versions)),
        ):
            self._written.count(kind, n, new=False)

    def _clear_gaps(self, record: RegisteredModelRecord, alive: set[int]) -> None:
        """Delete versions of numbers to be left out that an interrupted conversion made."""
        for number in sorted(set(range(1, max(alive, default=1))) - alive):
            found = self._version_there(record.name, number)
            if found is not None and conventions.MIGRATOR_SOURCE_FIELDS in found.tags:
                self._server.call(
                    self._server.registry.delete_model_version, record.name, str(number)
                )

    def _reject_version(self, version: ModelVersionRecord, why: str) -> None:
        name = f"{version.name}/{version.version}"
        message = f"The target has another version {name}: {why}."
        parts = {Kind.MODEL_VERSION: 1, Kind.MODEL_VERSION_TAG: len(version.tags)}
        self._written.reject_parts(Code.ENTITY_CLASHES, name, message, parts)

    def _version(self, version: ModelVersionRecord, found: Any, *, cut_off: bool) -> bool:
        """Create what is missing of a version. Returns False if the server refuses a part."""
        call, registry, written = self._server.call, self._server.registry, self._written
        name, number, whole = version.name, version.version, True
        new = found is None
        if found is None:
            why = "the server has used its number already"
            try:
                found = self._make(version)
            except Refused as error:
                why = str(error)
            if found is None:
                parts = {Kind.MODEL_VERSION: 1, Kind.MODEL_VERSION_TAG: len(version.tags)}
                message = f"Version {number} of {name} can't be made: {why}."
                written.reject_parts(Code.SERVER_REFUSED, f"{name}/{number}", message, parts)
                return False
        elif conventions.MIGRATOR_SOURCE_FIELDS not in found.tags:
            self._differs(Kind.MODEL_VERSION, f"{name}/{number}", f"Version {number} of {name}")
            written.count(Kind.MODEL_VERSION, 1, new=False)
            written.count(Kind.MODEL_VERSION_TAG, len(version.tags), new=False)
            return True
        if new or cut_off:
            self._restore_list(found.source or "")
        if version.current_stage not in (None, "", "None", found.current_stage):
            try:
                call(
                    registry.transition_model_version_stage,
                    name, str(number), version.current_stage, False,
                )  # fmt: skip
            except Refused as error:  # the version itself is there
                message = f"The stage of version {number} of {name}: {error}."
                written.issue(Code.SERVER_REFUSED, None, f"{name}/{number}", message)
                whole = False
        written.count(Kind.MODEL_VERSION, 1, new=new)
        written.count(Kind.MODEL_VERSION_TAG, len(version.tags), new=new)
        return whole

    def _version_there(self, name: str, number: int) -> Any:
        try:
            return self._server.call(self._server.registry.get_model_version, name, str(number))
        except Refused as error:
            if "not found" in str(error):
                return None
            raise

    def _make(self, version: ModelVersionRecord) -> Any:
        """Create the version with its own number and return it; None if that number was used."""
        source = self._source(version) or self._nowhere(version, "a path that does not exist there")
        try:
            made = self._create(version, source)
        except Refused as error:
            if "source" not in str(error):
                raise
            source = self._nowhere(version, str(error))
            made = self._create(version, source)
        while int(made.version) < version.version:  # versions before it were deleted for good
            self._server.call(
                self._server.registry.delete_model_version, version.name, made.version
            )
            made = self._create(version, source)
        if int(made.version) == version.version:
            return made
        self._server.call(self._server.registry.delete_model_version, version.name, made.version)
        return None

    def _create(self, version: ModelVersionRecord, source: str) -> Any:
        from mlflow.entities.model_registry import ModelVersionTag

        fields = {
            "creation_ms": version.creation_ms,
            "last_updated_ms": version.last_updated_ms,
            "user_id": version.user_id or None,
            "status": version.status if version.status not in (None, "READY") else None,
            "status_message": version.status_message or None,
            "source": version.source if version.source != source else None,
            "storage_location": version.storage_location or None,
            "run_id": version.run_id if version.run_id in self._ids.runs else None,
        }
        tags = {**version.tags, conventions.MIGRATOR_SOURCE_FIELDS: fields_tag(fields)}
        model_id = self._model_of(source)
        return self._server.call(
            self._server.registry.create_model_version,
            version.name,
            source,
            self._ids.runs.get(version.run_id or "", version.run_id),
            [ModelVersionTag(key, value) for key, value in tags.items()],
            version.run_link,
            version.description,
            **({"local_model_path": None, "model_id": model_id} if model_id else {}),
        )

    def _source(self, version: ModelVersionRecord) -> str | None:
        """Return the source to write, None for a path whose files are not on the server."""
        source = version.source or ""
        if PROMPT in version.tags:
            return source or "dummy-source"
        for scheme, ids in (("runs:/", self._ids.runs), ("models:/", self._ids.models)):
            if source.startswith(scheme):
                first, slash, rest = source.removeprefix(scheme).lstrip("/").partition("/")
                return scheme + ids.get(first, first) + slash + rest
        for old, folder in re.findall(r"(?<=/)([^/]+)/artifacts(/.*)?$", source):
            place = self._place(old)
            if place is not None and (is_path(source) or source.startswith(_SERVED)):
                return f"{place.rstrip('/')}{folder}"
        return source if source and not is_path(source) else None

    def _nowhere(self, version: ModelVersionRecord, why: str) -> str:
        """Return a source that can't be opened and names the recorded one; keep an issue."""
        source = version.source or ""
        self._written.issue(
            Code.SERVER_SOURCE_CHANGED, Kind.MODEL_VERSION, f"{version.name}/{version.version}",
            f"Version {version.version} of {version.name} has source {source!r}: {why}.",
            kept=f"{_NO_SOURCE}{source}",
        )  # fmt: skip
        return f"{_NO_SOURCE}/{source.removeprefix('file:').lstrip('/')}"

    def _model_of(self, source: str) -> str | None:
        """Return the id of the logged model that has a source; the server asks for it."""
        return next((part for part in source.split("/") if part in self._ids.version_lists), None)

    def _restore_list(self, source: str) -> None:
        """Restore the model's tag of versions, which the server overwrites with each version."""
        from mlflow.entities import LoggedModelTag

        model_id = self._model_of(source)
        if model_id is None:
            return
        call, store = self._server.call, self._server.store
        wanted = self._ids.version_lists[model_id]
        there = call(store.get_logged_model, model_id).tags.get(_VERSIONS)
        if wanted is None and there is not None:
            call(store.delete_logged_model_tag, model_id, _VERSIONS)
        elif wanted is not None and there != wanted:
            call(store.set_logged_model_tags, model_id, [LoggedModelTag(_VERSIONS, wanted)])

    def _place(self, old: str) -> str | None:
        """Return the artifact location of a run or model on the server, None if it is not there."""
        store, call = self._server.store, self._server.call
        if old in self._ids.runs:
            return str(call(store.get_run, self._ids.runs[old]).info.artifact_uri)
        if old in self._ids.models:
            model = call(store.get_logged_model, self._ids.models[old], allow_deleted=True)
            return str(model.artifact_location)
        return None

    def _differs(self, kind: Kind, entity_id: str, what: str) -> None:
        self._written.issue(
            Code.TARGET_DIFFERS, kind, entity_id, f"{what} is another one in the target.",
            kept="what the target has",
        )  # fmt: skip
