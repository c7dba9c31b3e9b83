"""Finds the registered models of a server that came from the source's, whatever their names are.

The rule is that of ``migrator.loader.sqlite.model_names``: a model of the server is the source's
own if the server lacks the source's name, and exactly one model there that a conversion wrote has
its creation time, a name that the source has not, and (if there are versions) a version of the same
number and time. A tag of the model keeps the name that a conversion gave it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from migrator import conventions
from migrator.issues import Code, Kind
from migrator.loader.rest.connection import Connection, Refused
from migrator.model import RegisteredModelRecord
from migrator.outcome.written import Written

GIVEN_NAME = conventions.MIGRATOR_SOURCE_REGISTERED_MODEL


class ModelNames:
    """The names on a server of the source's registered models."""

    def __init__(self, server: Connection, records: Sequence[RegisteredModelRecord]) -> None:
        self._server = server
        self._names = {record.name for record in records}
        self._times = Counter(record.creation_ms for record in records)
        self._served: dict[str, Mapping[str, str]] | None = None  # tags by name

    def settle(self, record: RegisteredModelRecord, written: Written) -> str:
        """Return the name that a model has on the server, or is to get there.

        One that was renamed in the source, and not on the server, is renamed there. Raises
        TargetError, and Refused if the server does not rename it.
        """
        served = self._list()
        if record.name in served or record.creation_ms is None:
            return record.name
        found = [name for name, tags in served.items() if self._is_same(record, name, tags)]
        if len(found) != 1 or self._times[record.creation_ms] != 1:
            return record.name
        (old,) = found
        name, code = old, Code.MODEL_NAME_KEPT
        if served[old].get(GIVEN_NAME) == old:  # nobody renamed it there
            name, code = record.name, Code.MODEL_NAME_FOLLOWED
            self._server.call(self._server.registry.rename_registered_model, old, name)
            served[name] = served.pop(old)
        written.issue(
            code, Kind.REGISTERED_MODEL, record.name,
            f'Registered model "{record.name}" of the source is "{old}" in the target.',
            path=record.path, kept=f'the model, as "{name}"',
        )  # fmt: skip
        return name

    def _list(self) -> dict[str, Mapping[str, str]]:
        """The tags of all registered models and prompts of the server; listed once."""
        if self._served is None:
            models = self._server.registered_models()
            self._served = {each.name: _tags_of(each) for each in models}
        return self._served

    def _is_same(self, record: RegisteredModelRecord, name: str, tags: Mapping[str, str]) -> bool:
        if name in self._names or _creation_ms(tags) != record.creation_ms:
            return False
        return not record.versions or any(
            self._creation_of_version(name, version.version) == version.creation_ms
            for version in record.versions
        )

    def _creation_of_version(self, name: str, number: int) -> int | None:
        try:
            found = self._server.call(self._server.registry.get_model_version, name, str(number))
        except Refused:  # deleted there
            return None
        return _creation_ms(found.tags)


def _tags_of(model: Any) -> dict[str, str]:
    return {tag.key: tag.value for tag in model.to_proto().tags}  # with those that MLflow hides


def _creation_ms(tags: Mapping[str, str]) -> int | None:
    fields = json.loads(tags.get(conventions.MIGRATOR_SOURCE_FIELDS, "{}"))
    found: int | None = fields.get("creation_ms")
    return found
