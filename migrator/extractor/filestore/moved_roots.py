"""Finding artifacts that lie apart from their runs in a store that was moved.

A store that was moved has recorded locations that lead nowhere: ``/home/ana/proj/artifacts/1``,
while the store is ``/data/proj/mlruns``. If ``/data/proj/artifacts/1`` holds artifacts of these
runs, the root ``/home/ana`` became ``/data``. Ids of runs, models and traces occur once in the
world, so a directory that has one is never another's.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from migrator.counting import counted
from migrator.extractor.filestore.artifacts import (
    own_folders,
    owner_location,
    owners_of,
    recorded_location,
)
from migrator.extractor.filestore.scanning import is_below, measure
from migrator.extractor.locations import (
    is_relative,
    local_path,
    local_text,
    moved_locations,
    path_parts,
    scheme_of,
)
from migrator.issues import Code, Issue, Kind
from migrator.model import Entry, RootChange, SourceIndex
from migrator.paths import openable_path

SAMPLE = 20  # owners of an experiment whose recorded locations are read
MOST_LEVELS = 4  # directories in which artifacts are looked for: the store and those above it
MOST_PARTS = 30  # of the end of a recorded location, by which a directory is looked for
_IGNORED = frozenset({Code.DIRECTORY_IGNORED, Code.RUNS_IGNORED})

Owner = tuple[Kind, Entry]


@dataclass(slots=True)
class FoundArtifacts:
    """What a search found: changes of roots, and owners' directories inside the store."""

    changes: list[RootChange] = field(default_factory=list)
    inside: set[str] = field(default_factory=set)  # of runs, models and traces


def search_artifacts(index: SourceIndex, told: Sequence[RootChange]) -> FoundArtifacts:
    """Look for artifacts that lie apart from their owners, experiment by experiment.

    Few files are read: the experiments' own and those of ``SAMPLE`` owners of each.
    """
    found = FoundArtifacts(list(told))
    owners: dict[str, list[Owner]] = defaultdict(list)
    for kind, entry in owners_of(index):
        owners[entry.experiment_id or ""].append((kind, entry))
    for experiment in index.experiments:
        if not experiment.in_trash:
            _search_experiment(index.root, experiment, owners[experiment.entity_id], found)
    return found


def _search_experiment(
    root: str, experiment: Entry, owners: Sequence[Owner], found: FoundArtifacts
) -> None:
    for base in dict.fromkeys(_bases(experiment, owners)):
        place = local_path(base, base=os.path.dirname(root))
        if place == experiment.path:
            continue  # the store's own layout, in its place
        if place is None or not _has_artifacts(place, owners):
            place = _new_place(root, experiment, base, owners, found)
        if place is not None and place != experiment.path and is_below(place, root):
            found.inside.update(filter(os.path.isdir, _directories(place, owners)))


def _bases(experiment: Entry, owners: Sequence[Owner]) -> Iterator[str]:
    """The local locations below which an experiment's owners record theirs."""
    uri = recorded_location(f"{experiment.path}/meta.yaml", "artifact_location")
    parts = path_parts(uri)
    if _is_local(uri, parts):
        yield local_text(parts, is_relative=is_relative(uri))
    step = max(1, len(owners) // SAMPLE)
    for kind, entry in owners[::step]:
        uri = owner_location(kind, entry)
        folders = own_folders(kind, entry)
        parts = path_parts(uri)
        if _is_local(uri, parts) and parts[-len(folders) :] == folders:
            yield local_text(parts[: -len(folders)], is_relative=is_relative(uri))


def _is_local(uri: str, parts: tuple[str, ...]) -> bool:
    return scheme_of(uri) == "file" and not any("\x00" in part for part in parts)


def _new_place(
    root: str, experiment: Entry, base: str, owners: Sequence[Owner], found: FoundArtifacts
) -> str | None:
    """Find the directory that a base of locations became; None where no artifacts are found."""
    parts = path_parts(base)
    known = moved_locations(base, found.changes)
    if parts[-1:] == (experiment.entity_id,):
        known.append(experiment.path)  # the store's own layout
    for place in known:
        if _has_artifacts(place, owners):
            return place
    tried = set(known)
    for above in _levels(root):
        for begin in range(max(0, len(parts) - MOST_PARTS), len(parts) + 1):
            place = os.path.normpath(os.path.join(above, *map(openable_path, parts[begin:])))
            if place in tried:
                continue
            tried.add(place)
            if _has_artifacts(place, owners):
                found.changes.append(_change(base, parts, place))
                return place
    return None


def _levels(root: str) -> Iterator[str]:
    folder = root
    for _ in range(MOST_LEVELS):
        if folder == os.path.dirname(folder):
            return
        yield folder
        folder = os.path.dirname(folder)


def _has_artifacts(place: str, owners: Sequence[Owner]) -> bool:
    """Whether a directory has artifacts of one of these owners, as MLflow arranges them."""
    try:
        names = set(os.listdir(place))
    except OSError:
        return False
    for kind, entry in owners:
        folders = own_folders(kind, entry)
        if openable_path(folders[0]) not in names:
            continue
        try:
            if os.listdir(os.path.join(place, *map(openable_path, folders))):
                return True
        except OSError:
            continue
    return False


def _change(base: str, parts: tuple[str, ...], place: str) -> RootChange:
    """The change of root, without what both paths have in common at their ends."""
    new = place
    kept = list(parts)
    while kept and openable_path(kept[-1]) == os.path.basename(new):
        kept.pop()
        new = os.path.dirname(new)
    return RootChange(local_text(tuple(kept), is_relative=is_relative(base)), new)


def _directories(place: str, owners: Iterable[Owner]) -> Iterator[str]:
    for kind, entry in owners:
        folders = own_folders(kind, entry)[:-1]
        yield os.path.join(place, *map(openable_path, folders))


def without_found(index: SourceIndex, inside: set[str]) -> SourceIndex:
    """An index whose ignored directories are those in which no artifacts were found.

    Files in the directories ``inside`` the store count as artifacts.
    """
    if not inside:
        return index
    issues: list[Issue] = []
    artifact_files = 0
    for issue in index.issues:
        files = 0
        if issue.code in _IGNORED:
            files = _files_inside(issue.path, inside, index.root)
        artifact_files += files
        if files == 0:
            issues.append(issue)
        elif files < issue.count:
            others = counted(issue.count - files, "other file")
            message = f"Besides artifacts, the directory holds {others} that MLflow does not write."
            issues.append(replace(issue, count=issue.count - files, message=message))
    return replace(
        index,
        issues=tuple(issues),
        ignored_files=index.ignored_files - artifact_files,
        artifact_files=artifact_files,
    )


def _files_inside(ignored: str, inside: set[str], root: str) -> int:
    """Count the files of an ignored directory that are an owner's artifacts."""
    places = [place for place in inside if is_below(place, ignored)]
    if not places:
        folder = ignored
        while len(folder) > len(root) and folder not in inside:
            folder = os.path.dirname(folder)
        places = [ignored] if folder in inside else []
    return sum(measure(place, root, through_links=False).files for place in places)
