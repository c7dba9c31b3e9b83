"""Which entities a conversion takes.

``--only`` a list of rejects, ``--since`` a time, ``--shard`` a part of several that run apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import NamedTuple

from migrator.errors import OptionError
from migrator.model import Entry, RunRecord, TraceRecord
from migrator.paths import openable_path


def time_ms(text: str) -> int:
    """Return a date or time as milliseconds since the epoch; without a zone it is UTC.

    Raises OptionError.
    """
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as error:
        raise OptionError(
            f"--since {text!r} is no date.", todo="Write it as 2024-05-31 or 2024-05-31T23:00."
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * 1000)


class Shard(NamedTuple):
    """One of several ``parts`` of the sources, all of about equal size. The first has number 1."""

    number: int
    parts: int

    @classmethod
    def of(cls, number: int, parts: int) -> Shard:
        """Raise OptionError unless there is such a part."""
        if not 1 <= number <= parts:
            raise OptionError(
                f"--shard {number}/{parts}: there is no such part.",
                todo="Write K/N with K from 1 to N.",
            )
        return cls(number, parts)

    @property
    def whole(self) -> bool:
        return self.parts == 1

    def takes(self, name: str) -> bool:
        """Tell whether what has this name belongs here; for each name that is so in one part."""
        return digest_of(name) % self.parts == self.number - 1


def digest_of(name: str) -> int:
    """Return a number that is the same for a name everywhere, and spread evenly over names."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


class Selection:
    """What the list and the time select; without either, everything.

    ``local_path`` returns where a file lies that the list names.
    """

    def __init__(
        self,
        only: str | None = None,
        since: str | None = None,
        local_path: Callable[[str], str] = str,
    ) -> None:
        self.since_ms = None if since is None else time_ms(since)
        self.listed = only is not None
        self._paths: set[str] = set()  # what is listed
        self._above: set[str] = set()  # and every directory above it
        self._ids: set[str] = set()
        if only is not None:
            self._read(only, local_path)

    def _read(self, only: str, local_path: Callable[[str], str]) -> None:
        try:
            lines = Path(only).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"The list {only} can't be read: {error}.") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
                path, entity_id = item["path"], item["id"]
                self._add(local_path(openable_path(str(path))), str(entity_id))
            except (ValueError, KeyError, TypeError) as error:
                raise OptionError(
                    f"Line {number} of the list {only} is not a JSON object with path and id.",
                    todo="Give the rejects file of an earlier conversion.",
                ) from error

    def _add(self, path: str, entity_id: str) -> None:
        if path:
            self._paths.add(path)
            self._above.update([path, *map(str, PurePath(path).parents)])
        self._ids.update(part for part in entity_id.split("/") if part)

    def names(self, entry: Entry) -> bool:
        """Tell whether the list names an entity, something in it, or a directory above it."""
        if not self.listed or entry.path in self._above or entry.entity_id in self._ids:
            return True
        return any(str(above) in self._paths for above in PurePath(entry.path).parents)

    def takes_runs(self, runs: Iterable[RunRecord | None]) -> bool:
        """Tell whether any run of a tree started, ended or was deleted since, or has no end.

        None stands for a run that could not be read, which has to be named.
        """
        since = self.since_ms
        return since is None or any(
            run is None
            or run.end_ms is None
            or max(run.start_ms or 0, run.end_ms, run.deleted_ms or 0) >= since
            for run in runs
        )

    def takes_trace(self, trace: TraceRecord) -> bool:
        """Tell whether a trace ended or was assessed since, or is not closed."""
        if self.since_ms is None or trace.status == "IN_PROGRESS":
            return True
        last_ms = trace.timestamp_ms + (trace.execution_ms or 0)
        return max([last_ms, *(a.last_updated_ms for a in trace.assessments)]) >= self.since_ms
