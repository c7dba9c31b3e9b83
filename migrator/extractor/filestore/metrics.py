"""Reading metric files: one line for each point, in the order in which they were logged.

The format is that of ``mlflow.store.tracking.file_store`` (``_get_metric_from_line`` and
``_get_model_metric_from_line``): ``timestamp_ms value [step [dataset name, digest]]`` for a run,
``timestamp_ms value step run_id [dataset name, digest]`` for a logged model (3.x).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial

from migrator.counting import counted
from migrator.extractor.filestore.read_log import METRIC_LIMIT_BYTES, ReadLog
from migrator.issues import Code, Kind
from migrator.model import LoggedModelMetric, MetricPoint

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Milliseconds between 1973 and 5138; seconds, micro- and nanoseconds of our era lie outside.
EARLIEST_MS, LATEST_MS = 100_000_000_000, 100_000_000_000_000
_MAX_FIELD = 400  # characters; a number beyond a float's range is shorter

_POINT = partial(tuple.__new__, MetricPoint)  # of three values; MetricPoint(…) is Python code
_PLAIN = re.compile(rb"(?:-?\d{1,18} [-+.\w]+ -?\d{1,18}\r?\n)+")
_PLAIN_LINE = re.compile(rb"(-?\d{1,18}) ([-+.\w]+) (-?\d{1,18})\r?\n")
_DIGEST = re.compile(rb"[0-9a-f]{8}")
_BOOLEANS = {b"True": 1.0, b"true": 1.0, b"False": 0.0, b"false": 0.0}


def read_points(log: ReadLog, path: str) -> tuple[MetricPoint, ...]:
    """Read a run's metric points in file order, equal ones once.

    Lines are counted as found before they are parsed; each line that can't be is rejected by
    itself. Never raises.
    """
    data = _read(log, path, Kind.METRIC_POINT)
    return () if data is None else points_in(log, path, data)


def points_in(log: ReadLog, path: str, data: bytes) -> tuple[MetricPoint, ...]:
    """Parse a metric file's content, as ``read_points`` does."""
    content = _lines_in(log, path, data)
    if content is None:
        return ()
    points = _plain_points(content)
    if points is None:
        lines = _Lines(log, path, Kind.METRIC_POINT, content)
        points = [point for point in map(lines.run_point, lines.numbered()) if point is not None]
        lines.report()
        found = lines.found
    else:
        found = content.count(b"\n")
    log.found[Kind.METRIC_POINT] += found
    unique = tuple(dict.fromkeys(points)) if len(points) > 1 else tuple(points)
    _merge(log, path, Kind.METRIC_POINT, len(points) - len(unique))
    times = [point[0] for point in unique]
    if times and not (min(times) >= EARLIEST_MS and max(times) < LATEST_MS):
        odd = sum(1 for time in times if not _is_ms(time))
        _odd_times(log, path, odd, next(p[0] for p in unique if not _is_ms(p[0])))
    return unique


def plain_point(data: bytes) -> MetricPoint | None:
    """The point of a file that is one plain line with a time in milliseconds, else None.

    Nearly every file of LLM work is one; it has nothing to merge, and nothing odd.
    """
    match = _PLAIN_LINE.fullmatch(data)
    if match is None:
        return None
    time, text, step = match.groups()
    time_ms = int(time)
    if not EARLIEST_MS <= time_ms < LATEST_MS:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return _POINT((time_ms, value if value == value else math.nan, int(step)))


def read_model_points(log: ReadLog, path: str, key: str) -> list[LoggedModelMetric]:
    """Read a logged model's metric points in file order, equal ones once. Never raises."""
    kind = Kind.LOGGED_MODEL_METRIC
    read = _read(log, path, kind)
    data = None if read is None else _lines_in(log, path, read)
    if data is None:
        return []
    lines = _Lines(log, path, kind, data)
    points = [p for line in lines.numbered() if (p := lines.model_point(key, line)) is not None]
    lines.report()
    log.found[kind] += lines.found
    unique = list(dict.fromkeys(points))
    _merge(log, path, kind, len(points) - len(unique))
    odd = [point.timestamp_ms for point in unique if not _is_ms(point.timestamp_ms)]
    if odd:
        _odd_times(log, path, len(odd), odd[0])
    return unique


def _read(log: ReadLog, path: str, kind: Kind) -> bytes | None:
    data = log.read(path, METRIC_LIMIT_BYTES, kind)
    if data is None:
        log.found[kind] += 1  # the file stands for at least one point
    return data


def _lines_in(log: ReadLog, path: str, data: bytes) -> bytes | None:
    """A file's content without a byte order mark; None, with an issue, if it has no line."""
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    if not data or data.isspace():
        log.add(Code.METRIC_FILE_EMPTY, path, "The file has no line.")
        return None
    return data


def _merge(log: ReadLog, path: str, kind: Kind, count: int) -> None:
    if count:
        log.merged[kind] += count
        log.add(
            Code.METRIC_POINT_REPEATED,
            path,
            f"{counted(count, 'line repeats', 'lines repeat')} a point of the same time, value "
            "and step.",
            kept="each point once",
            kind=kind,
            count=count,
        )


def _is_ms(time: int) -> bool:
    return EARLIEST_MS <= time < LATEST_MS


def _odd_times(log: ReadLog, path: str, count: int, first: int) -> None:
    log.add(
        Code.TIME_NOT_MS,
        path,
        f"The times of {counted(count, 'point')} can't be milliseconds; the first is {first}.",
        kept="as they are",
        count=count,
    )


def _plain_points(data: bytes) -> list[MetricPoint] | None:
    """The points of a file whose lines are all plain, None if any is not.

    This is nearly every file, and several times faster than line by line.
    """
    if _PLAIN.fullmatch(data) is None:
        return None
    fields = data.split()
    try:
        values = list(map(float, fields[1::3]))
    except ValueError:
        return None
    if math.isnan(sum(values)) and any(map(math.isnan, values)):
        # One object for all NaN: tuples that hold the same object are equal, so repeats merge.
        values = [math.nan if value != value else value for value in values]
    times, steps = map(int, fields[0::3]), map(int, fields[2::3])
    return list(map(_POINT, zip(times, values, steps, strict=True)))


class _Lines:
    """The lines of one metric file, read one by one, with a list of what was odd."""

    def __init__(self, log: ReadLog, path: str, kind: Kind, data: bytes) -> None:
        self._log = log
        self._path = path
        self._kind = kind
        self._lines = data.splitlines()
        self._ended = data.endswith((b"\n", b"\r"))
        self._odd: dict[Code, tuple[int, int, list[int], str]] = {}
        self.found = sum(1 for line in self._lines if line.strip())

    def numbered(self) -> list[tuple[int, bytes]]:
        """The lines that are not blank, each with its number in the file."""
        return [(n, line) for n, line in enumerate(self._lines, 1) if line.strip()]

    def run_point(self, numbered: tuple[int, bytes]) -> MetricPoint | None:
        """Parse a line of a run's metric; None, with an issue, if it has no point."""
        number, line = numbered
        fields = line.split()
        count = len(fields)
        unfinished = False
        if not self._ended and number == len(self._lines):
            before = next((prev for prev in reversed(self._lines[:-1]) if prev.strip()), None)
            if before is not None and count < len(before.split()):
                self._note(Code.METRIC_LINE_TRUNCATED, number, line)
                return None
            unfinished = before is not None or count < 3
        # A dataset's name may hold blanks: then its digest ends a longer line.
        named = count == 5 or (count > 5 and _DIGEST.fullmatch(fields[-1]) is not None)
        if count not in (2, 3) and not named:
            self._note(Code.METRIC_LINE_MALFORMED, number, line)
            return None
        head = self._head(number, line, [*fields[:3], b"0"][:3])
        if head is None:
            return None
        if unfinished:
            self._note(Code.METRIC_LINE_UNFINISHED, number, line)
        if named:
            self._note(Code.METRIC_DATASET_DROPPED, number, line)
        return head

    def model_point(self, key: str, numbered: tuple[int, bytes]) -> LoggedModelMetric | None:
        """Parse a line of a logged model's metric; None, with an issue, if it has no point."""
        number, line = numbered
        fields = line.split()
        if len(fields) < 4 or len(fields) == 5:
            self._note(Code.METRIC_LINE_MALFORMED, number, line)
            return None
        head = self._head(number, line, fields[:3])
        if head is None:
            return None
        run_id, name, digest = fields[3], b" ".join(fields[4:-1]), fields[-1]
        return LoggedModelMetric(
            key=key,
            timestamp_ms=head.timestamp_ms,
            value=head.value,
            step=head.step,
            run_id=run_id.decode("utf-8", "replace"),
            dataset_name=name.decode("utf-8", "replace") if name else None,
            dataset_digest=digest.decode("utf-8", "replace") if name else None,
        )

    def _head(self, number: int, line: bytes, fields: Sequence[bytes]) -> MetricPoint | None:
        time = self._integer(number, line, fields[0])
        value = self._value(number, line, fields[1])
        step = self._integer(number, line, fields[2])
        if time is None or value is None or step is None:
            self._note(Code.METRIC_LINE_MALFORMED, number, line)
            return None
        return MetricPoint(time, value, step)

    def _integer(self, number: int, line: bytes, field: bytes) -> int | None:
        if len(field) > _MAX_FIELD:
            return None
        try:
            whole = int(field)
        except ValueError:
            try:
                whole = int(float(field))
            except (ValueError, OverflowError):
                return None
            self._note(Code.METRIC_NUMBER_REPAIRED, number, line)
        if not INT64_MIN <= whole <= INT64_MAX:
            self._note(Code.METRIC_OUT_OF_RANGE, number, line)
            return max(INT64_MIN, min(whole, INT64_MAX))
        return whole

    def _value(self, number: int, line: bytes, field: bytes) -> float | None:
        if field in _BOOLEANS:
            self._note(Code.METRIC_VALUE_BOOLEAN, number, line)
            return _BOOLEANS[field]
        if len(field) > _MAX_FIELD:
            return None
        try:
            value = float(field)
        except ValueError:
            return None
        return math.nan if value != value else value

    def _note(self, code: Code, number: int, line: bytes) -> None:
        """Count a line under a code; all of one file make one issue."""
        count, last, numbers, sample = self._odd.get(code, (0, 0, [], repr(line[:120])))
        if last != number:
            count += 1
            if len(numbers) < 10:
                numbers.append(number)
        self._odd[code] = (count, number, numbers, sample)

    def report(self) -> None:
        """Name what was odd: one issue for each code."""
        for code, (count, _, numbers, sample) in self._odd.items():
            listed = ", ".join(map(str, numbers)) + (", …" if count > len(numbers) else "")
            lines = "Line" if count == 1 else f"{count:,} lines:"
            self._log.add(
                code,
                self._path,
                f"{lines} {listed}.",
                kept="" if code in _REJECTING else "the point",
                kind=self._kind,
                count=count,
                sample=sample,
            )


_REJECTING = {Code.METRIC_LINE_MALFORMED, Code.METRIC_LINE_TRUNCATED}
