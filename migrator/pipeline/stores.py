"""The sources, walked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from migrator import extractor, transformer
from migrator.errors import MigrateError, SourceError
from migrator.extractor import buckets as remote
from migrator.issues import Issue
from migrator.model import Entry, SourceIndex
from migrator.outcome.summary import Outcome
from migrator.pipeline.options import Options, Paths, as_texts

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
    mirror: remote.Mirror | None = None  # what is walked if the source is not a local folder

    @property
    def name(self) -> str:
        """What people know the store by: its path or address."""
        return self.named(self.index.root)

    def named(self, text: str) -> str:
        """A text in which the places of the store have the names that people know."""
        return text if self.mirror is None else self.mirror.named(text)

    def address(self, path: str) -> str:
        """The location to record for a path in the store."""
        address = None if self.mirror is None else self.mirror.address(path)
        return address or transformer.local_uri(path)

    def outline(self) -> Store:
        """The store without its entries: its place and its number."""
        bare = SourceIndex(self.index.root, (), (), (), (), (), (), 0, 0, 0, ())
        return replace(self, index=bare)


@contextmanager
def fetched(
    sources: Paths,
    options: Options,
    progress: Progress = no_progress,
    *,
    whole: bool = False,
) -> Iterator[list[str | remote.Mirror]]:
    """Yield the sources, with a mirror in the place of each that is not a local folder.

    The mirrors are gone when the block ends, and errors that it raises name the sources. With
    ``whole`` all artifacts are fetched too. Raises SourceError and OptionError.
    """
    names = as_texts(sources)
    if not any(map(remote.is_remote, names)):
        yield list(names)
        return
    profiles = transformer.load_profiles(options.profile_files)
    choice = transformer.PlanOptions(include=options.include, profile=options.profile)
    wanted = transformer.wanted_artifacts(p for p in profiles if choice.asks_for(p))

    def reads(path: str, size_bytes: int) -> bool:
        return whole or extractor.is_read(path, size_bytes, wanted)

    places: list[str | remote.Mirror] = []
    with ExitStack() as mirrors:
        for source in dict.fromkeys(names):
            if remote.is_remote(source):
                places.append(mirrors.enter_context(remote.mirrored(source, reads, progress)))
            else:
                places.append(source)
        try:
            yield places
        except MigrateError as error:
            texts = [error.what, error.todo]
            for place in places:
                if isinstance(place, remote.Mirror):
                    texts = [place.named(text) for text in texts]
            raise type(error)(texts[0], todo=texts[1]) from error


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
    """Sort entries so that of those with one id the first counts.

    Active ones come before deleted ones, then shorter paths: the name of a copy is longer.
    """
    return sorted(
        entries, key=lambda e: (e.in_trash, len(e.folder) + len(e.name), e.folder, e.name)
    )


def files_now(store: Store) -> int:
    """How many files a store holds by now; 0 if it can't be read any more."""
    try:
        return extractor.index(store.index.root).files
    except SourceError:
        return 0
