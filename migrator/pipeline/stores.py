"""The sources, walked once, and which experiment each thing in them belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from migrator import extractor
from migrator.errors import SourceError
from migrator.model import Entry, ExperimentPlan, SourceIndex

Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)
E = TypeVar("E", bound=Entry)


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Store:
    """One source, walked."""

    number: int
    index: SourceIndex
    artifact_roots: tuple[str, ...]

    def outline(self) -> Store:
        """Return it without its entries: where it is, and which number it has."""
        bare = SourceIndex(self.index.root, (), (), (), (), (), (), 0, 0, 0, ())
        return Store(self.number, bare, self.artifact_roots)


def open_stores(sources: Sequence[str], progress: Progress = no_progress) -> list[Store]:
    """Walk every source once. Raises SourceError when one can't be opened."""
    roots = list(dict.fromkeys(extractor.open_source(source) for source in sources))
    return [
        Store(
            number,
            extractor.index(root, lambda runs: progress("walking", runs, 0), count_runs=False),
            extractor.find_artifact_roots(root),
        )
        for number, root in enumerate(roots)
    ]


def ranked(entries: Sequence[E]) -> list[E]:
    """Return entries so that of those with one id the first counts.

    The active one before a deleted one, then the shorter path: a copy's name is longer.
    """
    return sorted(entries, key=lambda e: (e.in_trash, len(e.path), e.path))


class Homes:
    """Which experiment of the sources an entry belongs to, and what that becomes."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.plans: dict[str, ExperimentPlan] = {}  # of the selected ones, by their directory
        self._folders: set[str] = set()  # directories of all experiments, selected or not
        self._by_id: dict[tuple[int, bool, str], str] = {}  # those, by store, in trash, id
        for store in stores:
            for entry in ranked(store.index.experiments):
                self._folders.add(entry.path)
                self._by_id.setdefault((store.number, entry.in_trash, entry.entity_id), entry.path)

    def plan_of(self, store: Store, entry: Entry) -> ExperimentPlan | None:
        """Return what the entry's experiment becomes, None if it is not selected."""
        return self.plans.get(self.home(store, entry))

    def home(self, store: Store, entry: Entry) -> str:
        """Return the directory of the experiment that an entry belongs to.

        The entry lies in it (a run right there, all else in a folder such as ``traces``). An id
        may occur twice in a store, in folders of the user's own; it only helps a stray entry.
        """
        inside = os.path.dirname(entry.path)  # noqa: PTH120  # a Path for each run costs more
        for folder in (inside, os.path.dirname(inside)):  # noqa: PTH120
            if folder in self._folders:
                return folder
        return self._by_id.get((store.number, entry.in_trash, entry.experiment_id or ""), "")


def files_now(store: Store) -> int:
    """Return how many files a store holds by now, 0 if it can't be read any more."""
    try:
        return extractor.index(store.index.root).files
    except SourceError:
        return 0
