"""Finding where a run's artifacts really lie, and reading the texts among them.

Recorded locations are nearly always stale (the store was moved), so directories come first: the
run's own ``artifacts/``, then a server's ``mlartifacts``, then the recorded location. What a
recorded location leads to, ``look`` says; what to write in its place is not decided here.
"""

from __future__ import annotations

import functools
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from migrator import conventions
from migrator.extractor.filestore.files import (
    Account,
    FileTooLarge,
    Odd,
    is_below,
    read_bytes,
    reason,
    scan,
)
from migrator.extractor.filestore.store import store_of
from migrator.extractor.filestore.yamlfile import YAML_LIMIT_BYTES, load
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
from migrator.paths import path_of, shown

# What lies between an experiment's directory and an entity's (FileStore, 2.14 and 3.0 on).
_FOLDERS = {Kind.LOGGED_MODEL: ("models",), Kind.TRACE: ("traces",)}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive
_PLAIN_LINE = re.compile(
    rb"^(?P<key>artifact_(?:uri|location)): (?P<value>[A-Za-z/][\w./%+=@:-]*)\n(?=[a-z])",
    re.ASCII | re.MULTILINE,
)
TEXT_LIMIT_BYTES = 1_000_000  # of an artifact that a profile wants
_WINDOWS = re.compile(r"/*[A-Za-z]:[/\\]|\\\\")


def find_artifact_dir(
    account: Account,
    own: str | None,
    holds_files: bool,
    parts: tuple[str, ...],
    artifact_roots: Sequence[str],
    recorded_uri: str,
) -> str | None:
    """Return the directory that holds an entity's artifacts, None where there is none.

    ``own`` is the directory inside the entity's, and ``holds_files`` whether there is anything in
    it; ``parts`` is the path below an artifact root. The recorded location counts only if its last
    two parts are the entity's own, as MLflow makes them, links resolved: a store must not be able
    to make us read any directory it names.
    """
    served = [os.path.join(root, *map(path_of, parts)) for root in artifact_roots]
    if own is not None and holds_files:
        other = next((path for path in served if has_files(path)), None)
        if other is not None and _sizes(own) != _sizes(other):
            account.add(
                Code.ARTIFACTS_IN_TWO_PLACES,
                own,
                f"There are artifacts here and, not the same, in {shown(other)}.",
                kept="those here",
            )
        return own
    recorded = local_path(recorded_uri, base=os.path.dirname(account.bound))
    if recorded is not None and recorded != own and path_parts(recorded)[-2:] == parts[-2:]:
        real = os.path.realpath(recorded)  # a link in the store is as little to be trusted
        if path_parts(real)[-2:] == parts[-2:]:
            served.append(recorded)
    return next((path for path in served if has_files(path)), own)


# ------------------------------------------------------------------------ recorded locations


def scheme_of(uri: str) -> str:
    """Return ``file`` for any local form, the scheme of others in lower case, empty for none."""
    if not uri:
        return ""
    match = _SCHEME.match(uri)
    return match[1].lower() if match is not None else "file"


def local_path(uri: str, base: str | None = None) -> str | None:
    """Return the path that a local location means on this machine, None for all others.

    A relative one is taken from ``base``, or is None without: MLflow takes it from the directory
    that it happens to run in. A Windows path is None elsewhere than on Windows.
    """
    if scheme_of(uri) != "file":
        return None
    path = uri
    if uri[:5].lower() == "file:":
        rest = re.sub(r"^//(?:localhost)?(?=/)", "", uri[5:])
        decoded = urllib.parse.unquote(rest)
        path = rest if os.path.isdir(path_of(rest)) else decoded
    if "\x00" in path:
        return None
    path = path_of(path)
    if _WINDOWS.match(path):
        if os.name != "nt":
            return None
        path = path.lstrip("/")
    elif not os.path.isabs(path):
        if base is None:
            return None
        path = os.path.join(base, path)
    return os.path.normpath(path)


def path_parts(uri: str) -> tuple[str, ...]:
    """Return the parts of a location's path, whatever machine and scheme it is of."""
    match = _SCHEME.match(uri)
    path = uri if match is None else urllib.parse.unquote(uri[match.end() :])
    return tuple(part for part in re.split(r"[/\\]", path) if part not in ("", "."))


def look_at_run(entry: Entry, run: RunRecord) -> Location:
    """Return what a run's recorded location leads to."""
    return _look(Kind.RUN, entry, run.artifact_uri, run.artifact_dir, bool(run.artifacts))


def look_at_logged_model(entry: Entry, model: LoggedModelRecord) -> Location:
    """Return what a logged model's recorded location leads to."""
    found = model.artifact_dir
    holds_files = found is not None and has_files(found)
    return _look(Kind.LOGGED_MODEL, entry, model.artifact_location, found, holds_files)


def look_at_trace(entry: Entry, trace: TraceRecord) -> Location:
    """Return what a native trace's recorded location leads to."""
    uri = trace.tags.get(conventions.ARTIFACT_LOCATION, "")
    own = f"{entry.path}/artifacts"
    found = os.path.dirname(trace.spans_path) if trace.spans_path else own
    store = os.path.realpath(store_of(entry, 3))
    leads_out = found == own and not is_below(os.path.realpath(own), store)  # a link
    if leads_out or not os.path.isdir(found):
        return _look(Kind.TRACE, entry, uri, None, False)
    return _look(Kind.TRACE, entry, uri, found, has_files(found))


def _look(kind: Kind, entry: Entry, uri: str, found: str | None, holds_files: bool) -> Location:
    return look_at(uri, f"{entry.path}/artifacts", _tail(kind, entry), found, holds_files)


def look_at_experiment(entry: Entry, uri: str) -> Location:
    """Return what the recorded location of an experiment leads to."""
    return look_at(uri, entry.path, (entry.entity_id,), entry.path, False)


def look_into(
    uri: str, kind: Kind, entry: Entry, artifact_roots: Sequence[str], inside: tuple[str, ...]
) -> Location:
    """Return what a location leads to that lies ``inside`` an entity's artifacts.

    That is how versions of registered models refer to a model's files in a run.
    """
    below = [path_of(part) for part in inside]
    places = [os.path.join(p, *below) for p in own_places(kind, entry, artifact_roots)]
    recorded = local_path(uri)
    candidates = places if recorded is None else [*places, recorded]
    found = next(filter(os.path.exists, candidates), None)
    return look_at(uri, places[0], _tail(kind, entry) + inside, found, found is not None)


def look_at(
    uri: str, home: str, tail: tuple[str, ...], found: str | None, holds_files: bool
) -> Location:
    """Return what a recorded location leads to.

    ``home`` is where the owner's files lie in a store that MLflow's FileStore wrote, and ``tail``
    the end of a location that MLflow makes for it. A location that leads to ``home`` is right
    also where an empty directory is missing.
    """
    above, _, last = uri.rpartition("/".join(("", *tail[-2:])))
    if above and not last and above[-1] != ":" and "%" not in uri:  # nearly all
        scheme, path, relative, parts = _parsed(above)
        path = path and "/".join((path, *map(path_of, tail[-2:])))
        own_form = (*parts, *tail[-2:])[-len(tail) :] == tail
    else:
        scheme, path, relative, parts = _parse(uri)
        own_form = parts[-len(tail) :] == tail
    return Location(
        recorded=uri,
        scheme=scheme,
        exists=path is not None and (path == home or os.path.exists(path)),
        relative=relative,
        own_form=own_form,
        home=home,
        found=found,
        has_files=holds_files,
    )


def _parse(uri: str) -> tuple[str, str | None, bool, tuple[str, ...]]:
    """Return a location's scheme, the path that it means here, if it is relative, and its parts."""
    scheme, path = scheme_of(uri), local_path(uri)
    relative = scheme == "file" and path is None and local_path(uri, base=os.sep) is not None
    return scheme, path, relative, path_parts(uri)


_parsed = functools.lru_cache(1 << 10)(_parse)  # of what thousands of owners have in common


def experiment_locations(index: SourceIndex) -> Iterator[Location]:
    """Yield the location that each experiment records, those in ``.trash`` left out.

    Lazily, and read by itself, because what all locations of a store say together must be known
    before the first entity is written.
    """
    for entry in index.experiments:
        if not entry.in_trash:
            uri = _recorded(f"{entry.path}/meta.yaml", "artifact_location")
            yield look_at_experiment(entry, uri)


def owner_locations(index: SourceIndex, artifact_roots: Sequence[str]) -> Iterator[Location]:
    """Yield the location that each run, logged model and trace records, as above.

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
                yield _look(kind, entry, _recorded(f"{entry.path}/{file}", key), found, False)


def _recorded(path: str, key: str | None) -> str:
    """Return a location from a file, or from ``key`` of a YAML file; empty where it has none."""
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
    """Return the directories in which an entity's artifacts may lie, the first best."""
    tail = [path_of(part) for part in _tail(kind, entry)]
    return (f"{entry.path}/artifacts", *(os.path.join(root, *tail) for root in artifact_roots))


def _tail(kind: Kind, entry: Entry) -> tuple[str, ...]:
    folders = _FOLDERS.get(kind, ())
    return (entry.experiment_id or "", *folders, entry.entity_id, "artifacts")


def has_files(path: str) -> bool:
    """Tell whether anything but directories is below a directory."""
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


def artifact_files(directory: str, bound: str) -> Iterator[tuple[str, str, int]]:
    """Yield (relative path, path to open, bytes) of each file below a directory, sorted.

    Both are paths of the file system, not text (``paths.shown``).
    Links are followed as everywhere: to regular files inside ``bound`` only.
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
            yield prefix + name, path, size
        todo += [(child, f"{prefix}{name}/") for name, child in reversed(listing.dirs)]


def _sizes(directory: str) -> list[tuple[str, int]]:
    return [(name, size) for name, _, size in artifact_files(directory, directory)]


class Artifacts(NamedTuple):
    """The files below an artifact directory, sorted by path."""

    directory: str | None  # absolute, None where there is none
    files: tuple[ArtifactFile, ...]
    paths: tuple[str, ...]  # of the same files, to open


def list_artifacts(
    account: Account,
    own: str | None,
    parts: tuple[str, ...],
    artifact_roots: Sequence[str],
    recorded_uri: str,
) -> Artifacts:
    """Find an entity's artifact directory (``find_artifact_dir``) and return what is in it.

    Only files in the entity's ``own`` directory belong to the census of its files.
    """
    found: list[tuple[ArtifactFile, str]] = []
    holds_files = False
    if own is not None:
        found, holds_files = _walk(account, own, account.bound, count=True)
        account.files_referred += len(found)
        account.size_bytes += sum(file.size_bytes for file, _ in found)
    directory = find_artifact_dir(account, own, holds_files, parts, artifact_roots, recorded_uri)
    if directory is not None and directory != own:
        found, _ = _walk(account, directory, directory, count=False)
    if len(found) > 1:
        found.sort(key=lambda pair: pair[0].path)
    return Artifacts(directory, tuple(file for file, _ in found), tuple(path for _, path in found))


def _walk(
    account: Account, directory: str, bound: str, *, count: bool
) -> tuple[list[tuple[ArtifactFile, str]], bool]:
    """Return the files below a directory, and whether there is anything but directories."""
    found: list[tuple[ArtifactFile, str]] = []
    anything = False
    todo = [(directory, "")]
    while todo:
        path, prefix = todo.pop()
        listing = scan(path, bound)
        if count:
            account.count(listing)
        anything = anything or bool(listing.files or listing.odd)
        if listing.error is not None:
            account.add(
                Code.DIRECTORY_UNREADABLE,
                path,
                f"The directory can't be listed: {reason(listing.error)}.",
            )
        for odd in listing.odd:
            _name_link(account, odd)
        for name, file in listing.files:
            try:
                size = os.lstat(file).st_size
            except OSError:
                size = 0
            found.append((ArtifactFile(shown(prefix + name), size), file))
        todo += [(child, f"{prefix}{name}/") for name, child in listing.dirs]
    return found, anything


def _name_link(account: Account, odd: Odd) -> None:
    account.add(Code.ARTIFACT_LINK, odd.path, f"It is {odd.what}; it was not followed.")


def read_texts(
    account: Account, artifacts: Artifacts, wanted: Callable[[str], bool], limit_bytes: int
) -> dict[str, str]:
    """Return the texts of the artifacts that are wanted, by relative path."""
    texts: dict[str, str] = {}
    for artifact, path in zip(artifacts.files, artifacts.paths, strict=True):
        if not wanted(artifact.path):
            continue
        try:
            data = read_bytes(path, limit_bytes)
        except FileTooLarge as error:
            account.add(Code.ARTIFACT_NOT_TEXT, path, f"It is too large: {error}.")
            continue
        except OSError as error:
            account.add(Code.ARTIFACT_UNREADABLE, path, f"It can't be read: {reason(error)}.")
            continue
        text = _decode(account, path, data)
        if text is not None:
            texts[artifact.path] = text
    return texts


def _decode(account: Account, path: str, data: bytes) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # a Windows editor or PowerShell
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            return account.repaired_text(data, path, None)
    if b"\x00" in data:
        account.add(Code.ARTIFACT_NOT_TEXT, path, "It is binary: it holds NUL bytes.")
        return None
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        return account.repaired_text(data, path, None)
