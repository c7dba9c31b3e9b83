"""Writes logged models to a server, and registered models and prompts in the end."""

from __future__ import annotations

from migrator.issues import Kind
from migrator.loader.rest import models
from migrator.loader.rest.connection import Refused
from migrator.loader.rest.experiment_index import Found
from migrator.loader.rest.model_names import ModelNames
from migrator.loader.rest.publishing import Publishing
from migrator.model import LoggedModelRecord, RegisteredModelRecord
from migrator.outcome.ledger import counts_of
from migrator.outcome.written import Written


class ModelPublisher:
    """Writes the models of one conversion. Methods raise TargetError."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing
        self._server = publishing.server
        self._registered: list[RegisteredModelRecord] = []

    def add_logged(self, record: LoggedModelRecord, experiment_id: int) -> None:
        """Write a logged model with its params, tags and metrics."""
        publishing = self._publishing
        parts = {
            Kind.LOGGED_MODEL_PARAM: len(record.params),
            Kind.LOGGED_MODEL_TAG: len(record.tags),
            Kind.LOGGED_MODEL_METRIC: len(record.metrics),
        }
        if publishing.is_second(Kind.LOGGED_MODEL, record.model_id):
            publishing.refuse_second(Kind.LOGGED_MODEL, record.model_id, record.path, parts)
            return
        publishing.places[Kind.LOGGED_MODEL, record.model_id] = experiment_id
        experiment = publishing.experiments[experiment_id]
        found = experiment.model(self._server, record.model_id)
        mark = models.mark_of(record, publishing.settings.files_of is not None)
        if found is not None and models.is_complete(found, mark):
            self._take_in_complete(record, found)
            return
        if found is None and publishing.gone.has(
            experiment.seen, Kind.LOGGED_MODEL, record.model_id
        ):
            publishing.result.left_out.update({Kind.LOGGED_MODEL: 1, **parts})
            return
        experiment.open(self._server)
        written = Written()
        writer = models.ModelWriter(
            self._server,
            written,
            publishing.ids,
            publishing.settings.files_of,
            publishing.deletions.activate,
        )
        try:
            files, size = writer.write(record, experiment, found)
        except Refused as error:
            written = Written()
            message = f"Logged model {record.model_id}: {error}."
            refused = {Kind.LOGGED_MODEL: 1, **parts}
            written.reject_parts(error.code, record.model_id, message, refused)
        else:
            self._server.count_written("logged models")
            written.files_sent, written.bytes_sent = files, size
        publishing.result.add(written)

    def _take_in_complete(self, record: LoggedModelRecord, found: Found) -> None:
        """Count a model that an earlier conversion wrote, and delete it if that was cut off."""
        ids, result = self._publishing.ids, self._publishing.result
        ids.add_model(record, found.new_id)
        models.count_model(record, result, new=False)
        points = models.metrics_of(record, result, ids.runs)
        result.count(Kind.LOGGED_MODEL_METRIC, len(points), new=False)
        if record.lifecycle_stage == "deleted" and not found.deleted:
            self._server.call(self._server.store.delete_logged_model, found.new_id)

    def add_registered(self, record: RegisteredModelRecord) -> None:
        """Add a registered model or prompt with its tags, versions and aliases.

        It is written in the end: what became of a name is known by the names of all.
        """
        if self._publishing.is_second(Kind.REGISTERED_MODEL, record.name):
            parts = {
                Kind.REGISTERED_MODEL_TAG: len(record.tags),
                Kind.ALIAS: len(record.aliases),
                Kind.MODEL_VERSION: len(record.versions),
                Kind.MODEL_VERSION_TAG: sum(len(version.tags) for version in record.versions),
            }
            self._publishing.refuse_second(Kind.REGISTERED_MODEL, record.name, record.path, parts)
            return
        self._registered.append(record)

    def write_registered(self) -> None:
        """Write all registered models and prompts."""
        names = ModelNames(self._server, self._registered)
        for record in self._registered:
            self._write_registered(record, names)

    def _write_registered(self, record: RegisteredModelRecord, names: ModelNames) -> None:
        publishing, written = self._publishing, Written()
        restore = publishing.settings.restore
        writer = models.RegistryWriter(self._server, written, publishing.ids, restore)
        try:
            writer.write(record, names.settle(record, written))
        except Refused as error:
            written = Written()
            message = f"Registered model {record.name}: {error}."
            written.reject_parts(error.code, record.name, message, counts_of(record))
        else:
            self._server.count_written("registered models")
        publishing.result.add(written)
