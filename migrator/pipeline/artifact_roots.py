"""``--artifacts-at``: where the user says that artifacts are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from migrator import extractor
from migrator.counting import counted
from migrator.credentials import masked
from migrator.errors import OptionError
from migrator.model import Location, RootChange, SourceIndex
from migrator.object_stores import is_object_store

COMMONEST = 5  # recorded prefixes that are shown
_OWNER = re.compile(r"(?:[/\\](?:traces|models))?[/\\][^/\\]+[/\\]artifacts[/\\]*$")
_EXPERIMENT = re.compile(r"[/\\]\d{1,20}[/\\]*$")
_UNREAD = frozenset({"wasb", "wasbs", "hdfs", "dbfs"})  # known to MLflow, not all to fsspec
_TODO = (
    "Give the beginning of recorded locations, an equals sign, and the directory, bucket or MLflow "
    "server that has these files now, as in mlflow-artifacts:/=/srv/mlartifacts."
)


def parsed_changes(
    given: str | RootChange | Mapping[str, str] | Iterable[str | RootChange],
) -> tuple[RootChange, ...]:
    """Parse one or several ``OLD=NEW``. Raises OptionError."""
    if isinstance(given, Mapping):
        given = [f"{old}={new}" for old, new in given.items()]
    if isinstance(given, (str, RootChange)):
        given = [given]
    changes: dict[str, RootChange] = {}
    for each in given:
        change = each if isinstance(each, RootChange) else _parsed(each)
        first = changes.setdefault(change.old, change)
        if first.new != change.new:
            raise OptionError(
                f"--artifacts-at {masked(str(first))} and --artifacts-at {masked(str(change))} "
                "contradict one another.",
                todo="Give one of them.",
            )
    return tuple(changes.values())


def _parsed(text: str) -> RootChange:
    """Parse ``OLD=NEW``; either may have equals signs of its own (``dt=2024-05-31``)."""
    problem = "it has no equals sign"
    for sign in re.finditer("=", text):
        old, new = text[: sign.start()].strip(), text[sign.end() :].strip()
        if not old or not new or "\x00" in text:
            reason = "a side of it is empty"
        elif masked(new) != new:
            reason = "the address holds a password, which would end in the database"
        elif (address := _address_of(new)) is not None:
            return RootChange(old, address, is_told=True)
        elif "://" in new.replace("file://", ""):
            reason = f"{new} is neither the address of an object store nor that of a server"
        else:
            place = os.path.normpath(Path(new.removeprefix("file://")).expanduser().absolute())
            if Path(place).is_dir():
                return RootChange(old, place, is_told=True)
            reason = f"{place} is not a directory"
            if not os.path.lexists(place):
                reason = f"{place} does not exist"
        if problem == "it has no equals sign":
            problem = reason
    raise OptionError(f"--artifacts-at {masked(text)!r}: {problem}.", todo=_TODO)


def _address_of(text: str) -> str | None:
    """The address of an object store, or of the artifact proxy of a server; None for any other."""
    if "://" not in text.rstrip("/"):  # "s3://" names no place
        return None
    place = text.rstrip("/")
    if is_object_store(place) or extractor.scheme_of(place) in _UNREAD:
        return place
    return extractor.proxy_root(text)


def check_told(
    sources: Sequence[tuple[extractor.Source, SourceIndex]], told: Sequence[RootChange]
) -> None:
    """Raise OptionError where no recorded location lies below a root that the user told.

    Reads locations until each root has one.
    """
    missing = list(told)
    seen: Counter[str] = Counter()
    for location in _locations(sources):
        if not missing:
            return
        missing = [
            change
            for change in missing
            if extractor.parts_below(location.recorded, change.old) is None
        ]
        seen[recorded_prefix(location.recorded)] += 1
    if not missing:
        return
    del seen[""]
    commonest = seen.most_common(COMMONEST)
    listed = "".join(f"\n  {prefix}  ({counted(n, 'location')})" for prefix, n in commonest)
    raise OptionError(
        f"--artifacts-at {masked(str(missing[0]))}: no recorded location begins with "
        f"{missing[0].old}.",
        todo=f"Give one of these beginnings, or a part of one:{listed}"
        if listed
        else "Leave it out: the source records no locations.",
    )


def _locations(
    sources: Sequence[tuple[extractor.Source, SourceIndex]],
) -> Iterator[Location]:
    for source, index in sources:
        yield from source.experiment_locations(index)
        yield from source.owner_locations(index)


def recorded_prefix(uri: str) -> str:
    """The beginning of a recorded location that it shares with others: without ids at its end.

    A password in it is masked.

    ``s3://bucket/mlflow/3/<run>/artifacts`` and ``s3://bucket/mlflow/3`` give ``s3://bucket/mlflow``.
    """
    return _without_experiment(_OWNER.sub("", uri)) if uri else ""


@lru_cache(1 << 10)  # the runs of an experiment share it
def _without_experiment(uri: str) -> str:
    prefix = _EXPERIMENT.sub("", uri)
    if not prefix or prefix.endswith(":"):
        return f"{prefix}/"
    return masked(prefix)
