"""Artifacts in object stores and behind servers: listed, and fetched as far as they are needed.

Locations below one root are looked at together: in a bucket by few listings of a thousand objects,
on a server directory by directory. What was found lies in a temporary folder (``Mirror``), in
which sources read like in any other directory that artifacts were moved to. A place that can't be
read costs what is there, and is named.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from migrator.addresses import is_http
from migrator.counting import counted
from migrator.credentials import masked
from migrator.errors import OptionError, SourceError
from migrator.extractor.artifact_proxy import ArtifactProxy
from migrator.extractor.buckets import list_objects
from migrator.extractor.filestore.artifacts import text_limit_bytes
from migrator.extractor.filestore.traces import SPANS, SPANS_LIMIT_BYTES
from migrator.extractor.locations import moved_locations, parts_below, scheme_of
from migrator.extractor.mirrors import (
    Fetched,
    Mirror,
    Object,
    Remote,
    check_room,
    fetch,
    place,
    temporary_folder,
)
from migrator.extractor.source import Progress, Source, Wanted
from migrator.issues import Code, Issue, Kind
from migrator.model import Entry, RootChange, SourceIndex
from migrator.object_stores import (
    EXTRAS,
    RemoteFolder,
    explained,
    first_line,
    fsspec_address,
)
from migrator.paths import openable_path

# The end of a location that MLflow makes for a run, logged model or trace.
_OWNER = re.compile(r"(?P<base>.*?)/(?P<tail>(?:(?P<folder>models|traces)/)?[^/]+/artifacts)/*$")
_KINDS = {None: Kind.RUN, "models": Kind.LOGGED_MODEL, "traces": Kind.TRACE}
_AZURE = frozenset({"wasb", "wasbs"})
_BUCKET = re.compile(r"[^:/]+://[^/]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """How much is read of artifacts on another side."""

    wanted: Wanted  # chooses the artifacts of runs whose text is read
    whole: bool = False  # all files are fetched, because they are copied or sent
    is_strict: bool = False  # for copies: what the user told must be readable, and only that
    limit_bytes: int = 0  # of everything that is fetched
    progress: Progress = lambda stage, done, total: None

    def fetches_whole(self, change: RootChange) -> bool:
        """Whether all files below a root are fetched."""
        return self.whole and (change.is_told or not self.is_strict)


@dataclass(frozen=True, slots=True)
class RemoteArtifacts:
    """What was looked at on other sides. Plain values: they go to other processes."""

    changes: tuple[RootChange, ...] = ()  # of recorded roots, to folders of the mirrors
    mirrors: tuple[Mirror, ...] = ()
    issues: tuple[Issue, ...] = ()

    def named(self, text: str) -> str:
        """Replace paths in the mirrors by addresses."""
        for mirror in self.mirrors:
            text = mirror.named(text)
        return text

    def address(self, path: str) -> str | None:
        """The location that MLflow opens for a path, None for one outside the mirrors."""
        found = (mirror.address(path) for mirror in self.mirrors)
        return next((address for address in found if address is not None), None)


class _Owners(NamedTuple):
    """A place in which owners' artifacts lie, and the ends of their locations with their kinds."""

    address: str  # of the place
    folder: str  # that stands for it, below the mirror's
    kinds: dict[str, Kind]


class _Side(Protocol):
    """Another side: lists below an address, and fetches."""

    @property
    def account(self) -> str | None:
        """Azure's account."""

    @property
    def remote(self) -> Remote:
        """What objects are fetched from."""

    def objects(self, owners: _Owners) -> list[Object]:
        """List the files of owners; their paths begin with the place's folder."""

    def check(self) -> None:
        """Raise an error that says what is wrong where nothing was found, if anything is."""


@contextmanager
def look_at_artifacts(
    source: Source, index: SourceIndex, told: Sequence[RootChange], reading: Reading
) -> Iterator[RemoteArtifacts]:
    """Look at the artifacts of a source that are not on this machine.

    ``index`` lists whose artifacts are looked at, ``told`` is where the user says that they are.
    What was fetched is removed when the block ends. Raises SourceError for a place that can't be
    read only if ``reading.is_strict`` and the user told it.
    """
    roots = _roots(_remote_locations(source, index, told), told, reading)
    if not roots:
        yield RemoteArtifacts()
        return
    with temporary_folder() as folder:
        collected = _Collected(folder, reading)
        for change, places in roots.items():
            collected.add(change, places)
        yield RemoteArtifacts(
            tuple(collected.changes), tuple(collected.mirrors), tuple(collected.issues)
        )


def _remote_locations(
    source: Source, index: SourceIndex, told: Sequence[RootChange]
) -> Iterator[str]:
    """Yield the locations that owners record, without experiments whose owners lie here.

    A few owners of each experiment tell which those are: reading all locations of a large file
    store takes as long as reading its runs.
    """
    sample: dict[str, str | None] = {}  # id -> experiment
    for entries in (index.runs, index.logged_models, index.traces):
        sample.update(_sample(entries))
    remote = set()
    for location in source.owner_locations(index.of_owners(lambda e: e.entity_id in sample)):
        owner = _OWNER.match(location.recorded)
        if owner is not None and _changes_of(location.recorded, told):
            remote.add(sample.get(owner["tail"].split("/")[-2]))
    if not remote:
        return
    for location in source.owner_locations(index.of_owners(lambda e: e.experiment_id in remote)):
        yield location.recorded


def _sample(entries: Sequence[Entry]) -> Iterator[tuple[str, str | None]]:
    """Yield a few ids of each experiment, with it: the first, the last, and one between them."""
    homes: dict[str | None, list[str]] = defaultdict(list)
    for entry in entries:
        homes[entry.experiment_id].append(entry.entity_id)
    for home, ids in homes.items():
        for entity_id in (ids[0], ids[len(ids) // 2], ids[-1]):
            yield entity_id, home


def _roots(
    locations: Iterable[str], told: Sequence[RootChange], reading: Reading
) -> dict[RootChange, list[_Owners]]:
    """The places to look at, by the change of root that leads there."""
    roots: dict[RootChange, dict[str, _Owners]] = defaultdict(dict)
    for uri in locations:
        owner = _OWNER.match(uri)
        if owner is None:
            continue  # not of MLflow's form, so nothing says that the files are the owner's
        kind = _KINDS[owner["folder"]]
        for change in _changes_of(uri, told):
            if kind is Kind.LOGGED_MODEL and not reading.fetches_whole(change):
                continue  # no profile and no trace is made of it
            base, tail = owner["base"], owner["tail"]
            if parts_below(base, change.old) is None:
                base, tail = uri, ""
            (address,) = moved_locations(base, [change])
            below = parts_below(base, change.old) or ()
            folder = "/".join(map(openable_path, below))
            owners = roots[change].setdefault(address, _Owners(address, folder, {}))
            owners.kinds[tail] = kind
    return {change: list(places.values()) for change, places in roots.items()}


def _changes_of(uri: str, told: Sequence[RootChange]) -> list[RootChange]:
    """The changes of root that lead from a location to another side; a bucket leads to itself."""
    found = [change for change in told if parts_below(uri, change.old) is not None]
    if found:
        return [change for change in found if scheme_of(change.new) != "file"]
    bucket = _BUCKET.match(uri)
    if bucket is None or scheme_of(uri) not in EXTRAS.keys() | _AZURE:
        return []
    if parts_below(uri, bucket[0]) is None:
        return []  # it has .. in it, say
    return [RootChange(bucket[0], bucket[0])]


@dataclass(slots=True)
class _Collected:
    """The mirrors made so far, in folders of one temporary folder."""

    folder: str
    reading: Reading
    changes: list[RootChange] = field(default_factory=list)
    mirrors: list[Mirror] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    fetched_bytes: int = 0

    def add(self, change: RootChange, places: Sequence[_Owners]) -> None:
        """Look at the places of one root.

        Raises SourceError if they must be readable, and OptionError where the user told a root
        that does not exist.
        """
        folder = os.path.join(self.folder, str(len(self.changes)))
        try:
            with explained(fsspec_address(change.new), SourceError):
                side = _open_side(change.new)
                has_account = scheme_of(change.new) not in _AZURE  # else it is in the address
                mirror = Mirror(change.new, folder, "", side.account if has_account else None)
                os.mkdir(folder)
                self._fill(change, mirror, side, places)
        except SourceError as error:
            if self.reading.is_strict and change.is_told:
                raise
            shutil.rmtree(folder, ignore_errors=True)  # so nothing seems to have been looked at
            number = counted(sum(len(owners.kinds) for owners in places), "location")
            self.issues.append(
                Issue(
                    Code.ARTIFACTS_NOT_LOOKED_AT,
                    masked(change.new),
                    f"The artifacts of {number} were not looked at. {error.what} {error.todo}",
                    "" if change.is_told else "the recorded locations",
                )
            )
            return
        self.mirrors.append(mirror)
        self.changes.append(RootChange(change.old, folder, change.is_told))

    def _fill(
        self, change: RootChange, mirror: Mirror, side: _Side, places: Sequence[_Owners]
    ) -> None:
        listed = list(self._listed(side, places))
        if not listed:
            _check(side, change)
        is_whole = self.reading.fetches_whole(change)
        objects, needed_objects = [], []
        for object_, kind, path in listed:
            objects.append(object_)
            if _must_fetch(kind, path, object_, self.reading.wanted):
                needed_objects.append(object_)
        if is_whole and not self._fits(objects, mirror):
            is_whole, objects = False, needed_objects  # the others must not seem to be there
        wanted = self._within_limit(mirror, objects if is_whole else needed_objects)
        needed = {object_.path for object_ in wanted}
        left_out = {object_.path for object_ in needed_objects} - needed
        placed, refused = place(mirror, [o for o in objects if o.path not in left_out])
        self.issues += [issue for each, issue in refused if is_whole or each.path in needed]
        wanted = [object_ for object_ in placed if object_.size and object_.path in needed]
        check_room(mirror.folder, wanted)
        fetched = fetch(side.remote, mirror, wanted, self.reading.progress)
        lost_code = Code.ARTIFACT_NOT_COPIED if is_whole else Code.ARTIFACT_UNREADABLE
        self._name_missed(mirror, fetched, lost_code)
        for owners in places:  # a directory says that its owner was looked at
            for tail in owners.kinds:
                os.makedirs(os.path.join(mirror.folder, owners.folder, tail), exist_ok=True)

    def _name_missed(self, mirror: Mirror, fetched: Fetched, lost_code: Code) -> None:
        """Name the objects that could not be read, and those that changed meanwhile."""
        for object_, error in fetched.lost:
            is_gone = isinstance(error, FileNotFoundError)
            why = "It vanished while it was to be read" if is_gone else first_line(error)
            self._name(mirror, object_, lost_code, f"{why}.")
        for object_ in fetched.changed:
            message = f"It was listed with {object_.size:,} bytes, and had another size when read."
            self._name(mirror, object_, Code.ARTIFACT_CHANGED, message)

    def _listed(self, side: _Side, places: Sequence[_Owners]) -> Iterator[tuple[Object, Kind, str]]:
        """Yield each file of an owner with the owner's kind and its path below the owner's."""
        progress = self.reading.progress
        progress("listing artifacts", 0, len(places))
        with ThreadPoolExecutor(side.remote.at_once, "list") as threads:
            listings = threads.map(side.objects, places)
            for done, (owners, objects) in enumerate(zip(places, listings, strict=True), 1):
                for object_ in objects:
                    below = object_.path[len(owners.folder) :].lstrip("/")
                    found = _owner_of(below, owners.kinds)
                    if found is not None:
                        yield object_, *found
                progress("listing artifacts", done, len(places))

    def _fits(self, objects: Sequence[Object], mirror: Mirror) -> bool:
        """Whether all objects may be fetched; otherwise it is named.

        Raises SourceError where they must be, because they are copied.
        """
        size_bytes = self.fetched_bytes + sum(object_.size for object_ in objects)
        if size_bytes <= self.reading.limit_bytes:
            return True
        message = (
            f"All artifacts are to be fetched, and have {size_bytes:,} bytes; the limit is "
            f"{self.reading.limit_bytes:,}."
        )
        if self.reading.is_strict:
            raise SourceError(message, todo="Give a higher --fetch-limit.")
        self.issues.append(Issue(Code.ARTIFACTS_BEYOND_LIMIT, mirror.base, message))
        return False

    def _within_limit(self, mirror: Mirror, wanted: Sequence[Object]) -> list[Object]:
        """The objects that may still be fetched; the number of the others is named."""
        within = []
        left_out = 0
        for object_ in wanted:
            if self.fetched_bytes + object_.size <= self.reading.limit_bytes:
                self.fetched_bytes += object_.size
                within.append(object_)
            else:
                left_out += 1
        if left_out:
            files = counted(left_out, "file")
            message = f"{files} would exceed the limit of {self.reading.limit_bytes:,} bytes."
            self.issues.append(Issue(Code.ARTIFACTS_BEYOND_LIMIT, mirror.base, message))
        return within

    def _name(self, mirror: Mirror, object_: Object, code: Code, message: str) -> None:
        self.issues.append(Issue(code, f"{mirror.base}/{object_.path}", message))


def _check(side: _Side, change: RootChange) -> None:
    """Raise an error that says what is wrong with a root without files, if anything is."""
    try:
        side.check()
    except FileNotFoundError:
        if not change.is_told:
            raise
        raise OptionError(
            f"--artifacts-at {masked(str(change))}: {masked(change.new)} does not exist.",
            todo="Check the bucket and the path.",
        ) from None


def _owner_of(path: str, kinds: Mapping[str, Kind]) -> tuple[Kind, str] | None:
    """The kind of the owner of a file, and the file's path below the owner's artifacts."""
    if "" in kinds:
        return kinds[""], path
    parts = path.split("/")
    for length in (2, 3):
        kind = kinds.get("/".join(parts[:length]))
        if kind is not None:
            return kind, "/".join(parts[length:])
    return None


def _must_fetch(kind: Kind, path: str, object_: Object, wanted: Wanted) -> bool:
    """Whether a profile or a trace may need a file's content."""
    if kind is Kind.TRACE:
        return path == SPANS and object_.size <= SPANS_LIMIT_BYTES
    return kind is Kind.RUN and object_.size <= text_limit_bytes(path) and wanted(path)


def _open_side(address: str) -> _Side:
    if is_http(address):
        return _Proxied(ArtifactProxy(address), address)
    return _Stored(RemoteFolder(fsspec_address(address), SourceError), address)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A root in an object store."""

    remote: RemoteFolder
    address: str

    @property
    def account(self) -> str | None:
        return self.remote.account

    def objects(self, owners: _Owners) -> list[Object]:
        below = owners.address.removeprefix(self.address)
        with suppress(FileNotFoundError):
            return list_objects(self.remote, self.remote.root + below, owners.folder)
        return []

    def check(self) -> None:
        self.remote.filesystem.info(self.remote.root)


@dataclass(frozen=True, slots=True)
class _Proxied:
    """A root behind a server."""

    remote: ArtifactProxy
    address: str
    account: None = None

    def objects(self, owners: _Owners) -> list[Object]:
        root = owners.address.removeprefix(self.address).strip("/")
        found = []
        for path, size_bytes in self.remote.files_below(root, _is_on_the_way(root, owners.kinds)):
            below = path.removeprefix(root).strip("/")
            size = 1 if size_bytes is None else size_bytes  # without a known size it may hold some
            place = f"{owners.folder}/{below}" if owners.folder else below
            found.append(Object(path, place, size, None, size_bytes is not None))
        return found

    def check(self) -> None:
        """Nothing: an empty listing is an answer of a proxy."""


def _is_on_the_way(root: str, kinds: Mapping[str, Kind]) -> Callable[[str], bool]:
    """A test whether a folder below a root leads to an owner's artifacts, or lies in them."""
    on_the_way: set[str] = set()
    for tail in kinds:
        parts = tail.split("/")
        on_the_way.update("/".join(parts[:length]) for length in range(1, len(parts) + 1))

    def is_wanted(path: str) -> bool:
        below = path.removeprefix(root).strip("/")
        return "" in kinds or below in on_the_way or _owner_of(below, kinds) is not None

    return is_wanted
