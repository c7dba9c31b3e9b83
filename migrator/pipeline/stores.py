"""The sources, walked once, and which experiment each thing in them belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from migrator import extractor, transformer
from migrator.errors import MigrateError, SourceError
from migrator.extractor import buckets as remote
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
    artifact_roots: tuple[str, ...]
    mirror: remote.Mirror | None = None  # what is walked, if the source is no local folder

    @property
    def name(self) -> str:
        """What people know the store by: its path or address."""
        return self.named(self.index.root)

    def named(self, text: str) -> str:
        """Return a text in which the places of the store are called as people know them."""
        return text if self.mirror is None else self.mirror.named(text)

    def address(self, path: str) -> str:
        """Return the location to record for a path in the store."""
        address = None if self.mirror is None else self.mirror.address(path)
        return address or transformer.local_uri(path)

    def outline(self) -> Store:
        """Return it without its entries: where it is, and which number it has."""
        bare = SourceIndex(self.index.root, (), (), (), (), (), (), 0, 0, 0, ())
        return replace(self, index=bare)


@contextmanager
def fetched(
    sources: Sequence[str],
    options: Options,
    progress: Progress = no_progress,
    *,
    whole: bool = False,
) -> Iterator[list[str | remote.Mirror]]:
    """Yield the sources, with a mirror in the place of each that is no local folder.

    The mirrors are gone when the block ends, and errors that it raises name the sources. With
    ``whole`` all artifacts are fetched too. Raises SourceError and OptionError.
    """
    if not any(map(remote.is_remote, sources)):
        yield list(sources)
        return
    profiles = transformer.load_profiles(options.profile_files)
    choice = transformer.PlanOptions(include=options.include, profile=options.profile)
    wanted = transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p))

    def reads(path: str, size_bytes: int) -> bool:
        return whole or extractor.is_read(path, size_bytes, wanted)

    places: list[str | remote.Mirror] = []
    with ExitStack() as mirrors:
        for source in dict.fromkeys(sources):
            if remote.is_remote(source):
                places.append(mirrors.enter_context(remote.mirrored(source, reads, progress)))
            else:
                places.append(source)
        try:
            yield places
        except MigrateError as error:
            named = [error.what, error.todo]
            for place in places:
                if isinstance(place, remote.Mirror):
                    named = [place.named(text) for text in named]
            raise type(error)(named[0], todo=named[1]) from error


def open_stores(
    sources: Sequence[str | remote.Mirror], progress: Progress = no_progress
) -> list[Store]:
    """Walk every source once. Raises SourceError when one can't be opened."""
    stores: dict[str, Store] = {}
    for source in sources:
        mirror = source if isinstance(source, remote.Mirror) else None
        root = extractor.open_source(source if isinstance(source, str) else source.path)
        name = root if mirror is None else mirror.named(root)
        if name in stores:
            continue
        index = extractor.index(root, lambda runs: progress("walking", runs, 0), count_runs=False)
        if mirror is not None:  # what could not be fetched was found as well, and is named
            index = replace(
                index,
                files=index.files + mirror.files,
                size_bytes=index.size_bytes + mirror.size_bytes,
                ignored_files=index.ignored_files + mirror.files,
                issues=(*index.issues, *mirror.issues),
            )
        roots = extractor.find_artifact_roots(root)
        stores[name] = Store(len(stores), index, roots, mirror)
    return list(stores.values())


def name_sources(stores: Sequence[Store], outcome: Outcome) -> None:
    """Let the issues of an outcome speak of the sources, not of their mirrors."""
    for store in stores:
        if store.mirror is not None:
            outcome.ledger.issues = [_named(store, issue) for issue in outcome.ledger.issues]


def _named(store: Store, issue: Issue) -> Issue:
    return replace(
        issue,
        path=store.named(issue.path),
        message=store.named(issue.message),
        kept=store.named(issue.kept),
        sample=store.named(issue.sample),
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


def files_now(store: Store) -> int:
    """Return how many files a store holds by now, 0 if it can't be read any more."""
    try:
        return extractor.index(store.index.root).files
    except SourceError:
        return 0
