"""Knowing without reading that a source has nothing new for a database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from migrator import __version__, extractor, loader, workers
from migrator.issues import Issue, Severity
from migrator.outcome.summary import ArtifactSummary
from migrator.pipeline.options import Options
from migrator.pipeline.stores import Opened, Store


def state_of(opened: Opened, options: Options, target: loader.Target) -> loader.SourceState:
    """The state of the sources as far as sizes and times tell it, before they are read.

    Its content is empty if they don't: the sources are not all file stores in local folders, a
    file was changed in this moment, or artifacts are copied, whose copies have to be looked at.
    """
    place = f"{opened.place}\n{options.shard.number}/{options.shard.parts}"
    folders = [source.watched for source in opened.sources]
    if not all(folders) or options.artifacts.directory is not None:
        return loader.SourceState(place, "")
    every = [folder for several in folders for folder in several]
    processes = min(options.workers or workers.cores(), workers.cores())
    found = extractor.take_fingerprint(every, processes)
    if found is None or not found.is_settled:
        return loader.SourceState(place, "")
    how = (__version__, target.wanted, options.decisive, _contents(options.profile_files))
    return loader.SourceState(place, f"{how} {found.digest}")


def _contents(files: Sequence[str]) -> list[str]:
    return [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]


def state_to_keep(
    state: loader.SourceState,
    stores: Sequence[Store],
    summary: ArtifactSummary,
    issues: Iterable[Issue],
) -> loader.SourceState:
    """What to remember once the sources are read.

    The content is empty if something was read outside of the folders whose files were looked at,
    or was rejected, which has to be reported again.
    """
    is_outside = summary.has_outside or any(store.remote.changes for store in stores)
    if is_outside or any(issue.severity is Severity.REJECTED for issue in issues):
        return loader.SourceState(state.place, "")
    return state
