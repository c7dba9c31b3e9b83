"""Recorded artifact locations as text: their scheme, the local path they mean, and their parts.

Recorded locations are often stale, because the store was moved or another machine wrote them. So
nothing is concluded here; ``describe_location`` says what a location is and leads to.
"""

from __future__ import annotations

import functools
import os
import re
import urllib.parse
from typing import NamedTuple

from migrator.model import Location
from migrator.paths import openable_path

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a drive
_WINDOWS = re.compile(r"/*[A-Za-z]:[/\\]|\\\\")


def scheme_of(uri: str) -> str:
    """The scheme of a location in lower case: ``file`` for any local form, empty for no location.

    >>> scheme_of("S3://bucket/key"), scheme_of("C:\\\\mlruns"), scheme_of("")
    ('s3', 'file', '')
    """
    if not uri:
        return ""
    match = _SCHEME.match(uri)
    return match[1].lower() if match is not None else "file"


def local_path(uri: str, base: str | None = None) -> str | None:
    """The path on this machine that a local location means, None for any other location.

    A relative one is joined to ``base``, and is None without: MLflow takes it from the working
    directory of the process. A Windows path is None on other systems.
    """
    if scheme_of(uri) != "file":
        return None
    path = uri
    if uri[:5].lower() == "file:":
        rest = re.sub(r"^//(?:localhost)?(?=/)", "", uri[5:])
        decoded = urllib.parse.unquote(rest)
        path = rest if os.path.isdir(openable_path(rest)) else decoded
    if "\x00" in path:
        return None
    path = openable_path(path)
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
    """The parts of a location's path, whatever machine and scheme it is of.

    >>> path_parts("s3://bucket/1/abc/artifacts")
    ('bucket', '1', 'abc', 'artifacts')
    """
    match = _SCHEME.match(uri)
    path = uri if match is None else urllib.parse.unquote(uri[match.end() :])
    return tuple(part for part in re.split(r"[/\\]", path) if part not in ("", "."))


def describe_location(
    uri: str,
    *,
    home: str = "",
    tail: tuple[str, ...] = ("",),
    found: str | None = None,
    has_files: bool = False,
) -> Location:
    """What a recorded location is, and whether it leads to something on this machine.

    ``home`` is where the owner's files lie in a store that MLflow's FileStore wrote, and ``tail``
    the end of a location that MLflow makes for it. A location that leads to ``home`` exists even
    if an empty directory is missing there. ``found`` is where the owner's files really are, and
    ``has_files`` whether there are any. Without them the location belongs to no owner.
    """
    above, _, last = uri.rpartition("/".join(("", *tail[-2:])))
    if above and not last and above[-1] != ":" and "%" not in uri:  # nearly all
        parsed = _parse_cached(above)
        path = parsed.path and "/".join((parsed.path, *map(openable_path, tail[-2:])))
        is_own_form = (*parsed.parts, *tail[-2:])[-len(tail) :] == tail
    else:
        parsed = _parse(uri)
        path = parsed.path
        is_own_form = parsed.parts[-len(tail) :] == tail
    return Location(
        recorded=uri,
        scheme=parsed.scheme,
        exists=path is not None and (path == home or os.path.exists(path)),
        relative=parsed.is_relative,
        own_form=is_own_form,
        home=home,
        found=found,
        has_files=has_files,
    )


class _Parsed(NamedTuple):
    scheme: str
    path: str | None  # that the location means on this machine
    is_relative: bool
    parts: tuple[str, ...]


def _parse(uri: str) -> _Parsed:
    scheme, path = scheme_of(uri), local_path(uri)
    is_relative = scheme == "file" and path is None and local_path(uri, base=os.sep) is not None
    return _Parsed(scheme, path, is_relative, path_parts(uri))


_parse_cached = functools.lru_cache(1 << 10)(_parse)  # thousands of owners share what is above
