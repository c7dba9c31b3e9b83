"""The sources, walked once, and which experiment each thing in them belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from migrator import extractor, transformer
from migrator.issues import Issue
from migrator.model import Entry, ExperimentPlan, SourceIndex
from migrator.outcome.summary import Outcome
from migrator.pipeline.options import Options

Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)
E = TypeVar("E", bound=Entry)


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Store:
    """One source, walked."""

    number: int
    index: SourceIndex
    source: extractor.Source

    @property
    def name(self) -> str:
        """What people know the store by: its path or address."""
        return self.source.name

    def address(self, path: str) -> str:
        """The location to record for a path in the store."""
        return self.source.address(path) or transformer.local_uri(path)

    def outline(self) -> Store:
        """The store without its entries: where it is, and which number it has."""
        bare = SourceIndex(self.index.root, (), (), (), (), (), (), 0, 0, 0, ())
        return Store(self.number, bare, self.source.outline())


@contextmanager
def fetched(
    sources: Sequence[str],
    options: Options,
    progress: Progress = no_progress,
    *,
    whole: bool = False,
) -> Iterator[list[extractor.Source]]:
    """Open the sources until the block ends. With ``whole`` all artifacts can be read too.

    Raises SourceError and OptionError.
    """
    wanted: extractor.Wanted = _nothing
    if any(map(extractor.fetches_texts, sources)):
        profiles = transformer.load_profiles(options.profile_files)
        choice = transformer.PlanOptions(include=options.include, profile=options.profile)
        wanted = transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p))
    with ExitStack() as opened:
        yield [
            opened.enter_context(
                extractor.open_source(source, wanted=wanted, whole=whole, progress=progress)
            )
            for source in dict.fromkeys(sources)
        ]


def _nothing(path: str) -> bool:
    return False


def open_stores(
    sources: Sequence[extractor.Source], progress: Progress = no_progress
) -> list[Store]:
    """Walk every source once. Raises SourceError when one can't be listed."""
    stores: dict[str, Store] = {}
    for source in sources:
        if source.name not in stores:
            index = source.index(lambda runs: progress("walking", runs, 0))
            stores[source.name] = Store(len(stores), index, source)
    return list(stores.values())


def name_sources(stores: Sequence[Store], outcome: Outcome) -> None:
    """Let the issues of an outcome speak of the sources, not of their mirrors."""
    for store in stores:
        if store.name != store.index.root:
            outcome.ledger.issues = [_named(store, issue) for issue in outcome.ledger.issues]


def _named(store: Store, issue: Issue) -> Issue:
    return replace(
        issue,
        path=store.source.named(issue.path),
        message=store.source.named(issue.message),
        kept=store.source.named(issue.kept),
        sample=store.source.named(issue.sample),
    )


def ranked(entries: Sequence[E]) -> list[E]:
    """Return entries so that of those with one id the first counts.

    The active one before a deleted one, then the shorter path: a copy's name is longer.
    """
    return sorted(
        entries, key=lambda e: (e.in_trash, len(e.folder) + len(e.name), e.folder, e.name)
    )


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
        if entry.folder in self._folders:
            return entry.folder
        above = os.path.dirname(entry.folder)  # noqa: PTH120  # a Path for each costs more
        if above in self._folders:
            return above
        return self._by_id.get((store.number, entry.in_trash, entry.experiment_id or ""), "")
