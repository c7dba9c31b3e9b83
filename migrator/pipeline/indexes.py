"""What lies where in the sources: the experiment of each entity, and all runs by id."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence

from migrator.model import Entry, ExperimentPlan, RunEntry
from migrator.packing import PackedDict
from migrator.pipeline.stores import Store, ranked


class ExperimentIndex:
    """Which experiment of the sources an entity belongs to, and what that experiment becomes."""

    def __init__(self, stores: Sequence[Store]) -> None:
        # Of the selected ones, by their directory.
        self.plans: PackedDict[ExperimentPlan] = PackedDict()
        self._folders: set[str] = set()  # directories of all experiments, selected or not
        # Those by id, for each store and for its trash.
        self._by_id: defaultdict[tuple[int, bool], dict[str, str]] = defaultdict(dict)
        for store in stores:
            for entry in ranked(store.index.experiments):
                folder = sys.intern(entry.path)  # the same string as in the entries of its runs
                self._folders.add(folder)
                by_id = self._by_id[store.number, entry.in_trash]
                by_id.setdefault(entry.entity_id, folder)

    def part(self, entries: Iterable[tuple[Store, Entry]]) -> ExperimentIndex:
        """The part that is about some entities, to be sent to another process."""
        part = ExperimentIndex(())
        # Most of them lie together: one of each folder and experiment is enough.
        places = {
            (entry.folder, entry.in_trash, entry.experiment_id, store.number): (store, entry)
            for store, entry in entries
        }
        for store, entry in places.values():
            folder, place = entry.folder, (store.number, entry.in_trash)
            part._folders.update(self._folders.intersection((folder, os.path.dirname(folder))))  # noqa: PTH120
            experiment_id = entry.experiment_id or ""
            if (by_id := self._by_id[place].get(experiment_id)) is not None:
                part._by_id[place][experiment_id] = by_id
            own_folder = self.folder_of(store, entry)
            if (plan := self.plans.get(own_folder)) is not None:
                part.plans[own_folder] = plan
        return part

    def plan_of(self, store: Store, entry: Entry) -> ExperimentPlan | None:
        """The plan of an entity's experiment; None if the options leave that out."""
        return self.plans.get(self.folder_of(store, entry))

    def has_plan(self, store: Store, entry: Entry) -> bool:
        """Whether an entity's experiment is selected."""
        return self.folder_of(store, entry) in self.plans

    def has_id(self, store: Store, experiment_id: str) -> bool:
        """Whether a store has an active experiment of this id, selected or not."""
        return experiment_id in self._by_id[store.number, False]

    def plan_of_id(self, store: Store, experiment_id: str) -> ExperimentPlan | None:
        """The plan of an active experiment of a store by its id, likewise."""
        return self.plans.get(self._by_id[store.number, False].get(experiment_id, ""))

    def folder_of(self, store: Store, entry: Entry) -> str:
        """The directory of the experiment that an entity belongs to; empty if there is none.

        A run lies directly in it, all else in a folder of it, such as ``traces``. Where an entity
        lies elsewhere, its experiment is found by id. An id may occur twice in a store, in folders
        of the user's own.
        """
        if entry.folder in self._folders:
            return entry.folder
        above = os.path.dirname(entry.folder)  # noqa: PTH120  # a Path for each costs more
        if above in self._folders:
            return above
        return self._by_id[store.number, entry.in_trash].get(entry.experiment_id or "", "")


class RunIndex:
    """All runs of the sources by id, and the directories that hold them.

    Several directories may have the same run id. The first counts: a selected one, an active one,
    one of an earlier source. The others are its ``copies``.
    """

    def __init__(self, stores: Sequence[Store], experiments: ExperimentIndex) -> None:
        self.entries: dict[str, RunEntry] = {}  # those that count
        self.copies: defaultdict[str, list[tuple[Store, RunEntry]]] = defaultdict(list)
        self.first_store = stores[0]
        self.elsewhere: dict[str, Store] = {}  # runs that do not lie in the first store
        self.in_other_shards: set[str] = set()
        found = [(store, entry) for store in stores for entry in ranked(store.index.runs)]
        # The sort is stable: among the selected ones the order stays.
        found.sort(key=lambda each: not experiments.has_plan(*each))
        for store, entry in found:
            if entry.entity_id in self.entries:
                self.copies[entry.entity_id].append((store, entry))
                continue
            self.entries[entry.entity_id] = entry
            if store is not self.first_store:
                self.elsewhere[entry.entity_id] = store

    def store_of(self, run_id: str) -> Store:
        """The store that holds the directory of a run that counts."""
        return self.elsewhere.get(run_id, self.first_store)

    def has(self, run_id: str) -> bool:
        """Whether there is such a run, and it belongs to this shard."""
        return run_id in self.entries and run_id not in self.in_other_shards
