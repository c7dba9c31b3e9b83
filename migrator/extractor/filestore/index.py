"""Listing what a file store holds: one walk that parses nothing and counts every file."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from migrator.extractor.filestore.junk_names import is_junk_folder, stand_in
from migrator.extractor.filestore.layout import (
    FOLDER_DEPTH,
    ID,
    META,
    MODELS,
    RESERVED,
    TRASH,
    bound_of,
    has_meta,
    head_of,
    holds_artifacts_only,
    holds_experiments,
    holds_runs,
    is_member,
    is_run,
    looks_like_run,
    meta_of,
)
from migrator.extractor.filestore.opening import root_listing
from migrator.extractor.filestore.read_log import (
    ignored_files,
    ignored_tree,
    special_entry_issue,
    unreadable,
)
from migrator.extractor.filestore.scanning import (
    FileTooLarge,
    Listing,
    SpecialEntry,
    follow,
    link_read_elsewhere,
    measure,
    read_bytes,
    scan,
    size_of,
)
from migrator.extractor.source import FileCount
from migrator.issues import Code, Issue, Kind
from migrator.model import Entry, RegistryEntry, RunEntry, SourceIndex, TraceEntry
from migrator.paths import readable_path

_OWN = frozenset({"tags", "datasets"})  # of these, what no other experiment can hold as well
_VALUE_BYTES = 10_000  # of a tag that holds an id
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_AnyEntry = TypeVar("_AnyEntry", bound=Entry)
_EXPERIMENT_ID = re.compile(rb"^experiment_id:\s*['\"]?([^'\"\s]+)", re.M)


def index_store(
    root: str, on_progress: Callable[[int], None] | None = None, *, count_runs: bool = True
) -> SourceIndex:
    """Walk a store once and return what it holds; nothing is parsed.

    Without ``count_runs`` the files in runs are left to be counted by ``read_run`` (from the
    listings that it reads by) or ``weigh``: that takes longer than all the rest, and other
    processes can do it.

    ``on_progress`` is called now and then with the number of files seen, or of runs, if those are
    all that is counted. Raises ``SourceError``
    where the root itself can't be listed; everything else is an issue.
    """
    walk = _Walk(root, on_progress or (lambda files: None), count_runs)
    walk.root_folder()
    return SourceIndex(
        root=root,
        experiments=tuple(sorted(walk.experiments, key=_by_path)),
        runs=tuple(sorted(walk.runs, key=_by_path)),
        datasets=tuple(sorted(walk.datasets, key=_by_path)),
        traces=tuple(sorted(walk.traces, key=_by_path)),
        logged_models=tuple(sorted(walk.logged_models, key=_by_path)),
        registered_models=tuple(sorted(walk.registered_models, key=_by_path)),
        files=walk.files,
        size_bytes=walk.size_bytes,
        ignored_files=walk.ignored_files,
        issues=tuple(sorted(walk.issues, key=lambda issue: (issue.path, issue.code.value))),
    )


def _by_path(entry: Entry) -> str:
    return entry.path


def _place(path: str, entity_id: str) -> tuple[str, str]:
    """Split a path into folder and name, and share equal strings: stores hold 100,000s."""
    folder, _, name = path.rpartition(os.sep)
    return sys.intern(folder), entity_id if name == entity_id else name


class _Walk:
    """One walk over a store: every file is counted here, once."""

    def __init__(self, root: str, on_progress: Callable[[int], None], count_runs: bool) -> None:
        self.root = root
        self._count_runs = count_runs
        self._on_progress = on_progress
        self.experiments: list[Entry] = []
        self.runs: list[RunEntry] = []
        self.datasets: list[Entry] = []
        self.traces: list[TraceEntry] = []
        self.logged_models: list[Entry] = []
        self.registered_models: list[RegistryEntry] = []
        self.issues: list[Issue] = []
        self.files = 0
        self.size_bytes = 0
        self.ignored_files = 0
        self._loose: list[tuple[str, str, Listing]] = []  # runs that lie in no experiment
        self._links: list[tuple[str, str, Callable[[str, str], None]]] = []
        self._run_ids: dict[str, str] = {}  # so that an id that is also a parent's is one string

    def root_folder(self) -> None:
        listing = root_listing(self.root)
        self._stray(self.root, listing)
        self._visit(listing, self._in_root)
        self._loose_runs()
        self._follow_links()
        self._loose_runs()
        self.runs = self._owners(self.runs, are_counted=self._count_runs)
        self.traces = self._owners(self.traces)
        self.logged_models = self._owners(self.logged_models)

    def _owners(self, entries: list[_AnyEntry], *, are_counted: bool = True) -> list[_AnyEntry]:
        """Leave out directories that hold only the artifacts of an entity that lies elsewhere.

        An ``artifact_location`` can be the directory of another experiment.
        """
        places = Counter(entry.entity_id for entry in entries)
        if len(places) == len(entries):
            return entries
        owners = []
        for entry in entries:
            is_one_of_several = places[entry.entity_id] > 1
            if is_one_of_several and holds_artifacts_only(scan(entry.path, self.root)):
                places[entry.entity_id] -= 1
                if are_counted:
                    files, size_bytes = _count_tree(entry.path, self.root)
                    self.files -= files
                    self.size_bytes -= size_bytes
                self._ignore(entry.path, self.root)
            else:
                owners.append(entry)
        return owners

    def _in_root(self, name: str, path: str) -> None:
        if name == TRASH:
            self._trash(path)
        elif name == MODELS:
            self._registry(path)
        else:
            self._directory(path, name, self.root, in_trash=False)

    # -- links to directories

    def _visit(self, listing: Listing, take: Callable[[str, str], None]) -> None:
        """Index each directory of a listing by name and path; links wait for ``_follow_links``."""
        for name, path in listing.dirs:
            if name in listing.links:
                self._links.append((name, path, take))
            else:
                take(name, path)

    def _follow_links(self) -> None:
        """Read what links lead to, unless it is read where it really lies."""
        if not self._links:
            return
        real_root = os.path.realpath(self.root)
        held: set[str] = set()  # directories that were read, and those above them
        for entry in (*self.experiments, *self.runs, *self.traces, *self.logged_models):
            _hold(held, real_root + entry.path[len(self.root) :])
        for name, path, take in self._links:  # more are added while links lead to links
            if os.path.realpath(path) in held:
                self.issues.append(special_entry_issue(link_read_elsewhere(path)))
                continue
            before = self._read
            take(name, path)
            if self._read > before:
                _hold(held, os.path.realpath(path))

    @property
    def _read(self) -> int:
        """The number of entities found so far whose ids are unique in the store."""
        entities = len(self.experiments) + len(self.runs)
        return entities + len(self.traces) + len(self.logged_models)

    # -- runs beside the experiments

    def _loose_runs(self) -> None:
        for name, path, listing in self._loose:
            self._loose_run(name, path, listing)
        self._loose.clear()

    def _loose_run(self, name: str, path: str, listing: Listing) -> None:
        """Index a run beside the experiments as one of the experiment that its meta.yaml names."""
        meta = listing.file(META)
        named = None if meta is None else _EXPERIMENT_ID.search(head_of(meta))
        owner = named and named[1].decode("utf-8", "replace")
        homes = [entry for entry in self.experiments if entry.entity_id == owner]
        home = min(homes, key=lambda entry: (entry.in_trash, entry.path), default=None)
        if home is not None:
            bound = os.path.dirname(path)
            self._run(name, path, listing, home.entity_id, bound, home.in_trash)
        else:
            self._ignore(path, self.root)
        self.issues.append(
            Issue(
                Code.RUN_OUTSIDE_EXPERIMENT if home else Code.RUN_WITHOUT_EXPERIMENT,
                path,
                "The directory is a run, but it lies in no experiment"
                + (f", and no experiment {owner!r} is there." if home is None else "."),
                "" if home is None else f"as a run of experiment {owner}, which its {META} names",
                Kind.RUN,
                readable_path(name),
            )
        )

    def _trash(self, path: str) -> None:
        listing = self._list(path, self.root)
        self._stray(path, listing)
        self._visit(
            listing, lambda name, child: self._directory(child, name, self.root, in_trash=True)
        )

    # -- experiments

    def _directory(
        self, path: str, name: str, bound: str, *, in_trash: bool, depth: int = 0
    ) -> None:
        """Index a directory as an experiment or a folder of experiments, or ignore it."""
        if name.startswith(".") or is_junk_folder(name):
            self._ignore(path, bound)
            return
        listing = scan(path, bound)
        if is_run(name, path, listing):
            self._loose.append((name, path, listing))
        elif has_meta(listing) or listing.error is not None or holds_runs(path, listing, bound):
            self._experiment(path, name, listing, bound, in_trash=in_trash, depth=depth)
        elif depth < FOLDER_DEPTH and holds_experiments(path, listing, bound, depth):
            self._stray(path, listing)
            self._experiments_in(path, listing, in_trash=in_trash, depth=depth)
        else:
            self._ignore(path, bound)

    def _experiments_in(self, path: str, listing: Listing, *, in_trash: bool, depth: int) -> None:
        bound = os.path.dirname(path) if in_trash else path

        def take(name: str, child: str) -> None:
            if name == MODELS and not has_meta(scan(child, bound)):
                self._registry(child)  # a whole store lies in a folder
            else:
                self._directory(child, name, bound, in_trash=in_trash, depth=depth + 1)

        self._visit(listing, take)

    def _experiment(
        self, path: str, name: str, listing: Listing, bound: str, *, in_trash: bool, depth: int
    ) -> None:
        experiment_id = readable_path(name)
        self.experiments.append(Entry(experiment_id, *_place(path, experiment_id), None, in_trash))
        if depth:
            self.issues.append(
                Issue(
                    Code.EXPERIMENT_IN_FOLDER,
                    path,
                    "The experiment lies in a directory that the user made.",
                    "as an experiment of the store",
                    Kind.EXPERIMENT,
                    experiment_id,
                )
            )
        if listing.error is not None:
            self.issues.append(unreadable(path, listing.error, experiment_id))
        meta = META if has_meta(listing) else stand_in(META, listing.file_names())
        self._count(Listing([f for f in listing.files if f[0] == meta], [], [], None))
        self._stray(path, listing, own=meta)

        def take(name: str, child: str) -> None:
            if name in RESERVED:
                self._reserved(name, child, experiment_id, bound, in_trash)
            else:
                self._run_or_other(name, child, experiment_id, bound, in_trash, depth)

        # An experiment's tags and datasets are its own, also where a link shares them.
        shared = [each for each in listing.dirs if each[0] in _OWN]
        for child_name, child in shared:
            if child_name == "tags":
                self._count_tree(child, bound)
            else:
                take(child_name, child)
        others = [each for each in listing.dirs if each[0] not in _OWN]
        self._visit(listing._replace(dirs=others), take)
        self._on_progress(self.files if self._count_runs else len(self.runs))

    def _run_or_other(
        self, name: str, path: str, experiment_id: str, bound: str, in_trash: bool, depth: int
    ) -> None:
        if name.startswith(".") or is_junk_folder(name):
            self._ignore(path, bound)
            return
        if not self._count_runs and ID.fullmatch(name):  # a run, whatever it holds
            self._run(name, path, None, experiment_id, bound, in_trash)
            return
        listing = scan(path, bound)
        if looks_like_run(name, listing):
            self._run(name, path, listing, experiment_id, bound, in_trash)
        elif depth < FOLDER_DEPTH and (
            meta_of(listing) == "experiment"
            or holds_experiments(path, listing, bound, depth)
            or holds_runs(path, listing, bound)
        ):
            # experiments, or a folder of runs, moved into this one by hand
            inner_bound = os.path.dirname(os.path.dirname(path) if in_trash else path)
            self._directory(path, name, inner_bound, in_trash=in_trash, depth=depth + 1)
        else:
            self._ignore(path, bound)

    def _run(
        self,
        name: str,
        path: str,
        listing: Listing | None,
        experiment_id: str,
        bound: str,
        in_trash: bool,
    ) -> None:
        """Index a directory as a run; ``listing`` may be missing when files aren't counted."""
        if self._count_runs and listing is not None:
            self._count_all(listing, bound)
        parent = _value(f"{path}/tags", "mlflow.parentRunId", bound)
        if parent is None and not os.path.isdir(f"{path}/tags"):  # in other letters, perhaps
            tags = [child for each, child in scan(path, bound).dirs if each.lower() == "tags"]
            parent = _value(tags[0], "mlflow.parentRunId", bound) if tags else None
        run_id = readable_path(name)
        if not _RUN_ID.fullmatch(run_id):
            run_id = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
            self.issues.append(
                Issue(
                    Code.RUN_ID_CHANGED,
                    path,
                    f"MLflow does not accept {readable_path(name)!r} as a run id.",
                    f"the run, as {run_id}",
                    Kind.RUN,
                    run_id,
                )
            )
        run_id = self._run_ids.setdefault(run_id, run_id)
        if parent is not None:
            parent = self._run_ids.setdefault(parent, parent)
        self.runs.append(RunEntry(run_id, *_place(path, run_id), experiment_id, in_trash, parent))
        self._on_progress(self.files if self._count_runs else len(self.runs))

    def _reserved(
        self, folder: str, path: str, experiment_id: str, bound: str, in_trash: bool
    ) -> None:
        """Index ``traces``, ``datasets`` or ``models`` of an experiment."""
        listing = self._list(path, bound)
        self._stray(path, listing)

        def take(name: str, child: str) -> None:
            inner = scan(child, bound)
            if name.startswith(".") or not is_member(folder, name, inner):
                self._ignore(child, bound)
                return
            self._count_all(inner, bound)
            entity_id = readable_path(name)
            place = (entity_id, *_place(child, entity_id))
            if folder == "traces":
                run_id = _value(f"{child}/request_metadata", "mlflow.sourceRun", bound)
                self.traces.append(TraceEntry(*place, experiment_id, in_trash, run_id))
            elif folder == "datasets":
                self.datasets.append(Entry(*place, experiment_id, in_trash))
            else:
                self.logged_models.append(Entry(*place, experiment_id, in_trash))

        if folder in _OWN:
            listing = listing._replace(links=frozenset())
        self._visit(listing, take)

    # -- registry

    def _registry(self, path: str) -> None:
        listing = self._list(path, self.root)
        self._stray(path, listing)
        for name, child in listing.dirs:
            inner = scan(child, self.root)
            known = has_meta(inner) or any(
                n.startswith("version-") or n in ("tags", "aliases") for n, _ in inner.dirs
            )
            if name.startswith(".") or is_junk_folder(name) or not known:
                self._ignore(child, self.root)
            else:
                self._count_all(inner, self.root)
                self.registered_models.append(
                    RegistryEntry(readable_path(name), *_place(child, readable_path(name)))
                )

    # -- counting

    def _list(self, path: str, bound: str) -> Listing:
        listing = scan(path, bound)
        if listing.error is not None:
            self.issues.append(unreadable(path, listing.error))
        return listing

    def _count(self, listing: Listing) -> None:
        self.files += len(listing.files)
        self.size_bytes += size_of(listing)

    def _count_all(self, listing: Listing, bound: str) -> None:
        """Count an entity's files; its reader lists them again and accounts for each."""
        self._count(listing)
        for _, child in listing.dirs:
            self._count_tree(child, bound)

    def _count_tree(self, path: str, bound: str) -> None:
        files, size_bytes = _count_tree(path, bound)
        self.files += files
        self.size_bytes += size_bytes

    def _stray(self, path: str, listing: Listing, own: str | None = None) -> None:
        """Count and name files and links of a folder that belong to no entity."""
        strays = [file for file in listing.files if file[0] != own]
        self._count(Listing(strays, [], [], None))
        self.ignored_files += len(strays)
        if strays:
            self.issues.append(ignored_files(path, [name for name, _ in strays]))
        self.issues += [special_entry_issue(odd) for odd in listing.special]

    def _ignore(self, path: str, bound: str) -> None:
        """Count and name a directory that is not MLflow's."""
        if os.path.islink(path):  # what it leads to is read, or ignored, where it really lies
            self.issues.append(special_entry_issue(link_read_elsewhere(path)))
            return
        tree = measure(path, bound, through_links=False)
        self.files += tree.files
        self.size_bytes += tree.size_bytes
        self.ignored_files += tree.files
        self.issues += ignored_tree(path, tree)


def _hold(held: set[str], path: str) -> None:
    """Add a directory and all above it."""
    while path not in held and path != os.path.dirname(path):
        held.add(path)
        path = os.path.dirname(path)


def count_run_files(run: RunEntry) -> FileCount:
    """Count the files in a run's directory as ``index`` counts them."""
    return _count_tree(run.path, bound_of(run))


def _count_tree(path: str, bound: str) -> FileCount:
    files = size = 0
    todo = [path]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size
                    elif entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif entry.is_symlink():
                        target = follow(entry.path, bound)
                        if isinstance(target, SpecialEntry):
                            continue
                        if target.is_directory:
                            todo.append(entry.path)
                        else:
                            files += 1
                            size += os.lstat(target.path).st_size
        except OSError:
            continue  # the entity's reader meets the same directory and names it
    return FileCount(files, size)


def _value(folder: str, key: str, bound: str) -> str | None:
    """Read the id that a tag or metadata file holds; None where there is none."""
    path = f"{folder}/{key}"
    try:
        data = read_bytes(path, _VALUE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, FileTooLarge):
        target = scan(folder, bound).file(key) if os.path.islink(path) else None
        data = b"" if target is None else head_of(target)
    if os.path.islink(folder) and isinstance(follow(folder, bound), SpecialEntry):
        return None  # the reader does not follow it either
    return data.decode("utf-8", "replace").strip() or None
