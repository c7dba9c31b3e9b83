"""Registers scorers with their versions through the API, which numbers the versions itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator.issues import Code, Kind
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.experiment_index import TargetExperiment
from migrator.loader.rest.parts import PartLog
from migrator.model import ScorerRecord, ScorerVersionRecord
from migrator.outcome.ledger import counts_of

_FILLER = "{}"  # a version that uses up a number until it is deleted
# Of MLflow's entity the private text is read: the public one is parsed, which fails at odd ones.
_KIND = Kind.SCORER_VERSION


class Scorers:
    """The names of the scorers that a server has. Methods raise TargetError and Refused."""

    def __init__(self, server: Connection) -> None:
        self._server = server
        self._names: dict[str, set[str]] = {}  # by experiment

    def versions(self, name: str, experiment_id: str) -> dict[int, Any]:
        """The versions of a scorer by number; the experiment must not be deleted."""
        call, store = self._server.call, self._server.store
        if experiment_id not in self._names:
            found = call(store.list_scorers, experiment_id)
            self._names[experiment_id] = {each.scorer_name for each in found}
        if name not in self._names[experiment_id]:
            return {}
        listed = call(store.list_scorer_versions, experiment_id, name)
        return {each.scorer_version: each for each in listed}


@dataclass(slots=True)
class ScorerJob:
    """One scorer that is to be registered in an experiment."""

    server: Connection
    record: ScorerRecord
    experiment: TargetExperiment
    log: PartLog
    restore: bool
    _lost: set[int] = field(default_factory=set)  # numbers that were refused or left out
    _fillers: list[int] = field(default_factory=list)

    @property
    def is_hidden(self) -> bool:
        """Whether it is complete, in an experiment that is deleted: MLflow shows none of those."""
        if not self.experiment.deleted or self.restore:
            return False
        seen = self.experiment.seen
        if not seen.has(Kind.SCORER, self.record.scorer_id):
            return False
        return all(seen.has(_KIND, self._key(version)) for version in self.record.versions)

    def count_there(self) -> None:
        """Count everything as there already."""
        for kind, number in counts_of(self.record).items():
            self.log.count(kind, number, new=False)

    def write(self, there: Mapping[int, Any]) -> str | None:
        """Register what is missing, each version with its own number; return the scorer's id.

        ``there`` are the server's versions. The id is None where no version is accepted. Raises
        TargetError, and Refused if the server takes no scorer of that name.
        """
        by_number = {version.version: version for version in self.record.versions}
        last = max(there, default=0)
        scorer_id: str | None = None
        for number, found in there.items():
            scorer_id = found.scorer_id
            if number not in by_number and found._serialized_scorer == _FILLER:
                self._fillers.append(number)  # an earlier conversion was interrupted
        for version in self.record.versions:
            if version.version <= last:
                self._compare(version, there.get(version.version))
        for number in range(last + 1, max(by_number, default=0) + 1):
            scorer_id = self._register(number, by_number.get(number))
        kept = by_number.keys() - self._lost
        if scorer_id is None or not (kept or there):
            if scorer_id is not None:
                self._delete(None)
            self.log.refuse(Kind.SCORER, self.record.name, "the server has no version of it")
            return None
        for number in self._fillers:
            self._delete(number)
        self.log.count(Kind.SCORER, new=not there)
        for number in kept:
            self.experiment.seen.add(_KIND, self._key(by_number[number]))
        return scorer_id

    def _key(self, version: ScorerVersionRecord) -> str:
        return f"{self.record.scorer_id}/{version.version}"

    def _compare(self, version: ScorerVersionRecord, found: Any) -> None:
        """Count a version whose number the server has used, or name why it is not there."""
        number = version.version
        if found is not None and _is_same(found._serialized_scorer, version.serialized):
            self.log.count(_KIND, new=False)
            return
        self._lost.add(number)
        if found is not None:
            why = "the target has another one of that number"
            self.log.refuse(_KIND, str(number), why, Code.ENTITY_CLASHES)
        elif self.experiment.seen.has(_KIND, self._key(version)):
            self.log.leave_out(_KIND, str(number), "nothing; MLflow uses its number once")
        else:
            self.log.refuse(_KIND, str(number), "the server has used its number already")

    def _register(self, number: int, version: ScorerVersionRecord | None) -> str:
        """Register a version, or a filler so that the next one gets its own number."""
        if version is not None and self._is_gone(version):
            version = None
            self._lost.add(number)
        if version is not None:
            try:
                made = self._ask(version.serialized)
            except Refused as error:
                self.log.refuse(_KIND, str(number), str(error))
                self._lost.add(number)
            else:
                self.log.count(_KIND, new=True)
                return str(made.scorer_id)
        self._fillers.append(number)
        return str(self._ask(_FILLER).scorer_id)

    def _is_gone(self, version: ScorerVersionRecord) -> bool:
        """Whether people deleted a version that was the server's last."""
        if self.restore or not self.experiment.seen.has(_KIND, self._key(version)):
            return False
        self.log.leave_out(_KIND, str(version.version))
        return True

    def _ask(self, text: str) -> Any:
        if _object_in(text) is None:  # at which MLflow 3.9 fails
            raise Refused("it is not a JSON object")
        register = self.server.store.register_scorer
        return self.server.call(register, self.experiment.experiment_id, self.record.name, text)

    def _delete(self, number: int | None) -> None:
        """Delete a version, or the scorer."""
        delete = self.server.store.delete_scorer
        self.server.call(delete, self.experiment.experiment_id, self.record.name, number)


def _is_same(there: str, source: str) -> bool:
    return there == source or (_object_in(there) or there) == _object_in(source)


def _object_in(text: str) -> dict[str, Any] | None:
    """The JSON object in a text; None where there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
