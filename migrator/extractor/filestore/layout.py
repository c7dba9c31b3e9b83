"""The layout of a file store: which directories are experiments, runs and everything else.

It is that of ``mlflow.store.tracking.file_store.FileStore`` (1.x to 3.x): experiments are
directories of the root or of ``.trash``, the registry is ``models``, runs and the rest lie inside
the experiments. Users move and repair stores by hand, so a directory is recognised by what it
holds, not by its name alone. Nothing is parsed: the keys of a meta.yaml are enough.
"""

from __future__ import annotations

import functools
import os
import re

from migrator.extractor.filestore.junk_names import is_junk_folder
from migrator.extractor.filestore.scanning import FileTooLarge, Listing, read_bytes, scan
from migrator.model import Entry, RunEntry
from migrator.paths import readable_path

META = "meta.yaml"
TRASH = ".trash"
MODELS = "models"
RESERVED = frozenset({"tags", "datasets", "traces", MODELS})  # folders of an experiment
RUN_FOLDERS = frozenset({"params", "metrics", "artifacts", "inputs", "outputs"})
TRACE_FOLDERS = frozenset({"request_metadata", "tags", "artifacts", "assessments"})
ID = re.compile(r"(?:tr-|m-)?[0-9a-f]{32}")
FOLDER_DEPTH = 3  # how deep experiments are looked for in a user's own directories
_META_BYTES = 1 << 16
_KEY = re.compile(rb"^[\"']?([a-z_]+)[\"']?\s*:", re.M)


def is_store(path: str, listing: Listing) -> bool:
    """Whether a directory directly holds an experiment or a registered model."""
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
            if _is_experiment(child, inner) and not is_run(name, child, inner):
                return True
    return False


def _is_experiment(path: str, listing: Listing) -> bool:
    """Whether a directory is an experiment for certain: other tools write meta.yaml too."""
    if meta_of(listing) == "experiment":
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
        if meta_of(inner) == "run":
            return True
        folders = {folder for folder, _ in inner.dirs}
        if len(folders & {"params", "metrics", "tags"}) >= 2 and (
            ID.fullmatch(name) or listing.file(META) is not None
        ):
            return True
    return False


def _is_registered_model(listing: Listing) -> bool:
    return meta_of(listing) == "registered model" or (
        listing.file(META) is not None and any(n.startswith("version-") for n, _ in listing.dirs)
    )


def meta_of(listing: Listing) -> str | None:
    """The kind of entity that a directory's meta.yaml describes, by its keys; None if unknown."""
    path = listing.file(META)
    keys = set() if path is None else set(_KEY.findall(head_of(path)))
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


def head_of(path: str) -> bytes:
    try:
        return read_bytes(path, _META_BYTES)
    except (OSError, FileTooLarge):
        return b""


def has_meta(listing: Listing) -> bool:
    return listing.file(META) is not None or listing.directory(META) is not None


def looks_like_run(name: str, listing: Listing) -> bool:
    """Whether a directory in an experiment is a run, whole or damaged."""
    folders = {folder for folder, _ in listing.dirs}
    if folders & RUN_FOLDERS or ID.fullmatch(name):
        return name not in RUN_FOLDERS
    if "tags" in folders or has_meta(listing) or listing.error is not None:
        return name not in RUN_FOLDERS and meta_of(listing) != "experiment"
    return False


def is_run(name: str, path: str, listing: Listing) -> bool:
    """Whether a directory in the place of an experiment is a run."""
    folders = {folder for folder, _ in listing.dirs}
    if not folders & {"params", "metrics"}:
        return False
    return meta_of(listing) == "run" or ID.fullmatch(name) is not None


def is_member(folder: str, name: str, listing: Listing) -> bool:
    """Whether a directory is a trace, dataset or logged model."""
    if ID.fullmatch(name) or has_meta(listing) or listing.error is not None:
        return True
    folders = {inner for inner, _ in listing.dirs}
    if folder == "traces":
        return listing.file("trace_info.yaml") is not None or bool(folders & TRACE_FOLDERS)
    return folder == MODELS and bool(folders & (RUN_FOLDERS | {"tags"}))


def holds_artifacts_only(listing: Listing) -> bool:
    """Whether a directory is an owner's in an artifact location, and not the owner itself.

    Experiments can have an ``artifact_location`` of their own, also inside the store.
    """
    return [name for name, _ in listing.dirs] == ["artifacts"] and not listing.files


def holds_runs(path: str, listing: Listing, bound: str) -> bool:
    """Whether a directory without meta.yaml is an experiment, by what it holds."""
    for name, child in listing.dirs:
        if name in ("traces", MODELS, "datasets"):
            for member, inner in scan(child, bound).dirs:
                if ID.fullmatch(member) and not holds_artifacts_only(scan(inner, bound)):
                    return True
        elif name not in RESERVED and not name.startswith(".") and not is_junk_folder(name):
            inner_listing = scan(child, bound)
            folders = {folder for folder, _ in inner_listing.dirs}
            if meta_of(inner_listing) == "experiment":
                continue  # an experiment: then this is a folder of experiments
            folders &= (RUN_FOLDERS | {"tags"}) - {"artifacts"}  # see holds_artifacts_only
            if has_meta(inner_listing) or len(folders) >= (1 if ID.fullmatch(name) else 2):
                return True
    return False


def holds_experiments(path: str, listing: Listing, bound: str, depth: int) -> bool:
    """Whether experiments lie in a user's own directory, or a little deeper."""
    for name, child in listing.dirs:
        if name.startswith(".") or is_junk_folder(name):
            continue
        inner = scan(child, bound)
        if meta_of(inner) == "experiment":
            return True
        if depth + 1 < FOLDER_DEPTH and holds_experiments(child, inner, bound, depth + 1):
            return True
    return False


def find_artifact_roots(root: str) -> tuple[str, ...]:
    """A server's artifact directories beside a store (``mlartifacts``), absolute.

    ``mlflow server --serve-artifacts`` writes them as ``<experiment>/<run>/artifacts``,
    ``<experiment>/traces/<trace>/artifacts`` and ``<experiment>/models/<model>/artifacts``.
    """
    sibling = os.path.join(os.path.dirname(os.path.abspath(root)), "mlartifacts")
    return (sibling,) if os.path.isdir(sibling) else ()


def store_of(entry: Entry, above: int) -> str:
    """The store of an entry that lies ``above`` levels below it (one more in .trash)."""
    path = entry.path
    for _ in range(above + entry.in_trash):
        path = os.path.dirname(path)
    return path


def bound_of(run: RunEntry) -> str:
    """The directory that a run's links may not leave: its store."""
    return _bound(run.folder, run.experiment_id, run.in_trash)


@functools.lru_cache(1 << 8)  # thousands of runs lie in one experiment
def _bound(above: str, experiment_id: str | None, in_trash: bool) -> str:
    if readable_path(os.path.basename(above)) != experiment_id:
        return above  # it lies beside the experiments
    store = os.path.dirname(above)
    return os.path.dirname(store) if in_trash else store
