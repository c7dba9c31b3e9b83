"""Finding where a run's artifacts really lie, and reading the texts among them.

Recorded locations are often stale, because the store was moved. So directories come first: the
run's own ``artifacts/``, then a server's ``mlartifacts``, then the recorded location. The
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
from migrator.extractor.locations import describe_location, local_path, path_parts
from migrator.extractor.source import StoredFile
from migrator.issues import Code, Kind
from migrator.model import (
    ArtifactFile,
    Entry,
    Location,
    LoggedModelRecord,
    RunRecord,
    SourceIndex,
    TraceRecord,
)
from migrator.paths import openable_path, readable_path

# What lies between an experiment's directory and an entity's (FileStore, 2.14 and 3.0 on).
_FOLDERS = {Kind.LOGGED_MODEL: ("models",), Kind.TRACE: ("traces",)}
_PLAIN_LINE = re.compile(
    rb"^(?P<key>artifact_(?:uri|location)): (?P<value>[A-Za-z/][\w./%+=@:-]*)\n(?=[a-z])",
    re.ASCII | re.MULTILINE,
)
TEXT_LIMIT_BYTES = 1_000_000  # of an artifact that a profile wants


def find_artifact_dir(
    log: ReadLog,
    own: str | None,
    holds_files: bool,
    parts: tuple[str, ...],
    artifact_roots: Sequence[str],
    recorded_uri: str,
) -> str | None:
    """Find the directory that holds an entity's artifacts; None where there is none.

    ``own`` is the directory inside the entity's, and ``holds_files`` whether anything is in it.
    ``parts`` is the path below an artifact root. The recorded location counts only if its last
    two parts, links resolved, are the entity's own as MLflow makes them: a store must not be able
    to make us read any directory that it names.
    """
    served = [os.path.join(root, *map(openable_path, parts)) for root in artifact_roots]
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
    if recorded is not None and recorded != own and path_parts(recorded)[-2:] == parts[-2:]:
        real = os.path.realpath(recorded)  # a link in the store is as little to be trusted
        if path_parts(real)[-2:] == parts[-2:]:
            served.append(recorded)
    return next((path for path in served if has_files(path)), own)


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


def locate_experiment(entry: Entry, uri: str) -> Location:
    """What an experiment's recorded location leads to."""
    return describe_location(uri, home=entry.path, tail=(entry.entity_id,), found=entry.path)


def locate_inside(
    uri: str, kind: Kind, entry: Entry, artifact_roots: Sequence[str], inside: tuple[str, ...]
) -> Location:
    """What a location ``inside`` an entity's artifacts leads to."""
    below = [openable_path(part) for part in inside]
    places = [os.path.join(p, *below) for p in own_places(kind, entry, artifact_roots)]
    recorded = local_path(uri)
    candidates = places if recorded is None else [*places, recorded]
    found = next(filter(os.path.exists, candidates), None)
    return describe_location(
        uri,
        home=places[0],
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


def experiment_locations(index: SourceIndex) -> Iterator[Location]:
    """Yield the location that each experiment records; those in ``.trash`` are left out.

    It is read apart from the records, because what all locations of a store have in common must
    be known before the first entity is written.
    """
    for entry in index.experiments:
        if not entry.in_trash:
            uri = _recorded(f"{entry.path}/meta.yaml", "artifact_location")
            yield locate_experiment(entry, uri)


def owner_locations(index: SourceIndex, artifact_roots: Sequence[str]) -> Iterator[Location]:
    """Yield the location that each run, logged model and trace records, likewise.

    ``found`` is the first directory there is; whether files are in it is not looked into.
    """
    for kind, entries, file, key in (
        (Kind.RUN, index.runs, "meta.yaml", "artifact_uri"),
        (Kind.LOGGED_MODEL, index.logged_models, "meta.yaml", "artifact_location"),
        (Kind.TRACE, index.traces, f"tags/{conventions.ARTIFACT_LOCATION}", None),
    ):
        for entry in entries:
            if not entry.in_trash:
                found = next(filter(os.path.isdir, own_places(kind, entry, artifact_roots)), None)
                yield _locate(kind, entry, _recorded(f"{entry.path}/{file}", key), found, False)


def _recorded(path: str, key: str | None) -> str:
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
    folders = _FOLDERS.get(kind, ())
    return (entry.experiment_id or "", *folders, entry.entity_id, "artifacts")


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
    artifact_roots: Sequence[str],
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
    directory = find_artifact_dir(log, own, holds_files, parts, artifact_roots, recorded_uri)
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


def read_texts(
    log: ReadLog, artifacts: Artifacts, wanted: Callable[[str], bool], limit_bytes: int
) -> dict[str, str]:
    """Read the texts of the artifacts that are wanted, by relative path."""
    texts: dict[str, str] = {}
    for artifact, path in zip(artifacts.files, artifacts.paths, strict=True):
        if not wanted(artifact.path):
            continue
        try:
            data = read_bytes(path, limit_bytes)
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
