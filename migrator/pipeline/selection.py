"""Which entities a conversion takes.

``--only`` names a list of rejects, ``--run`` single runs, ``--since`` and ``--until`` times,
``--shard`` one of several parts that are converted separately.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path, PurePath
from typing import NamedTuple

from migrator.errors import OptionError
from migrator.model import Entry, RunRecord, TraceRecord
from migrator.paths import openable_path


def parsed_time(given: str | date, option: str = "--since") -> datetime:
    """Parse a date or time in ISO format; it is UTC unless it names a zone. Raises OptionError."""
    if isinstance(given, datetime):
        moment = given
    elif isinstance(given, date):
        moment = datetime.combine(given, time())
    else:
        try:
            moment = datetime.fromisoformat(given.strip().replace("Z", "+00:00"))
        except ValueError as error:
            raise OptionError(
                f"{option} {given!r} is not a valid date.",
                todo="Write it as 2024-05-31 or 2024-05-31T23:00.",
            ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def parsed_end(given: str | date) -> datetime:
    """Parse a time as ``parsed_time`` does; of a date without a time, the end of that day."""
    moment = parsed_time(given, "--until")
    if isinstance(given, str):
        is_day = len(given.strip()) == len("2024-05-31")
    else:
        is_day = not isinstance(given, datetime)
    return moment + timedelta(days=1) if is_day else moment


class Shard(NamedTuple):
    """One of several ``parts`` of the sources, all of about equal size. The first has number 1."""

    number: int
    parts: int

    @classmethod
    def parse(cls, given: str | tuple[int, int]) -> Shard:
        """Parse ``K/N``, or check a pair of numbers. Raises OptionError."""
        if isinstance(given, str):
            number, _, parts = given.partition("/")
            if not _is_number(number) or not _is_number(parts):
                raise OptionError(_NO_SHARD.format(given), todo="Write it as 2/4.")
            given = int(number), int(parts)
        shard = cls(*given)
        if not 1 <= shard.number <= shard.parts:
            raise OptionError(
                _NO_SHARD.format(f"{shard.number}/{shard.parts}"), todo="Write it as 2/4."
            )
        return shard

    @property
    def is_whole(self) -> bool:
        """Whether there are no other parts."""
        return self.parts == 1

    def has(self, name: str) -> bool:
        """Whether the entity of this name belongs to this part. It belongs to exactly one."""
        return evenly_spread(name) % self.parts == self.number - 1


_NO_SHARD = "--shard {!r} is not K/N with K from 1 to N."


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def evenly_spread(name: str) -> int:
    """A number derived from a name: the same on every machine, and spread evenly over names."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


@dataclass(frozen=True, slots=True)
class RejectsList:
    """The rejects file of an earlier conversion: JSON lines with ``path`` and ``id``."""

    file: str
    items: tuple[tuple[str, str], ...]  # path as the report writes it, and id

    @classmethod
    def read(cls, given: str | Path | RejectsList) -> RejectsList:
        """Read the file. Raises OptionError where it can't be read or is not such a list."""
        if isinstance(given, RejectsList):
            return given
        try:
            lines = Path(given).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"The list {given} can't be read: {error}.") from error
        items = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
                items.append((openable_path(str(item["path"])), str(item["id"])))
            except (ValueError, KeyError, TypeError) as error:
                raise OptionError(
                    f"Line {number} of the list {given} is not a JSON object with path and id.",
                    todo="Give the rejects file of an earlier conversion.",
                ) from error
        return cls(str(given), tuple(items))


class Selection:
    """What ``--only``, ``--run``, ``--since`` and ``--until`` select; without any, everything.

    ``local_path`` turns a path that the list names into the place of the file on this machine.
    """

    def __init__(
        self,
        only: RejectsList | None = None,
        since: datetime | None = None,
        local_path: Callable[[str], str] = str,
        *,
        until: datetime | None = None,
        run_ids: Sequence[str] = (),
    ) -> None:
        self.since_ms = None if since is None else int(since.timestamp() * 1000)
        self.until_ms = None if until is None else int(until.timestamp() * 1000)
        self.has_list = only is not None or bool(run_ids)
        self._paths: set[str] = set()  # what is listed
        self._above: set[str] = set()  # and every directory above it
        self._ids: set[str] = set(run_ids)
        for path, entity_id in () if only is None else only.items:
            self._add(local_path(path), entity_id)

    def _add(self, path: str, entity_id: str) -> None:
        if path:
            self._paths.add(path)
            self._above.update([path, *map(str, PurePath(path).parents)])
        self._ids.update(part for part in entity_id.split("/") if part)

    def is_listed(self, entry: Entry) -> bool:
        """Whether the list names an entity, something in it, or a directory above it."""
        if not self.has_list or entry.path in self._above or entry.entity_id in self._ids:
            return True
        return any(str(above) in self._paths for above in PurePath(entry.path).parents)

    @property
    def has_times(self) -> bool:
        """Whether anything is left out by its time."""
        return self.since_ms is not None or self.until_ms is not None

    def has_run_in_time(self, runs: Collection[RunRecord | None]) -> bool:
        """Whether a tree lies between ``--since`` and ``--until``.

        Since: one of its runs started, ended or was deleted since, or is still open. Until: one
        started before. None stands for a run that could not be read, which has to be named.
        """
        since_ms, until_ms = self.since_ms, self.until_ms
        is_in_time = True
        if since_ms is not None:
            is_in_time = any(run is None or _is_recent(run, since_ms) for run in runs)
        if until_ms is not None and is_in_time:
            is_in_time = any(run is None or (run.start_ms or 0) < until_ms for run in runs)
        return is_in_time

    def is_trace_in_time(self, trace: TraceRecord) -> bool:
        """Whether a trace began before ``--until``, and ended or was assessed since ``--since``.

        A trace that is still open is as recent as can be.
        """
        if self.until_ms is not None and trace.timestamp_ms >= self.until_ms:
            return False
        if self.since_ms is None or trace.status == "IN_PROGRESS":
            return True
        last_ms = trace.timestamp_ms + (trace.execution_ms or 0)
        return max([last_ms, *(a.last_updated_ms for a in trace.assessments)]) >= self.since_ms


def _is_recent(run: RunRecord, since_ms: int) -> bool:
    if run.end_ms is None:
        return True
    return max(run.start_ms or 0, run.end_ms, run.deleted_ms or 0) >= since_ms
