"""What the writers of one conversion to a server share."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.issues import Code, Kind
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.experiment_index import TargetExperiment
from migrator.loader.rest.models import Ids
from migrator.loader.rest.runs import Files
from migrator.loader.rest.seen import DeletedByPeople
from migrator.outcome.written import Written


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """How a conversion writes to a server.

    ``files_of`` lists a directory of artifacts; without it none are sent. With ``in_place`` the
    runs are the server's own, which traces refer to by the ids that they have. ``restore`` brings
    back what people deleted on the server.
    """

    files_of: Files | None = None
    in_place: bool = False
    restore: bool = False


class Deletions:
    """Runs that are to be deleted once everything is written, and those that are deleted already.

    Nothing can be written into a deleted run, so a run is restored while something refers to it.
    """

    def __init__(self, server: Connection) -> None:
        self._server = server
        self._to_delete: dict[str, int | None] = {}  # experiment of each run; None if not known
        self._deleted: set[str] = set()

    def delete_later(self, run_id: str, target_id: int) -> None:
        """Delete a run of an experiment in the end."""
        self._to_delete[run_id] = target_id

    def note_deleted(self, run_id: str) -> None:
        """Note that a run is deleted on the server."""
        self._deleted.add(run_id)

    def activate(self, run_id: str) -> None:
        """Restore a run if it is deleted; it is deleted again in the end."""
        if run_id in self._deleted:
            with contextlib.suppress(Refused):  # it came back with its experiment
                self._server.call(self._server.store.restore_run, run_id)
            self._deleted.discard(run_id)
            self._to_delete[run_id] = None

    def apply(self, experiments: Mapping[int, TargetExperiment]) -> None:
        """Delete the runs, and the experiments that are to be deleted with all their runs."""
        store, call = self._server.store, self._server.call
        gone = {
            key
            for key, experiment in experiments.items()
            if experiment.plan.record.deleted or experiment.is_to_be_deleted
        }
        self._server.each(
            lambda run_id: call(store.delete_run, run_id),
            [run_id for run_id, target_id in self._to_delete.items() if target_id not in gone],
        )
        for key in sorted(gone):
            experiment = experiments[key]
            if experiment.is_ours and not experiment.deleted:
                call(store.delete_experiment, experiment.experiment_id)


@dataclass(slots=True)
class Publishing:
    """The state of one conversion: where it writes, what has arrived, and what was counted."""

    server: Connection
    settings: PublishSettings
    result: Written
    gone: DeletedByPeople
    experiments: Mapping[int, TargetExperiment]  # those of this conversion, by the ids of plans
    deletions: Deletions
    ids: Ids = field(default_factory=Ids)
    places: dict[tuple[Kind, str], int] = field(default_factory=dict)  # experiment of each item
    clashing: set[str] = field(default_factory=set)  # runs whose ids are of other runs there
    _added: set[tuple[Kind, str]] = field(default_factory=set)

    def is_second(self, kind: Kind, entity_id: str) -> bool:
        """Whether an item of this id was added before; it is remembered from now on."""
        known = len(self._added)
        self._added.add((kind, entity_id))
        return len(self._added) == known

    def refuse_second(
        self, kind: Kind | None, name: str, path: str, parts: Mapping[Kind, int]
    ) -> None:
        """Reject the second item of an id; ``kind`` is None for a rebuilt trace."""
        label = kind.value if kind else Kind.TRACE.value
        message = f"There are two of {label} {name}; this is the second."
        self.result.issue(Code.LOAD_DUPLICATE, kind, name, message, path=path)
        self.result.reject_parts(Code.LOAD_DUPLICATE, name, message, parts, path)

    def remember(self) -> None:
        """Keep what is on the server in tags, and name what people deleted."""
        from mlflow.entities import ExperimentTag

        arrived = {Kind.RUN: self.ids.runs, Kind.LOGGED_MODEL: self.ids.models}
        for (kind, entity_id), target_id in self.places.items():
            is_refused = kind in arrived and entity_id not in arrived[kind]
            if not is_refused and not self.gone.is_named(kind, entity_id):
                self.experiments[target_id].seen.add(kind, entity_id)
        for experiment in self.experiments.values():
            for key, value in experiment.seen.new_tags().items():
                experiment.open(self.server)
                tag = ExperimentTag(key, value)
                self.server.call(
                    self.server.store.set_experiment_tag, experiment.experiment_id, tag
                )
        self.gone.name_in(self.result)


def count_as_left_out(written: Written) -> None:
    """Count everything as left out."""
    for counter in (written.converted, written.already_there):
        written.left_out.update(counter)
        counter.clear()
    for counter in (written.rebuilt, written.rebuilt_already_there):
        written.rebuilt_left_out.update(counter)
        counter.clear()
