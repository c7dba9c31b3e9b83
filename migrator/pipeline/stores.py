"""The sources, walked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

from migrator import __version__, extractor, transformer
from migrator.errors import OptionError, SourceError
from migrator.issues import Issue
from migrator.model import Entry, RootChange, SourceIndex
from migrator.outcome.summary import Outcome
from migrator.pipeline.artifact_roots import check_told
from migrator.pipeline.options import Options, Paths, as_texts

Progress = Callable[[str, int, int], None]  # stage, done, total (0 when it is not known)
Say = Callable[[str], None]
E = TypeVar("E", bound=Entry)


def checked_progress(progress: Progress | None) -> Progress:
    """The function for progress, or one that does nothing. Raises OptionError for a value."""
    if progress is None:
        return no_progress
    if not callable(progress):
        raise OptionError(
            f"The value {progress!r} of progress is not a function.",
            todo="Give one that takes a stage, the number done and the total.",
        )
    return progress


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
    remote: extractor.RemoteArtifacts = field(default_factory=extractor.RemoteArtifacts)

    @property
    def name(self) -> str:
        """What people know the store by: its path or address."""
        return self.source.name

    def address(self, path: str) -> str:
        """The location to record for a path in the store, or in the mirrors of its artifacts."""
        remote = self.remote.address(path)
        if remote is not None:
            return remote
        folders = self.source.folders
        if any(path == folder or path.startswith(folder + os.sep) for folder in folders):
            return self.source.address(path) or transformer.local_uri(path)
        return transformer.local_uri(path)

    def named(self, text: str) -> str:
        """Replace places that only this program knows by those that people know."""
        return self.source.named(self.remote.named(text))

    def outline(self) -> Store:
        """The store without its entries: its place and its number."""
        bare = SourceIndex(self.index.root, (), (), (), (), (), (), 0, 0, 0, ())
        return Store(self.number, bare, self.source.outline(), self.remote)


def run_ids_of(stores: Sequence[Store]) -> set[str]:
    """The ids of all runs in some stores."""
    found: set[str] = set()
    for store in stores:
        found.update(entry.entity_id for entry in store.index.runs)
    return found


Look = Callable[[extractor.Source, SourceIndex], extractor.RemoteArtifacts]


@dataclass(frozen=True, slots=True)
class Opened:
    """Sources that are open, and how they are walked."""

    sources: Sequence[extractor.Source]
    place: str = ""  # of what the user gave; it stays when --each finds another store
    issues: Sequence[Issue] = ()  # of the search for stores
    told: Sequence[RootChange] = ()  # where the user says that artifacts are
    progress: Progress = no_progress
    look: Look = lambda source, index: extractor.RemoteArtifacts()  # at artifacts elsewhere


@contextmanager
def fetched(
    sources: Paths,
    options: Options,
    progress: Progress = no_progress,
    *,
    whole: bool = False,
) -> Iterator[Opened]:
    """Open the sources until the block ends. With ``whole`` all artifacts can be read too.

    Raises SourceError and OptionError.
    """
    wanted = _wanted_artifacts(options)
    reading = extractor.Reading(
        wanted, whole, options.artifacts.mode == "copy", options.fetch_limit, progress
    )
    told = options.artifacts_at

    def takes(experiment_id: str, title: str, is_deleted: bool) -> bool:
        return options.takes_experiment(experiment_id, title, is_deleted=is_deleted)

    with ExitStack() as opened:

        def look(source: extractor.Source, index: SourceIndex) -> extractor.RemoteArtifacts:
            needs_any = options.traces or whole
            if not needs_any or not options.fetch_limit or source.gives_artifacts:
                return extractor.RemoteArtifacts()
            chosen = _only_taken(source, index, options)
            return opened.enter_context(extractor.look_at_artifacts(source, chosen, told, reading))

        given: dict[str, extractor.Source] = {}
        places: set[str] = set()
        issues: list[Issue] = []
        texts = as_texts(sources)
        if not texts:
            raise SourceError(
                "No source is given.", todo="Give the path of an mlruns directory, or a database."
            )
        for text in texts:
            found = extractor.find_stores(text, each=options.each)
            issues += found.issues
            for name in found.paths:
                if name not in given:
                    given[name] = opened.enter_context(
                        extractor.open_source(
                            name,
                            wanted=wanted,
                            whole=whole,
                            progress=progress,
                            requests=options.requests,
                            takes=takes,
                        )
                    )
            places.add(found.folder or given[text].name)
        names = {source.name for source in given.values()}
        issues = [issue for issue in issues if issue.path not in names]  # beside one, but given too
        yield Opened(list(given.values()), "\n".join(sorted(places)), issues, told, progress, look)


def _only_taken(source: extractor.Source, index: SourceIndex, options: Options) -> SourceIndex:
    """An index without the runs, logged models and traces of experiments that are left out."""
    if not options.experiments and not options.not_experiments:
        return index
    taken = set()
    for entry in index.experiments:
        record = source.read_experiment(entry).record
        if record is None:
            continue
        identity, name = record.experiment_id, record.name
        if options.takes_experiment(identity, name, is_deleted=record.deleted):
            taken.add(entry.entity_id)
    return index.of_owners(lambda entry: entry.experiment_id in taken)


def _wanted_artifacts(options: Options) -> extractor.Wanted:
    """Which artifacts the profiles read; they are loaded when it is first asked."""

    @cache
    def chosen() -> extractor.Wanted:
        profiles = transformer.load_profiles(options.profile_files)
        choice = transformer.PlanOptions(include=options.include, profile=options.profile)
        return transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p))

    return lambda path: chosen()(path)


def open_stores(opened: Opened, say: Say = say_nothing) -> list[Store]:
    """Walk every source once, and look for artifacts that lie apart from their runs.

    What a source holds and does not give is passed to ``say`` before it is read. Raises SourceError
    when a source can't be listed, and OptionError when no source records a location below a root
    that was told.
    """
    walked: dict[str, tuple[extractor.Source, SourceIndex]] = {}
    for source in opened.sources:
        if source.name not in walked:
            if source.withheld:
                from migrator.report.text import withheld_text  # needed for servers only

                say(withheld_text(source.name, source.withheld))
            index = source.index(lambda runs: opened.progress("walking", runs, 0))
            walked[source.name] = source, index
    check_told(list(walked.values()), opened.told)
    stores: list[Store] = []
    for source, index in walked.values():
        remote = opened.look(source, index)
        here = [change for change in opened.told if "://" not in change.new]
        complete, index = source.find_artifacts(index, [*here, *remote.changes])
        searched = () if stores else opened.issues
        index = replace(index, issues=(*index.issues, *remote.issues, *searched))
        stores.append(Store(len(stores), index, complete, remote))
    return stores


def new_outcome(stores: Sequence[Store], options: Options, target: str | None) -> Outcome:
    """The outcome of a walk over the stores, before it begins."""
    names = tuple(store.name for store in stores)
    return Outcome(__version__, names, target, shard=options.shard)


def name_sources(stores: Sequence[Store], outcome: Outcome) -> None:
    """Let the issues of an outcome speak of the sources, not of their mirrors."""
    for store in stores:
        if store.name != store.index.root or store.remote.mirrors:
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
    """Sort entries so that of those with one id the first counts.

    Active ones come before deleted ones, then shorter paths: the name of a copy is longer.
    """
    return sorted(
        entries, key=lambda e: (e.in_trash, len(e.folder) + len(e.name), e.folder, e.name)
    )
