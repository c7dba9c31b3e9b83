"""Finding the file store that a user means, or saying what is there instead."""

from __future__ import annotations

import math
import os
import re
import urllib.parse
from collections import deque
from typing import NamedTuple

from migrator.credentials import masked
from migrator.errors import SourceError
from migrator.extractor.filestore.databases_near import database_advice
from migrator.extractor.filestore.junk_names import is_junk_folder
from migrator.extractor.filestore.layout import MODELS, TRASH, is_store, meta_of
from migrator.extractor.filestore.read_log import special_entry_issue, unreadable
from migrator.extractor.filestore.scanning import Listing, reason, scan
from migrator.issues import Code, Issue
from migrator.paths import readable_path

_FILE_TODO = "Give the path of the mlruns directory itself."


def open_store(location: str) -> str:
    """Find the file store that a user means by ``location``, as an absolute path.

    That is a directory that holds experiments (``mlruns``), one that holds a directory
    ``mlruns``, or a ``file:`` URI of either. Raises ``SourceError`` where there is none.
    """
    path = _local_path(location)
    listing = root_listing(path)
    if is_store(path, listing) and os.path.basename(path) != TRASH:
        return path
    inner = listing.directory("mlruns")
    if inner is not None:
        inner_listing = root_listing(inner)
        if is_store(inner, inner_listing):
            return inner
        if _is_empty(inner_listing):
            raise _nothing(inner)
    _explain_part(path, listing)
    below = stores_below(path)
    if below:
        listed = "".join(f"\n  {readable_path(store)}" for store in below[:5])
        more = "\n  …" if len(below) > 5 else ""
        one = len(below) == 1
        raise SourceError(
            f"{readable_path(path)} is not an MLflow file store, but "
            f"{'there is one' if one else f'there are at least {len(below)}'} below it.",
            todo=("Give its path:" if one else "Take all of them with --each, or give paths:")
            + listed
            + more,
        )
    if _is_empty(listing):
        raise _nothing(path)
    if inner is not None:
        _explain_part(inner, inner_listing)
        raise SourceError(
            f"{readable_path(inner)} holds no MLflow experiment.",
            todo=database_advice(inner)
            or "Check the path: a file store holds a directory for each experiment, "
            "with a meta.yaml in it.",
        )
    raise SourceError(
        f"{readable_path(path)} is not an MLflow file store: it holds neither experiments nor a "
        "directory mlruns.",
        todo=database_advice(path) or "Give the path of the mlruns directory.",
    )


def stores_beside(location: str) -> list[Issue]:
    """An issue for each store beside the directory ``mlruns`` of the folder that a user means.

    Only directories whose names begin with ``mlruns`` are looked at: a folder of a project may
    hold very many others.
    """
    path = _local_path(location)
    if not os.path.isdir(path):
        return []
    listing = scan(path, path)
    inner = listing.directory("mlruns")
    if inner is None or is_store(path, listing):
        return []
    issues = []
    for name, child in listing.dirs:
        is_candidate = name.startswith("mlruns") and child != inner
        if is_candidate and is_store(child, scan(child, path)):
            message = f"It is a file store beside {readable_path(inner)}, and was not read."
            issues.append(Issue(Code.STORE_BESIDE, child, message))
    return issues


def _nothing(path: str) -> SourceError:
    return SourceError(
        f"{readable_path(path)} is empty: there is nothing to migrate.",
        todo=database_advice(path)
        or "Check that this is the directory in which MLflow wrote your runs.",
    )


def _local_path(location: str) -> str:
    if not location.strip() or "\x00" in location:
        raise SourceError("The source is empty.", todo="Give the path of an mlruns directory.")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/|[A-Za-z]:|[^/\\])", location)
    if scheme is None or os.path.lexists(location):
        return os.path.abspath(os.path.expanduser(location))
    if scheme[1].lower() != "file":
        raise SourceError(
            f"{masked(location)} is not a local directory.",
            todo="Give the path of an mlruns directory, a database (sqlite:///mlflow.db, "
            "postgresql://…, mysql://…), or an address that fsspec reads (pip install "
            "'mlflow-migrate[remote]').",
        )
    rest = re.sub(r"^//(?:localhost)?(?=/|$)", "", location[5:])
    if rest.startswith("//") and os.path.isdir(_unquoted(rest[2:])):
        rest = rest[2:]  # file://mlruns is wrong, but the folder that it means exists
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
    """The path of a URI: escaped bytes are UTF-8, the rest is as the shell gave it."""
    return os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(rest)))


def root_listing(path: str) -> Listing:
    if not os.path.lexists(path):
        raise SourceError(
            f"{masked(readable_path(path))} does not exist.",
            todo=database_advice(path)
            or "Give the directory that holds the experiments, a database "
            "(mlflow.db, postgresql://…) or an MLflow server (http://host:5000).",
        )
    if not os.path.exists(path):
        raise SourceError(
            f"{readable_path(path)} is a link that leads nowhere, or can't be followed.",
            todo="Check what it points to, and the permissions on the way.",
        )
    if not os.path.isdir(path):
        raise SourceError(f"{readable_path(path)} is not a directory.", todo=_FILE_TODO)
    listing = scan(path, path)
    if listing.error is not None:
        raise SourceError(
            f"{readable_path(path)} can't be read: {reason(listing.error)}.",
            todo="Give yourself read permission on it, or run as the user who owns it.",
        )
    return listing


def _is_empty(listing: Listing) -> bool:
    return not any(not name.startswith(".") for name, _ in listing.dirs)


def _explain_part(path: str, listing: Listing) -> None:
    """Raise for a directory that is a part of a store, or something that looks like one."""
    about = meta_of(listing)
    above = os.path.dirname(path)
    if (about == "experiment" or os.path.basename(path) in (TRASH, MODELS)) and is_store(
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
    if _holds_artifacts(path, listing):
        raise SourceError(
            f"{readable_path(path)} looks like the artifact directory of a server or "
            "database: it holds artifacts, but no runs.",
            todo=database_advice(path)
            or "Give the directory that holds the runs (mlruns, with a meta.yaml in "
            "each run), or the database: sqlite:///mlflow.db, postgresql://…",
        )


def _holds_artifacts(path: str, listing: Listing) -> bool:
    """True where a run or a logged model has a directory ``artifacts`` and nothing else.

    Runs are at ``1/RUN`` below ``path``, logged models of MLflow 3 at ``1/models/m-…``.
    """
    for _, experiment in listing.dirs[:20]:
        owners = scan(experiment, path)
        models = owners.directory(MODELS)
        inside = scan(models, path).dirs[:20] if models is not None else []
        for _, owner in (*owners.dirs[:20], *inside):
            if {name for name, _ in scan(owner, path).dirs} == {"artifacts"}:
                return True
    return False


class FoundStores(NamedTuple):
    """Stores below a folder, sorted, and an issue for each place that could not be searched."""

    folder: str  # absolute; empty where the only store was not searched for
    paths: list[str]
    issues: list[Issue]


class SearchLimits(NamedTuple):
    """How far a search for stores goes."""

    stores: float = math.inf
    directories: float = math.inf
    depth: float = math.inf


_NO_LIMITS = SearchLimits()
_FOR_ADVICE = SearchLimits(20, 3000, 6)


def stores_below(path: str, limits: SearchLimits = _FOR_ADVICE) -> list[str]:
    """Stores below a directory, after a limited search."""
    return search_stores(path, limits).paths


def each_store(location: str) -> FoundStores:
    """Find every file store in the directory that a user means; one that is a store is the only.

    Raises SourceError where there is none.
    """
    path = _local_path(location)
    listing = root_listing(path)
    if is_store(path, listing):
        return FoundStores(path, [path], [])
    found = search_stores(path)
    if not found.paths:
        _explain_part(path, listing)
        raise SourceError(
            f"{readable_path(path)} holds no MLflow file store, however deep.",
            todo="Give the directory below which the directories mlruns are.",
        )
    return found


def _is_or_holds_store(path: str) -> bool:
    places = (path, os.path.join(path, "mlruns"))
    return any(os.path.isdir(place) and is_store(place, scan(place, place)) for place in places)


def search_stores(path: str, limits: SearchLimits = _NO_LIMITS) -> FoundStores:
    """Look for stores below a directory. Links are not followed, hidden directories not entered."""
    found = FoundStores(path, [], [])
    todo = deque([path])
    searched = 0
    while todo and searched < limits.directories and len(found.paths) < limits.stores:
        folder = todo.popleft()
        searched += 1
        listing = scan(folder, path)
        if listing.error is not None:
            found.issues.append(unreadable(folder, listing.error))
        for odd in listing.special:
            if odd.is_link and _is_or_holds_store(os.path.realpath(odd.path)):
                found.issues.append(special_entry_issue(odd))
        for name, child in listing.dirs:
            if name.startswith(".") or is_junk_folder(name) or name == "node_modules":
                continue
            if name in listing.links:
                continue  # its target is looked at where it lies
            if is_store(child, scan(child, path)):
                found.paths.append(child)
            elif child.count(os.sep) - path.count(os.sep) < limits.depth:
                todo.append(child)
    found.paths.sort()
    return found
