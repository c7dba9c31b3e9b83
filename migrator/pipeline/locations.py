"""Artifact locations: looked at by the extractor, decided by the transformer, written here."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from migrator import conventions, extractor, transformer
from migrator.errors import OptionError
from migrator.issues import Kind
from migrator.model import (
    ArtifactCopy,
    Entry,
    ExperimentPlan,
    Location,
    LoggedModelRecord,
    ModelVersionRecord,
    RegisteredModelRecord,
    RootChange,
    RunEntry,
    RunRecord,
    TracePlan,
    TraceRecord,
)
from migrator.object_stores import WRITING, RemoteFolder, explained, mlflow_location
from migrator.outcome.summary import ArtifactSummary
from migrator.paths import openable_path, readable_path
from migrator.pipeline.artifact_roots import recorded_prefix
from migrator.pipeline.stores import Store

RunPlace: TypeAlias = tuple[Store, RunEntry]
Owner: TypeAlias = tuple[Kind, Store, Entry]  # a run or logged model that has artifacts
_NO_VALUE = (None, "null", "{}", '""')  # JSON of a span attribute


class Locations:
    """Writes artifact locations into what is handed over, and counts the decisions.

    Every location is looked at by the extractor and decided by the transformer; ``copies`` are
    the directories that the decisions want copied.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        choice: transformer.ArtifactChoice,
        told: Sequence[RootChange],
        summary: ArtifactSummary,
    ) -> None:
        """Raise OptionError when copies would go into a source.

        ``told`` is where the user says that artifacts are.
        """
        self.choice = choice
        self._told = told
        self._changes = [root for store in stores for root in store.source.root_changes]
        self._roots = {store.number: _roots_of(store) for store in stores}
        self.summary = summary
        self.copies: list[ArtifactCopy] = []
        self._copied: dict[tuple[Kind, str], str] = {}  # owner -> where its copy goes
        self._account = _account_of(choice)
        summary.choice = str(choice)
        for store in stores:
            mode: str = choice.mode
            if not store.source.has_lasting_files and mode in ("auto", "relocate"):
                mode = _packed_mode(store, mode)
            elif mode == "auto":
                is_elsewhere = transformer.is_metadata_only(
                    store.source.experiment_locations(store.index),
                    store.source.owner_locations(store.index),
                )
                mode = "keep" if is_elsewhere else "relocate"
            summary.decided[store.name] = mode
            if choice.directory is not None and _is_inside(choice.directory, store):
                raise OptionError(
                    f"--artifacts copy:{choice.directory} lies inside the source "
                    f"{store.name}, which is only read.",
                    todo="Choose a place outside of it.",
                )

    def blank(self) -> Locations:
        """Locations that decide the same and have counted nothing yet."""
        other = copy.copy(self)
        other.summary = ArtifactSummary(decided=self.summary.decided)
        other.copies, other._copied = [], {}
        return other

    def add(self, other: Locations) -> None:
        """Add what another one has decided and counted."""
        self.summary.add_all(other.summary)
        self.copies += other.copies
        self._copied.update(other._copied)

    def experiment(self, store: Store, entry: Entry, plan: ExperimentPlan) -> str:
        """The location to write for an experiment."""
        location = store.source.locate_experiment(entry, plan.artifact_location)
        return self._place(Kind.EXPERIMENT, store, entry, location, plan.target_id)[0]

    def run(self, store: Store, entry: Entry, run: RunRecord, target_id: int) -> RunRecord:
        """A run with the location to write."""
        location = store.source.locate_run(entry, run)
        uri, _ = self._place(Kind.RUN, store, entry, location, target_id)
        return run if uri == run.artifact_uri else replace(run, artifact_uri=uri)

    def logged_model(
        self, store: Store, entry: Entry, model: LoggedModelRecord, target_id: int
    ) -> LoggedModelRecord:
        """A logged model with the location to write."""
        location = store.source.locate_logged_model(entry, model)
        uri, _ = self._place(Kind.LOGGED_MODEL, store, entry, location, target_id)
        return replace(model, artifact_location=uri)

    def trace(self, store: Store, entry: Entry, trace: TraceRecord, target_id: int) -> TraceRecord:
        """A native trace with the location to write, if it records one."""
        if not trace.tags.get(conventions.ARTIFACT_LOCATION):
            return trace
        location = store.source.locate_trace(entry, trace)
        uri, _ = self._place(Kind.TRACE, store, entry, location, target_id)
        return replace(trace, tags={**trace.tags, conventions.ARTIFACT_LOCATION: uri})

    def registered_model(
        self,
        model: RegisteredModelRecord,
        owners: Mapping[str, Owner],
    ) -> RegisteredModelRecord:
        """A registered model whose versions have the locations to write.

        ``owners`` are the runs and logged models, by id.
        """
        versions = tuple(self._version(version, owners) for version in model.versions)
        return replace(model, versions=versions)

    def _version(
        self,
        version: ModelVersionRecord,
        owners: Mapping[str, Owner],
    ) -> ModelVersionRecord:
        written: dict[str, str] = {}
        fates: list[transformer.Fate] = []
        for name in ("source", "storage_location"):
            uri = getattr(version, name) or ""
            if extractor.scheme_of(uri) in ("", "models", "runs"):
                continue
            owned = _owner_of(extractor.path_parts(uri), owners)
            if owned is not None:
                (kind, store, entry), inside = owned
                location = store.source.locate_inside(uri, kind, entry, inside)
                copied = self._copied.get((kind, entry.entity_id))
                copy_to = None
                if copied is not None:
                    place = transformer.place_below(copied, *map(openable_path, inside))
                    copy_to = self._copy_location(place)
                rewrite = self._should_rewrite(store, entry, location)
                address = store.address
            else:
                places = extractor.moved_locations(uri, self._changes)
                found = next(filter(os.path.exists, places), None)
                location = extractor.describe_location(
                    uri, found=found, has_files=found is not None
                )
                copy_to, address = None, transformer.local_uri
                rewrite = self.choice.mode != "keep"
                if location.relative:
                    continue  # not a location: a prompt has "dummy-source"
            written[name], fate = transformer.place(
                location,
                rewrite=rewrite,
                copy_to=copy_to,
                told=self._told_location(location),
                address=address,
            )
            fates.append(fate)
            if fate is transformer.Fate.REMOTE:
                self.summary.remote[location.scheme] += len(fates) == 1
        if fates:
            self.summary.add(fates[0].value, Kind.MODEL_VERSION)
        return replace(version, **written)  # type: ignore[arg-type]  # both are texts

    def _place(
        self, kind: Kind, store: Store, entry: Entry, location: Location, target_id: int
    ) -> tuple[str, transformer.Fate]:
        directory, copy_to = self.choice.directory, None
        owner = entry.entity_id
        if directory is not None:
            if kind is Kind.TRACE:
                owner = transformer.native_trace_id(owner)
            copy_to = transformer.copy_place(directory, kind, target_id, owner)
        rewrite = self._should_rewrite(store, entry, location)
        told = self._told_location(location)
        opens_files = store.source.has_lasting_files or copy_to is not None or told is None
        uri, fate = transformer.place(
            location if opens_files else replace(location, found=None, has_files=False),
            rewrite=rewrite,
            copy_to=None if copy_to is None else self._copy_location(copy_to),
            told=told,
            address=store.address,
        )
        self.summary.add(fate.value, kind)
        if fate is transformer.Fate.REMOTE:
            self.summary.remote[location.scheme] += 1
        if kind is Kind.EXPERIMENT:
            return uri, fate
        self.summary.has_outside |= _leads_outside(store, location)
        self._count_root(store, location)
        if location.found is None:
            return uri, fate
        if fate is transformer.Fate.COPIED and copy_to is not None:
            self._copied[kind, entry.entity_id] = copy_to
            if location.has_files:
                bound = store.source.artifact_bound(location.found)
                self.copies.append(ArtifactCopy(kind, owner, location.found, bound, copy_to))
        elif store.source.has_lasting_files:
            if location.has_files and kind is not Kind.TRACE:  # its spans are in the database
                self._note_place(store, location.found)
            if location.scheme == transformer.SERVED and fate is transformer.Fate.RELOCATED:
                self.summary.unserved += 1
        return uri, fate

    def _note_place(self, store: Store, directory: str) -> None:
        """Note that artifacts stay where they are, in one of a store's directories."""
        for root, shown in self._roots[store.number].items():
            if _is_in(directory, root):
                self.summary.stay_in.add(shown)
                return

    def _copy_location(self, place: str) -> str:
        """The location by which MLflow opens a copy in an object store; a path as it is."""
        return mlflow_location(place, self._account) if "://" in place else place

    def count_hollow(
        self, trace: TracePlan, runs: Mapping[str, RunRecord], places: Mapping[str, RunPlace]
    ) -> None:
        """Count a rebuilt trace without input and output, if artifacts of its runs are missing.

        ``places`` has the store and entry of each run of the tree.
        """
        root = trace.spans[0].attributes
        values = [root.get(conventions.SPAN_INPUTS), root.get(conventions.SPAN_OUTPUTS)]
        if any(value not in _NO_VALUE for value in values):
            return
        for run_id in trace.run_ids:
            if run_id in runs and run_id in places:
                prefix = self._missing(runs[run_id], *places[run_id])
                if prefix:
                    self.summary.hollow[prefix] += 1
                    return

    def _missing(self, run: RunRecord, store: Store, entry: RunEntry) -> str:
        """The beginning of a location whose artifacts can't be looked at; "" for any other.

        An empty directory of the store says that a run has no artifacts, and so does a missing
        one where other runs have theirs: git keeps no empty directories.
        """
        if run.artifacts:
            return ""
        location = store.source.locate_run(entry, run)
        if location.exists or not location.recorded:
            return ""
        moved = extractor.moved_locations(location.recorded, store.source.root_changes)
        if any(map(os.path.isdir, moved)):
            return ""  # looked at, and empty
        is_elsewhere = self.choice.mode == "auto" and self.summary.decided[store.name] == "keep"
        if location.scheme == "file" and location.own_form and not is_elsewhere:
            return ""
        return recorded_prefix(location.recorded)

    def _told_location(self, location: Location) -> str | None:
        """The location that the user's changes make of a recorded one; None without any."""
        if self.choice.mode == "keep" or not self._told:
            return None
        for place in extractor.moved_locations(location.recorded, self._told):
            return mlflow_location(place) if "://" in place else transformer.local_uri(place)
        return None

    def _count_root(self, store: Store, location: Location) -> None:
        """Count a location by what it begins with, and by the change of root that found it."""
        prefix = recorded_prefix(location.recorded)
        is_own_place = location.own_form and location.found is not None
        is_local = location.scheme in ("", "file")
        is_found = location.exists or location.has_files or (is_local and is_own_place)
        self.summary.prefixes.add(prefix, is_found=is_found)
        if location.found is None or not location.has_files:
            return
        for change in store.source.root_changes:
            if location.found in extractor.moved_locations(location.recorded, [change]):
                shown = replace(change, new=readable_path(store.named(change.new)))
                if shown.old != shown.new:  # else it is a bucket that was only read
                    self.summary.roots[shown] += 1
                return

    def _should_rewrite(self, store: Store, entry: Entry, location: Location) -> bool:
        """Whether a location that leads nowhere is to be rewritten.

        By default this includes locations whose files were found elsewhere, those of deleted
        entities, whose files MLflow moved into ``.trash``, and relative ones, because a database
        is opened from anywhere.
        """
        if not store.source.has_lasting_files:
            return False
        has_place = entry.in_trash or location.relative or location.has_files
        by_default = self.choice.mode == "auto" and has_place
        return by_default or self.summary.decided[store.name] != "keep"


def _owner_of(
    parts: tuple[str, ...], owners: Mapping[str, Owner]
) -> tuple[Owner, tuple[str, ...]] | None:
    """The run or logged model in whose artifacts a path lies, and the path inside them."""
    for at in range(1, len(parts)):
        if parts[at] != "artifacts" or ".." in parts[at:]:
            continue
        owner = owners.get(parts[at - 1])
        if owner is not None:
            return owner, parts[at + 1 :]
    return None


def _roots_of(store: Store) -> dict[str, str]:
    """The directories that hold a store's artifacts, each as it is shown."""
    roots = [*store.source.folders, *(change.new for change in store.source.root_changes)]
    return {root: readable_path(store.named(root)) for root in roots}


def _leads_outside(store: Store, location: Location) -> bool:
    """Whether artifacts may appear at a location without a change in the watched folders."""
    places = store.source.watched
    if location.has_files and location.found is not None:
        return not any(_is_in(location.found, place) for place in places)
    if location.scheme not in ("", "file"):
        return location.scheme != transformer.SERVED
    path = extractor.local_path(location.recorded)
    return location.exists and not any(path and _is_in(path, place) for place in places)


def _is_in(path: str, directory: str) -> bool:
    """Whether a path lies in a directory: by its text, nearly always, else by its links."""
    return path.startswith(directory + os.sep) or is_below(path, directory)


def _packed_mode(store: Store, mode: str) -> str:
    """What becomes of the locations of an archive. Raises OptionError for ``relocate``."""
    if mode == "relocate":
        raise OptionError(
            f"--artifacts relocate: MLflow can't open artifacts in the archive {store.name}.",
            todo="Give copy: and a directory, as in copy:./artifacts, or unpack the archive.",
        )
    return "keep"


def _account_of(choice: transformer.ArtifactChoice) -> str | None:
    """Azure's account, for the locations of copies there. Raises OptionError."""
    if choice.directory is None or not choice.is_remote:
        return None
    with explained(choice.directory, OptionError, WRITING):
        return RemoteFolder(choice.directory, OptionError).account


def _is_inside(directory: str, store: Store) -> bool:
    """Whether copies would go into a source."""
    if "://" in directory:
        return extractor.parts_below(directory, store.name) is not None
    return is_below(directory, store.index.root)


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it, after links are resolved."""
    path, directory = os.path.realpath(path), os.path.realpath(directory)
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)
