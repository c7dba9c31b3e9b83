"""Finding where a run's artifacts really lie, and reading the texts among them.

Recorded locations are often stale, because the store was moved. So directories come first: the
run's own ``artifacts/``, then where the user says that they are, then a server's
``mlartifacts``, then the recorded location, then where that is in a store that was moved. The
``locate_…`` functions say what a recorded location leads to; what to write in its place is not
decided here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from migrator import conventions
from migrator.extractor.filestore.layout import store_of
from migrator.extractor.filestore.read_log import ReadLog
from migrator.extractor.filestore.scanning import (
    FileTooLarge,
    SpecialEntry,
    is_below,
    read_bytes,
    reason,
    scan,
)
from migrator.extractor.filestore.yamlfile import YAML_LIMIT_BYTES, load
from migrator.extractor.locations import describe_location, local_path, moved_locations, path_parts
from migrator.extractor.source import StoredFile
from migrator.issues import Code, Kind
from migrator.model import (
    ArtifactFile,
    Entry,
    Location,
    LoggedModelRecord,
    RootChange,
    RunRecord,
    SourceIndex,
    TraceRecord,
)
from migrator.paths import LFS_POINTER, openable_path, readable_path

# What lies between an experiment's directory and an entity's (FileStore, 2.14 and 3.0 on).
_FOLDERS = {Kind.LOGGED_MODEL: ("models",), Kind.TRACE: ("traces",)}
_PLAIN_LINE = re.compile(
    rb"^(?P<key>artifact_(?:uri|location)): (?P<value>[A-Za-z/][\w./%+=@:-]*)\n(?=[a-z])",
    re.ASCII | re.MULTILINE,
)
_RECORDED_IN: dict[Kind, tuple[str, str | None]] = {
    Kind.RUN: ("meta.yaml", "artifact_uri"),
    Kind.LOGGED_MODEL: ("meta.yaml", "artifact_location"),
    Kind.TRACE: (f"tags/{conventions.ARTIFACT_LOCATION}", None),
}
TEXT_LIMIT_BYTES = 1_000_000  # of an artifact that a profile wants
TABLE_LIMIT_BYTES = 10_000_000  # of one that may hold the rows of an evaluation
_TABLE = re.compile(
    r"(?i)\.(?:csv|tsv|jsonl|ndjson)\Z"
    r"|(?:eval|results?|predict|answers|ragas|judge|score|sample|table)[^/]*\.json\Z"
)


class ArtifactPlaces(NamedTuple):
    """Where artifacts of a store may lie apart from its runs."""

    served: tuple[str, ...] = ()  # a server's artifact directories (``mlartifacts``)
    changes: tuple[RootChange, ...] = ()  # of roots of recorded locations


NO_PLACES = ArtifactPlaces()


def find_artifact_dir(
    log: ReadLog,
    own: str | None,
    holds_files: bool,
    parts: tuple[str, ...],
    places: ArtifactPlaces,
    recorded_uri: str,
) -> str | None:
    """Find the directory that holds an entity's artifacts; None where there is none.

    ``own`` is the directory inside the entity's, and ``holds_files`` whether anything is in it.
    ``parts`` is the path below an artifact root. The recorded location, and what it became, count
    only if their last two parts, links resolved, are the entity's own as MLflow makes them: a
    store must not be able to make us read any directory that it names.
    """
    told = [change for change in places.changes if change.is_told]
    concluded = [change for change in places.changes if not change.is_told]
    served = _own_only(moved_locations(recorded_uri, told), parts)
    served += [os.path.join(root, *map(openable_path, parts)) for root in places.served]
    if own is not None and holds_files:
        other = next((path for path in served if has_files(path)), None)
        if other is not None and _sizes(own) != _sizes(other):
            log.add(
                Code.ARTIFACTS_IN_TWO_PLACES,
                own,
                f"There are artifacts here and, not the same, in {readable_path(other)}.",
                kept="those here",
            )
        return own
    recorded = local_path(recorded_uri, base=os.path.dirname(log.bound))
    if recorded is not None and recorded != own:
        served += _own_only([recorded], parts)
    served += _own_only(moved_locations(recorded_uri, concluded), parts)
    return next((path for path in served if has_files(path)), own)


def _own_only(directories: Sequence[str], parts: tuple[str, ...]) -> list[str]:
    """Those of some directories whose last two parts are an entity's own."""
    own = []
    for directory in directories:
        if not os.path.isabs(directory) or path_parts(directory)[-2:] != parts[-2:]:
            continue
        # A link in the store is as little to be trusted as a recorded location.
        if _is_unlinked(directory, parts) or _resolved_parts(directory)[-2:] == parts[-2:]:
            own.append(directory)
    return own


def _resolved_parts(directory: str) -> tuple[str, ...]:
    return path_parts(os.path.realpath(directory))


def _is_unlinked(directory: str, parts: tuple[str, ...]) -> bool:
    """Whether the last two parts of a path are an entity's own and are not links themselves.

    They stay the same when links above them are resolved, which would cost a look at every
    directory on the way, for every run.
    """
    above, name = os.path.split(directory)
    is_as_written = (os.path.basename(above), name) == parts[-2:]
    return is_as_written and not os.path.islink(directory) and not os.path.islink(above)


# ------------------------------------------------------------------------ recorded locations


def locate_run(entry: Entry, run: RunRecord) -> Location:
    """What a run's recorded location leads to."""
    return _locate(Kind.RUN, entry, run.artifact_uri, run.artifact_dir, bool(run.artifacts))


def locate_logged_model(entry: Entry, model: LoggedModelRecord) -> Location:
    """What a logged model's recorded location leads to."""
    found = model.artifact_dir
    holds_files = found is not None and has_files(found)
    return _locate(Kind.LOGGED_MODEL, entry, model.artifact_location, found, holds_files)


def locate_trace(entry: Entry, trace: TraceRecord) -> Location:
    """What a native trace's recorded location leads to."""
    uri = trace.tags.get(conventions.ARTIFACT_LOCATION, "")
    own = f"{entry.path}/artifacts"
    found = os.path.dirname(trace.spans_path) if trace.spans_path else own
    store = os.path.realpath(store_of(entry, 3))
    is_outside = found == own and not is_below(os.path.realpath(own), store)  # through a link
    if is_outside or not os.path.isdir(found):
        return _locate(Kind.TRACE, entry, uri, None, False)
    return _locate(Kind.TRACE, entry, uri, found, has_files(found))


def locate_experiment(entry: Entry, uri: str, changes: Sequence[RootChange] = ()) -> Location:
    """What an experiment's recorded location leads to.

    Where its artifacts lie apart from it, ``found`` is the directory that has them, and
    ``has_files`` is true.
    """
    apart = next(filter(os.path.isdir, moved_locations(uri, changes)), None)
    return describe_location(
        uri,
        home=entry.path,
        tail=(entry.entity_id,),
        found=entry.path if apart is None else apart,
        has_files=apart is not None,
    )


def locate_inside(
    uri: str, kind: Kind, entry: Entry, places: ArtifactPlaces, inside: tuple[str, ...]
) -> Location:
    """What a location ``inside`` an entity's artifacts leads to."""
    below = [openable_path(part) for part in inside]
    candidates = [os.path.join(p, *below) for p in own_places(kind, entry, places.served)]
    home = candidates[0]
    recorded = local_path(uri)
    if recorded is not None:
        candidates.append(recorded)
    candidates += moved_locations(uri, places.changes)
    found = next(filter(os.path.exists, candidates), None)
    return describe_location(
        uri,
        home=home,
        tail=_tail(kind, entry) + inside,
        found=found,
        has_files=found is not None,
    )


def _locate(kind: Kind, entry: Entry, uri: str, found: str | None, holds_files: bool) -> Location:
    return describe_location(
        uri,
        home=f"{entry.path}/artifacts",
        tail=_tail(kind, entry),
        found=found,
        has_files=holds_files,
    )


def experiment_locations(
    index: SourceIndex, changes: Sequence[RootChange] = ()
) -> Iterator[Location]:
    """Yield the location that each experiment records; those in ``.trash`` are left out.

    It is read apart from the records, because what all locations of a store have in common must
    be known before the first entity is written.
    """
    for entry in index.experiments:
        if not entry.in_trash:
            uri = recorded_location(f"{entry.path}/meta.yaml", "artifact_location")
            yield locate_experiment(entry, uri, changes)


def owners_of(index: SourceIndex) -> Iterator[tuple[Kind, Entry]]:
    """Yield each run, logged model and trace with its kind; those in ``.trash`` are left out."""
    for kind, entries in (
        (Kind.RUN, index.runs),
        (Kind.LOGGED_MODEL, index.logged_models),
        (Kind.TRACE, index.traces),
    ):
        for entry in entries:
            if not entry.in_trash:
                yield kind, entry


def owner_locations(index: SourceIndex, places: ArtifactPlaces) -> Iterator[Location]:
    """Yield the location that each run, logged model and trace records, likewise.

    ``found`` is the first directory there is; whether files are in it is not looked into.
    """
    for kind, entry in owners_of(index):
        uri = owner_location(kind, entry)
        candidates = [*own_places(kind, entry, places.served)]
        candidates += moved_locations(uri, places.changes)
        found = next(filter(os.path.isdir, candidates), None)
        yield _locate(kind, entry, uri, found, False)


def owner_location(kind: Kind, entry: Entry) -> str:
    """Read the location that a run, logged model or trace records; empty where there is none."""
    file, key = _RECORDED_IN[kind]
    return recorded_location(f"{entry.path}/{file}", key)


def recorded_location(path: str, key: str | None) -> str:
    """Read a location from a file, or from ``key`` of a YAML file; empty where it has none."""
    try:
        data = read_bytes(path, YAML_LIMIT_BYTES)
    except (OSError, FileTooLarge):
        return ""  # named when the entity is read
    if key is None:
        return data.decode("utf-8", "replace")
    plain = _PLAIN_LINE.search(data)
    if plain is not None and plain["key"] == key.encode():  # nearly every file: YAML costs more
        return plain["value"].decode()
    loaded = load(data)
    value = loaded.values.get(key)
    text = value if value is None else loaded.written.get(key, value)
    return text if isinstance(text, str) else ""


def own_places(kind: Kind, entry: Entry, artifact_roots: Sequence[str]) -> tuple[str, ...]:
    """The directories in which an entity's artifacts may lie, the best one first."""
    tail = [openable_path(part) for part in _tail(kind, entry)]
    return (f"{entry.path}/artifacts", *(os.path.join(root, *tail) for root in artifact_roots))


def _tail(kind: Kind, entry: Entry) -> tuple[str, ...]:
    return (entry.experiment_id or "", *own_folders(kind, entry))


def own_folders(kind: Kind, entry: Entry) -> tuple[str, ...]:
    """The path of an owner's artifacts below the location of its experiment."""
    return (*_FOLDERS.get(kind, ()), entry.entity_id, "artifacts")


def has_files(path: str) -> bool:
    """Whether anything but directories is below a directory."""
    todo = [path]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        return True
                    todo.append(entry.path)
        except OSError:
            continue
    return False


def artifact_files(directory: str, bound: str) -> Iterator[StoredFile]:
    """Yield each file below a directory, sorted by path.

    Links are followed as everywhere: inside the directory ``bound`` only.
    """
    todo = [(directory, "")]
    while todo:
        folder, prefix = todo.pop()
        listing = scan(folder, bound)
        for name, path in listing.files:
            try:
                size = os.lstat(path).st_size
            except OSError:
                size = 0
            yield StoredFile(prefix + name, path, size)
        todo += [(child, f"{prefix}{name}/") for name, child in reversed(listing.dirs)]


def _sizes(directory: str) -> list[tuple[str, int]]:
    return [(name, size) for name, _, size in artifact_files(directory, directory)]


class Artifacts(NamedTuple):
    """The files below an artifact directory, sorted by path."""

    directory: str | None  # absolute, None where there is none
    files: tuple[ArtifactFile, ...]
    paths: tuple[str, ...]  # of the same files, to open


def list_artifacts(
    log: ReadLog,
    own: str | None,
    parts: tuple[str, ...],
    places: ArtifactPlaces,
    recorded_uri: str,
) -> Artifacts:
    """List the files in an entity's artifact directory (``find_artifact_dir``).

    Only files in the entity's ``own`` directory belong to the census of its files.
    """
    found: list[tuple[ArtifactFile, str]] = []
    holds_files = False
    if own is not None:
        found, holds_files = _walk(log, own, log.bound, count=True)
        log.files_referred += len(found)
        log.size_bytes += sum(file.size_bytes for file, _ in found)
    directory = find_artifact_dir(log, own, holds_files, parts, places, recorded_uri)
    if directory is not None and directory != own:
        found, _ = _walk(log, directory, directory, count=False)
    if len(found) > 1:
        found.sort(key=lambda pair: pair[0].path)
    return Artifacts(directory, tuple(file for file, _ in found), tuple(path for _, path in found))


def _walk(
    log: ReadLog, directory: str, bound: str, *, count: bool
) -> tuple[list[tuple[ArtifactFile, str]], bool]:
    """List the files below a directory; the flag is False if it holds nothing but directories."""
    found: list[tuple[ArtifactFile, str]] = []
    anything = False
    todo = [(directory, "")]
    while todo:
        path, prefix = todo.pop()
        listing = scan(path, bound)
        if count:
            log.count(listing)
        anything = anything or bool(listing.files or listing.special)
        if listing.error is not None:
            log.add(
                Code.DIRECTORY_UNREADABLE,
                path,
                f"The directory can't be listed: {reason(listing.error)}.",
            )
        for odd in listing.special:
            _name_link(log, odd)
        for name, file in listing.files:
            try:
                size = os.lstat(file).st_size
            except OSError:
                size = 0
            found.append((ArtifactFile(readable_path(prefix + name), size), file))
        todo += [(child, f"{prefix}{name}/") for name, child in listing.dirs]
    return found, anything


def _name_link(log: ReadLog, odd: SpecialEntry) -> None:
    log.add(Code.ARTIFACT_LINK, odd.path, f"It is {odd.what}; it was not followed.")


def text_limit_bytes(path: str) -> int:
    """The size up to which an artifact is read, by its path: tables may be larger than texts."""
    return TABLE_LIMIT_BYTES if _TABLE.search(path) else TEXT_LIMIT_BYTES


def read_texts(log: ReadLog, artifacts: Artifacts, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Read the texts of the artifacts that are wanted, by relative path."""
    texts: dict[str, str] = {}
    for artifact, path in zip(artifacts.files, artifacts.paths, strict=True):
        if not wanted(artifact.path):
            continue
        try:
            data = read_bytes(path, text_limit_bytes(artifact.path))
        except FileTooLarge as error:
            log.add(Code.ARTIFACT_NOT_TEXT, path, f"It is too large: {error}.")
            continue
        except OSError as error:
            log.add(Code.ARTIFACT_UNREADABLE, path, f"It can't be read: {reason(error)}.")
            continue
        text = _decode(log, path, data)
        if text is not None:
            texts[artifact.path] = text
    return texts


def _decode(log: ReadLog, path: str, data: bytes) -> str | None:
    if data.startswith(LFS_POINTER):
        why = "It is a pointer of Git LFS, not the file itself; git lfs pull fetches that."
        log.add(Code.ARTIFACT_NOT_TEXT, path, why)
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # a Windows editor or PowerShell
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            return log.repaired_text(data, path, None)
    if b"\x00" in data:
        log.add(Code.ARTIFACT_NOT_TEXT, path, "It is binary: it holds NUL bytes.")
        return None
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        return log.repaired_text(data, path, None)
