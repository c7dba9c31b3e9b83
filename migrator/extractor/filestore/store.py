"""Finding a file store, and what lies in it: one walk, nothing parsed.

The layout is that of ``mlflow.store.tracking.file_store.FileStore`` (1.x to 3.x): experiments are
directories of the root or of ``.trash``, the registry is ``models``, runs and the rest lie inside
the experiments. Users move and mend stores by hand, so a directory is recognised by what it
holds, and whatever is recognised as nothing is named.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
import urllib.parse
from collections.abc import Callable

from migrator.credentials import masked
from migrator.errors import SourceError
from migrator.extractor.filestore.files import (
    FileTooLarge,
    Listing,
    Odd,
    follow,
    ignored_files,
    ignored_tree,
    inside_link,
    is_junk_folder,
    measure,
    odd_issue,
    read_bytes,
    reason,
    scan,
    size_of,
    stand_in,
    unreadable,
)
from migrator.issues import Code, Issue, Kind
from migrator.model import Entry, RunEntry, SourceIndex, TraceEntry
from migrator.paths import readable_path

META = "meta.yaml"
TRASH = ".trash"
MODELS = "models"
RESERVED = frozenset({"tags", "datasets", "traces", MODELS})  # folders of an experiment
_OWN = frozenset({"tags", "datasets"})  # of these, what no other experiment can hold as well
RUN_FOLDERS = frozenset({"params", "metrics", "artifacts", "inputs", "outputs"})
TRACE_FOLDERS = frozenset({"request_metadata", "tags", "artifacts", "assessments"})

ID = re.compile(r"(?:tr-|m-)?[0-9a-f]{32}")
_VALUE_BYTES = 10_000  # of a tag that holds an id
_META_BYTES = 1 << 16
# mlflow.utils.validation._RUN_ID_REGEX (3.9)
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_FOLDER_DEPTH = 3  # how deep experiments are looked for in a user's own directories


# --------------------------------------------------------------------------- opening a store


def open_source(location: str) -> str:
    """Return the absolute path of the file store that a user means by ``location``.

    That is a directory that holds experiments (``mlruns``), one that holds a directory
    ``mlruns``, or a ``file:`` URI of either. Raises ``SourceError`` where there is none.
    """
    path = _local_path(location)
    listing = _root_listing(path)
    if _is_store(path, listing) and os.path.basename(path) != TRASH:
        return path
    inner = listing.directory("mlruns")
    if inner is not None:
        inner_listing = _root_listing(inner)
        if _is_store(inner, inner_listing):
            return inner
        if _is_empty(inner_listing):
            raise _nothing(inner)
    _explain_part(path, listing)
    below = _stores_below(path)
    if below:
        listed = "".join(f"\n  {readable_path(store)}" for store in below[:5])
        more = "\n  …" if len(below) > 5 else ""
        one = len(below) == 1
        raise SourceError(
            f"{readable_path(path)} is not an MLflow file store, but "
            f"{'there is one' if one else f'there are at least {len(below)}'} below it.",
            todo=("Give its path:" if one else "Give their paths, all in one call:")
            + listed
            + more,
        )
    if _is_empty(listing):
        raise _nothing(path)
    if inner is not None:
        raise SourceError(
            f"{readable_path(inner)} holds no MLflow experiment.",
            todo="Check the path: a file store holds a directory for each experiment, "
            "with a meta.yaml in it.",
        )
    raise SourceError(
        f"{readable_path(path)} is not an MLflow file store: it holds neither experiments nor a "
        "directory mlruns.",
        todo="Give the path of the mlruns directory.",
    )


def _nothing(path: str) -> SourceError:
    return SourceError(
        f"{readable_path(path)} is empty: there is nothing to migrate.",
        todo="Check that this is the directory in which MLflow wrote your runs.",
    )


def _local_path(location: str) -> str:
    if not location.strip() or "\x00" in location:
        raise SourceError("The source is empty.", todo="Give the path of an mlruns directory.")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/|[A-Za-z]:|[^/\\])", location)
    if scheme is None or os.path.lexists(location):
        return os.path.abspath(os.path.expanduser(location))
    if scheme[1].lower() == "sqlite":
        raise SourceError(
            f"{masked(location)} is a database, not a file store.",
            todo=f"To write into it, put --to before it: --to {masked(location)}",
        )
    if scheme[1].lower() != "file":
        raise SourceError(
            f"{masked(location)} is not a local directory.",
            todo="Only file stores are read: give the path of the mlruns directory, or an address "
            "that fsspec reads (pip install 'mlflow-migrate[remote]').",
        )
    rest = re.sub(r"^//(?:localhost)?(?=/|$)", "", location[5:])
    if rest.startswith("//") and os.path.isdir(_unquoted(rest[2:])):
        rest = rest[2:]  # file://mlruns is wrong, but what is meant is there
    if rest.startswith("//"):
        raise SourceError(
            f"{masked(location)} names another machine.", todo="Give a local path (file:///path)."
        )
    rest = rest.split("?")[0].split("#")[0] if not os.path.lexists(rest) else rest
    if os.name == "nt":
        rest = re.sub(r"^/+(?=[A-Za-z]:)", "", rest)
    decoded = _unquoted(rest)
    # A hand-written URI may hold a raw %: take the spelling that exists.
    return os.path.abspath(
        rest if os.path.exists(rest) and not os.path.exists(decoded) else decoded
    )


def _unquoted(rest: str) -> str:
    """Return the path of a URI: what is escaped is UTF-8, the rest is as the shell gave it."""
    return os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(rest)))


def _root_listing(path: str) -> Listing:
    if not os.path.lexists(path):
        raise SourceError(f"{masked(readable_path(path))} does not exist.", todo="Check the path.")
    if not os.path.exists(path):
        raise SourceError(
            f"{readable_path(path)} is a link that leads nowhere, or can't be followed.",
            todo="Check what it points to, and the permissions on the way.",
        )
    if not os.path.isdir(path):
        raise SourceError(
            f"{readable_path(path)} is not a directory.{_database(path)}", todo=_FILE_TODO
        )
    listing = scan(path, path)
    if listing.error is not None:
        raise SourceError(
            f"{readable_path(path)} can't be read: {reason(listing.error)}.",
            todo="Give yourself read permission on it, or run as the user who owns it.",
        )
    return listing


_FILE_TODO = "Give the path of the mlruns directory itself."


def _database(path: str) -> str:
    if not os.path.isfile(path):  # a pipe would block
        return ""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return ""
    return " It is an SQLite database." if head.startswith(b"SQLite format 3") else ""


def _is_empty(listing: Listing) -> bool:
    return not any(not name.startswith(".") for name, _ in listing.dirs)


def _is_store(path: str, listing: Listing) -> bool:
    """Tell whether a directory holds an experiment or a registered model, directly."""
    for name, child in listing.dirs:
        if name == TRASH:
            trashed = scan(child, path)
            if any(_is_experiment(c, scan(c, path)) for _, c in trashed.dirs):
                return True
        elif name == MODELS:
            registry = scan(child, path)
            if any(_is_registered_model(scan(model, path)) for _, model in registry.dirs):
                return True
        elif not name.startswith(".") and not is_junk_folder(name):
            inner = scan(child, path)
            if _is_experiment(child, inner) and not _is_run(name, child, inner):
                return True
    return False


def _is_experiment(path: str, listing: Listing) -> bool:
    """Tell whether a directory is an experiment for certain: other tools write meta.yaml too."""
    if _meta_of(listing) == "experiment":
        return True
    traces = listing.directory("traces")
    if traces is not None and any(
        scan(trace, path).file("trace_info.yaml") for _, trace in scan(traces, path).dirs
    ):
        return True
    for name, child in listing.dirs:
        if name in RESERVED or name.startswith("."):
            continue
        inner = scan(child, path)
        if _meta_of(inner) == "run":
            return True
        folders = {folder for folder, _ in inner.dirs}
        if len(folders & {"params", "metrics", "tags"}) >= 2 and (
            ID.fullmatch(name) or listing.file(META) is not None
        ):
            return True
    return False


def _is_registered_model(listing: Listing) -> bool:
    return _meta_of(listing) == "registered model" or (
        listing.file(META) is not None and any(n.startswith("version-") for n, _ in listing.dirs)
    )


def _meta_of(listing: Listing) -> str | None:
    """Return what a directory's meta.yaml is about, by its keys."""
    path = listing.file(META)
    keys = set() if path is None else set(_KEY.findall(_head_of(path)))
    if keys & {b"run_id", b"run_uuid", b"artifact_uri"}:
        # a logged model and a model version have run ids as well, under other keys
        return "model version" if b"version" in keys else "run"
    if b"model_id" in keys or b"model_type" in keys:
        return "logged model"
    if b"creation_timestamp" in keys:
        return "registered model"
    if keys & {b"artifact_location", b"experiment_id", b"lifecycle_stage"}:
        return "experiment"
    return None


_EXPERIMENT_ID = re.compile(rb"^experiment_id:\s*['\"]?([^'\"\s]+)", re.M)
_KEY = re.compile(rb"^[\"']?([a-z_]+)[\"']?\s*:", re.M)


def _head_of(path: str) -> bytes:
    try:
        return read_bytes(path, _META_BYTES)
    except (OSError, FileTooLarge):
        return b""


def _explain_part(path: str, listing: Listing) -> None:
    """Raise for a directory that is a part of a store, or something that looks like one."""
    about = _meta_of(listing)
    above = os.path.dirname(path)
    if (about == "experiment" or os.path.basename(path) in (TRASH, MODELS)) and _is_store(
        above, scan(above, above)
    ):
        raise SourceError(
            f"{readable_path(path)} is a part of a file store.",
            todo=f"Give the store itself: {readable_path(above)}",
        )
    if about == "run":
        raise SourceError(
            f"{readable_path(path)} is a run, not a file store.",
            todo=f"Give the store itself: {readable_path(os.path.dirname(os.path.dirname(path)))}",
        )
    for _, child in listing.dirs[:20]:
        for _, grandchild in scan(child, path).dirs[:20]:
            if {name for name, _ in scan(grandchild, path).dirs} == {"artifacts"}:
                raise SourceError(
                    f"{readable_path(path)} looks like the artifact directory of a server or "
                    "database: it holds artifacts, but no runs.",
                    todo="Give the directory that holds the runs (mlruns, with a meta.yaml in "
                    "each run), or migrate the database with `mlflow db upgrade`.",
                )


def _stores_below(path: str, limit: int = 20, directories: int = 3000) -> list[str]:
    """Return stores below a directory, nearest first, after a limited search."""
    found: list[str] = []
    todo = [path]
    seen = 0
    while todo and seen < directories and len(found) < limit:
        folder = todo.pop(0)
        seen += 1
        listing = scan(folder, path)
        for name, child in listing.dirs:
            if name.startswith(".") or is_junk_folder(name) or name == "node_modules":
                continue
            if name in listing.links:
                continue  # its target is looked at where it lies
            if _is_store(child, scan(child, path)):
                found.append(child)
            elif child.count(os.sep) - path.count(os.sep) < 6:
                todo.append(child)
    return sorted(found)


def find_artifact_roots(root: str) -> tuple[str, ...]:
    """Return a server's artifact directories beside a store (``mlartifacts``), absolute.

    ``mlflow server --serve-artifacts`` writes them as ``<experiment>/<run>/artifacts``,
    ``<experiment>/traces/<trace>/artifacts`` and ``<experiment>/models/<model>/artifacts``.
    """
    sibling = os.path.join(os.path.dirname(os.path.abspath(root)), "mlartifacts")
    return (sibling,) if os.path.isdir(sibling) else ()


def store_of(entry: Entry, above: int) -> str:
    """Return the store of an entry that lies ``above`` levels below it (one more in .trash)."""
    path = entry.path
    for _ in range(above + entry.in_trash):
        path = os.path.dirname(path)
    return path


def bound_of(run: RunEntry) -> str:
    """Return the directory that a run's links may not leave: its store."""
    return _bound(run.folder, run.experiment_id, run.in_trash)


@functools.lru_cache(1 << 8)  # thousands of runs lie in one experiment
def _bound(above: str, experiment_id: str | None, in_trash: bool) -> str:
    if readable_path(os.path.basename(above)) != experiment_id:
        return above  # it lies beside the experiments
    store = os.path.dirname(above)
    return os.path.dirname(store) if in_trash else store


# -------------------------------------------------------------------------------- the index


def index(
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
    """Divide a path in folder and name, without a string of its own for what is there already."""
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
        self.registered_models: list[Entry] = []
        self.issues: list[Issue] = []
        self.files = 0
        self.size_bytes = 0
        self.ignored_files = 0
        self._loose: list[tuple[str, str, Listing]] = []  # runs that lie in no experiment
        self._links: list[tuple[str, str, Callable[[str, str], None]]] = []
        self._run_ids: dict[str, str] = {}  # so that an id that is also a parent's is one string

    def root_folder(self) -> None:
        listing = _root_listing(self.root)
        self._stray(self.root, listing)
        self._visit(listing, self._in_root)
        self._loose_runs()
        self._follow_links()
        self._loose_runs()

    def _in_root(self, name: str, path: str) -> None:
        if name == TRASH:
            self._trash(path)
        elif name == MODELS:
            self._registry(path)
        else:
            self._directory(path, name, self.root, in_trash=False)

    # -- links to directories

    def _visit(self, listing: Listing, take: Callable[[str, str], None]) -> None:
        """Take each directory of a listing by name and path; links wait for ``_follow_links``."""
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
                self.issues.append(odd_issue(inside_link(path)))
                continue
            before = self._read
            take(name, path)
            if self._read > before:
                _hold(held, os.path.realpath(path))

    @property
    def _read(self) -> int:
        """How many entities were found whose ids are unique: each is read in one place only."""
        entities = len(self.experiments) + len(self.runs)
        return entities + len(self.traces) + len(self.logged_models)

    # -- runs beside the experiments

    def _loose_runs(self) -> None:
        for name, path, listing in self._loose:
            self._loose_run(name, path, listing)
        self._loose.clear()

    def _loose_run(self, name: str, path: str, listing: Listing) -> None:
        """Take a run beside the experiments for one of that which its meta.yaml names."""
        meta = listing.file(META)
        named = None if meta is None else _EXPERIMENT_ID.search(_head_of(meta))
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
        """Take a directory for an experiment, a folder of experiments, or nothing of ours."""
        if name.startswith(".") or is_junk_folder(name):
            self._ignore(path, bound)
            return
        listing = scan(path, bound)
        if _is_run(name, path, listing):
            self._loose.append((name, path, listing))
        elif _has_meta(listing) or listing.error is not None or _holds_runs(path, listing, bound):
            self._experiment(path, name, listing, bound, in_trash=in_trash, depth=depth)
        elif depth < _FOLDER_DEPTH and _holds_experiments(path, listing, bound, depth):
            self._stray(path, listing)
            self._experiments_in(path, listing, in_trash=in_trash, depth=depth)
        else:
            self._ignore(path, bound)

    def _experiments_in(self, path: str, listing: Listing, *, in_trash: bool, depth: int) -> None:
        bound = os.path.dirname(path) if in_trash else path

        def take(name: str, child: str) -> None:
            if name == MODELS and not _has_meta(scan(child, bound)):
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
                    "The experiment lies in a directory of its own making.",
                    "as an experiment of the store",
                    Kind.EXPERIMENT,
                    experiment_id,
                )
            )
        if listing.error is not None:
            self.issues.append(unreadable(path, listing.error, experiment_id))
        meta = META if _has_meta(listing) else stand_in(META, listing.file_names())
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
        if not self._count_runs and ID.fullmatch(name):  # a run, whatever is in it
            self._run(name, path, None, experiment_id, bound, in_trash)
            return
        listing = scan(path, bound)
        if _looks_like_run(name, listing):
            self._run(name, path, listing, experiment_id, bound, in_trash)
        elif depth < _FOLDER_DEPTH and (
            _meta_of(listing) == "experiment"
            or _holds_experiments(path, listing, bound, depth)
            or _holds_runs(path, listing, bound)
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
        """Take a directory for a run; ``listing`` may be missing when files aren't counted."""
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
                    f"MLflow takes {readable_path(name)!r} for no run id.",
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
            if name.startswith(".") or not _is_member(folder, name, inner):
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
            known = _has_meta(inner) or any(
                n.startswith("version-") or n in ("tags", "aliases") for n, _ in inner.dirs
            )
            if name.startswith(".") or is_junk_folder(name) or not known:
                self._ignore(child, self.root)
            else:
                self._count_all(inner, self.root)
                self.registered_models.append(
                    Entry(readable_path(name), *_place(child, readable_path(name)))
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
        files, size = _weigh(path, bound)
        self.files += files
        self.size_bytes += size

    def _stray(self, path: str, listing: Listing, own: str | None = None) -> None:
        """Count and name files and links of a folder that belong to no entity."""
        strays = [file for file in listing.files if file[0] != own]
        self._count(Listing(strays, [], [], None))
        self.ignored_files += len(strays)
        if strays:
            self.issues.append(ignored_files(path, [name for name, _ in strays]))
        self.issues += [odd_issue(odd) for odd in listing.odd]

    def _ignore(self, path: str, bound: str) -> None:
        """Count and name a directory that is nothing of ours."""
        if os.path.islink(path):  # what it leads to is read, or ignored, where it really lies
            self.issues.append(odd_issue(inside_link(path)))
            return
        tree = measure(path, bound, through_links=False)
        self.files += tree.files
        self.size_bytes += tree.size_bytes
        self.ignored_files += tree.files
        self.issues += ignored_tree(path, tree)


def weigh(run: RunEntry) -> tuple[int, int]:
    """Return the number of the files in a run's directory, and their bytes, as ``index`` counts."""
    return _weigh(run.path, bound_of(run))


def _weigh(path: str, bound: str) -> tuple[int, int]:
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
                        if isinstance(target, Odd):
                            continue
                        if target.is_directory:
                            todo.append(entry.path)
                        else:
                            files += 1
                            size += os.lstat(target.path).st_size
        except OSError:
            continue  # the entity's reader meets the same directory and names it
    return files, size


def _value(folder: str, key: str, bound: str) -> str | None:
    """Return the id that a tag or metadata file holds, None where there is none."""
    path = f"{folder}/{key}"
    try:
        data = read_bytes(path, _VALUE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, FileTooLarge):
        target = scan(folder, bound).file(key) if os.path.islink(path) else None
        data = b"" if target is None else _head_of(target)
    if os.path.islink(folder) and isinstance(follow(folder, bound), Odd):
        return None  # the reader does not follow it either
    return data.decode("utf-8", "replace").strip() or None


def _has_meta(listing: Listing) -> bool:
    return listing.file(META) is not None or listing.directory(META) is not None


def _looks_like_run(name: str, listing: Listing) -> bool:
    """Tell whether a directory of an experiment is a run, whole or damaged."""
    folders = {folder for folder, _ in listing.dirs}
    if folders & RUN_FOLDERS or ID.fullmatch(name):
        return name not in RUN_FOLDERS
    if "tags" in folders or _has_meta(listing) or listing.error is not None:
        return name not in RUN_FOLDERS and _meta_of(listing) != "experiment"
    return False


def _is_run(name: str, path: str, listing: Listing) -> bool:
    """Tell whether a directory in the place of an experiment is a run."""
    folders = {folder for folder, _ in listing.dirs}
    if not folders & {"params", "metrics"}:
        return False
    return _meta_of(listing) == "run" or ID.fullmatch(name) is not None


def _is_member(folder: str, name: str, listing: Listing) -> bool:
    """Tell whether a directory is a trace, dataset or logged model."""
    if ID.fullmatch(name) or _has_meta(listing) or listing.error is not None:
        return True
    folders = {inner for inner, _ in listing.dirs}
    if folder == "traces":
        return listing.file("trace_info.yaml") is not None or bool(folders & TRACE_FOLDERS)
    return folder == MODELS and bool(folders & (RUN_FOLDERS | {"tags"}))


def _holds_runs(path: str, listing: Listing, bound: str) -> bool:
    """Tell whether a directory without meta.yaml is an experiment by what it holds."""
    for name, child in listing.dirs:
        if name in ("traces", MODELS, "datasets"):
            for member, inner in scan(child, bound).dirs:
                if ID.fullmatch(member) and _is_member(name, member, scan(inner, bound)):
                    return True
        elif name not in RESERVED and not name.startswith(".") and not is_junk_folder(name):
            inner_listing = scan(child, bound)
            folders = {folder for folder, _ in inner_listing.dirs}
            if _meta_of(inner_listing) == "experiment":
                continue  # an experiment: then this is a folder of experiments
            # artifacts alone are a custom artifact location, not runs
            folders &= (RUN_FOLDERS | {"tags"}) - {"artifacts"}
            if _has_meta(inner_listing) or len(folders) >= (1 if ID.fullmatch(name) else 2):
                return True
    return False


def _holds_experiments(path: str, listing: Listing, bound: str, depth: int) -> bool:
    """Tell whether experiments lie in a user's own directory, or a little deeper."""
    for name, child in listing.dirs:
        if name.startswith(".") or is_junk_folder(name):
            continue
        inner = scan(child, bound)
        if _meta_of(inner) == "experiment":
            return True
        if depth + 1 < _FOLDER_DEPTH and _holds_experiments(child, inner, bound, depth + 1):
            return True
    return False


def count_files(path: str, root: str) -> int:
    """Return the number of regular files below a directory of the store at ``root``."""
    return measure(path, root, through_links=True).files


def _hold(held: set[str], path: str) -> None:
    """Add a directory and all above it."""
    while path not in held and path != os.path.dirname(path):
        held.add(path)
        path = os.path.dirname(path)
