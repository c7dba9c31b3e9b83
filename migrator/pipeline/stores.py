"""The sources, walked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from migrator import extractor, transformer
from migrator.issues import Issue
from migrator.model import Entry, RootChange, SourceIndex
from migrator.outcome.summary import Outcome
from migrator.pipeline.artifact_roots import check_told
from migrator.pipeline.options import Options, Paths, as_texts

Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)
Say = Callable[[str], None]
E = TypeVar("E", bound=Entry)


def no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def say_nothing(text: str) -> None:
    """Print nothing."""


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
        folders = self.source.folders
        if any(path == folder or path.startswith(folder + os.sep) for folder in folders):
            return self.source.address(path) or transformer.local_uri(path)
        return transformer.local_uri(path)

    def outline(self) -> Store:
        """The store without its entries: its place and its number."""
        bare = SourceIndex(self.index.root, (), (), (), (), (), (), 0, 0, 0, ())
        return Store(self.number, bare, self.source.outline())


@contextmanager
def fetched(
    sources: Paths,
    options: Options,
    progress: Progress = no_progress,
    *,
    whole: bool = False,
) -> Iterator[list[extractor.Source]]:
    """Open the sources until the block ends. With ``whole`` all artifacts can be read too.

    Raises SourceError and OptionError.
    """
    names = list(dict.fromkeys(as_texts(sources)))
    wanted: extractor.Wanted = _nothing
    if any(map(extractor.fetches_texts, names)):
        profiles = transformer.load_profiles(options.profile_files)
        choice = transformer.PlanOptions(include=options.include, profile=options.profile)
        wanted = transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p))

    def takes(experiment_id: str, title: str, is_deleted: bool) -> bool:
        return options.takes_experiment(experiment_id, title, is_deleted=is_deleted)

    with ExitStack() as opened:
        yield [
            opened.enter_context(
                extractor.open_source(
                    name,
                    wanted=wanted,
                    whole=whole,
                    progress=progress,
                    requests=options.requests,
                    takes=takes,
                )
            )
            for name in names
        ]


def _nothing(path: str) -> bool:
    return False


def open_stores(
    sources: Sequence[extractor.Source],
    progress: Progress = no_progress,
    told: Sequence[RootChange] = (),
    say: Say = say_nothing,
) -> list[Store]:
    """Walk every source once, and look for artifacts that lie apart from their runs.

    ``told`` is where the user says that artifacts are. What a source holds and does not give is
    passed to ``say`` before it is read. Raises SourceError when a source can't be
    listed, and OptionError when no source records a location below a root that was told.
    """
    stores: dict[str, Store] = {}
    for source in sources:
        if source.name not in stores:
            if source.withheld:
                from migrator.report.text import withheld_text  # needed for servers only

                say(withheld_text(source.name, source.withheld))
            index = source.index(lambda runs: progress("walking", runs, 0))
            complete, index = source.find_artifacts(index, told)
            stores[source.name] = Store(len(stores), index, complete)
    check_told([(store.source, store.index) for store in stores.values()], told)
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
    """Sort entries so that of those with one id the first counts.

    Active ones come before deleted ones, then shorter paths: the name of a copy is longer.
    """
    return sorted(
        entries, key=lambda e: (e.in_trash, len(e.folder) + len(e.name), e.folder, e.name)
    )
