"""Calls that a run recorded as metric histories (a point for each call) or as a note for each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from migrator import encoding
from migrator.model import Json, MetricPoint
from migrator.transformer.found import Found, Step, Tokens
from migrator.transformer.notes import noted_turn
from migrator.transformer.profiles import normalise
from migrator.transformer.run_facts import guess_unit
from migrator.transformer.run_view import RunView
from migrator.transformer.values import parse_json

RUNNING_TOTAL = re.compile(r"(total|cumulative|session|running|sum)_")
_NUMBER = re.compile(r"(?:\A|_)\d+(?=_|\Z)")  # of a call, in the name of its file
MS_OF_UNIT = (("duration_ms", 1.0), ("duration_s", 1000.0), ("duration_unknown", None))


class _History(NamedTuple):
    """A metric with several points."""

    key: str
    points: Sequence[MetricPoint]


@dataclass(frozen=True, slots=True)
class _Durations:
    history: _History
    ms_of_unit: float | None  # None: the unit is guessed for each value


@dataclass(frozen=True, slots=True)
class _Calls:
    """The calls of a run: one for each point of the longest history, oldest first."""

    points: Sequence[MetricPoint]
    by_step: bool  # every point has a step of its own

    def values_of(self, history: _History | None) -> list[float | None]:
        """The value of each call in another history; None where it is unknown or not finite."""
        values: list[float | None] = [None] * len(self.points)
        if history is not None and self.by_step:
            last = {point.step: point.value for point in history.points}
            values = [last.get(point.step) for point in self.points]
        elif history is not None and len(history.points) == len(self.points):
            values = [point.value for point in _by_time(history.points)]
        return [_finite(value) for value in values]


def recorded_calls(view: RunView) -> tuple[Step, ...]:
    """The calls of a run that recorded several, oldest first; else nothing.

    A metric with a history is one call for each point, unless it is a running total.
    """
    asked, answered = (_per_call(view, name) for name in ("call_inputs", "call_outputs"))
    steps = _calls_by_metrics(view) or _calls_of_texts(asked, answered)
    return tuple(_with_texts(steps, asked, answered))


def _per_call(view: RunView, field: str) -> Sequence[Found]:
    """The values of a field, one for each call: several, or the items of one list."""
    founds = view.best(field)
    if len(founds) != 1:
        return founds
    only = founds[0]
    value = parse_json(only.value) if isinstance(only.value, str) else only.value
    if isinstance(value, str) or not isinstance(value, Sequence):
        return founds
    return [only._replace(value=item) for item in value]


def _calls_of_texts(asked: Sequence[Found], answered: Sequence[Found]) -> tuple[Step, ...]:
    """A call for each text, where there are several and as many answers as inputs."""
    counts = {len(texts) for texts in (asked, answered) if texts}
    if len(counts) != 1 or counts == {1}:
        return ()
    return tuple(_call(number, None) for number in range(1, counts.pop() + 1))


def _with_texts(
    steps: Sequence[Step], asked: Sequence[Found], answered: Sequence[Found]
) -> Iterator[Step]:
    """Give each call its own texts, where there are as many as calls."""
    for at, step in enumerate(steps):
        given = asked[at] if len(asked) == len(steps) else None
        got = answered[at] if len(answered) == len(steps) else None
        origins = dict(step.origins)
        if given is not None:
            step, origins["inputs"] = replace(step, inputs=_inputs(given)), given.origin
        if got is not None:
            step, origins["outputs"] = replace(step, outputs=got.value), got.origin
        yield replace(step, origins=origins)


def _inputs(given: Found) -> Json:
    """What a call was given, as a span's inputs; the name is the same for all calls of a run."""
    if encoding.is_chat(given.value):
        return {"messages": given.value}
    name = _NUMBER.sub("", given.stem).strip("_")
    folder = given.key.rpartition("/")[0].rpartition("/")[2] if given.place == "artifact" else ""
    return {name or normalise(folder) or "input": given.value}


def _calls_by_metrics(view: RunView) -> tuple[Step, ...]:
    """The calls that histories of metrics, or several notes, tell of."""
    notes = list(view.every("calls"))
    if all(len(points) < 2 for points in view.run.metrics.values()):  # nearly every run
        return _calls_of_notes(notes)
    token_histories = _token_histories(view)
    durations = _durations(view)
    histories = [history for history in token_histories if history is not None]
    if not histories and durations is not None:
        is_of_calls = len(notes) == len(durations.history.points) or view.model()
        histories = [durations.history] if is_of_calls else []
    if not histories:
        return _calls_of_notes(notes)
    longest = max(histories, key=lambda history: len(history.points)).points
    calls = _Calls(_by_time(longest), len({point.step for point in longest}) == len(longest))
    return _calls_of_histories(view, calls, token_histories, durations, notes)


def whole_tokens(view: RunView) -> Tokens | None:
    """The tokens of all calls of a run, where some of them can't be assigned to a call.

    None where every count belongs to a call. A metric that was logged for fewer calls than another
    is counted too: nobody knows for which of them.
    """
    counts = [_token_points(view, f"{name}_tokens") for name in ("input", "output", "total")]
    longest = max(counts, key=len)
    if len(longest) < 2 or not any(_token_histories(view)):
        return None
    is_paired = all(len(points) in (0, len(longest)) for points in counts)
    if is_paired or len({point.step for point in longest}) == len(longest):
        return None
    sums = [sum(point.value for point in points) if points else None for points in counts]
    if sums[0] is not None and sums[1] is not None and len(counts[2]) != len(longest):
        sums[2] = None
    return Tokens(*sums)


def _token_points(view: RunView, field: str) -> Sequence[MetricPoint]:
    """All finite points of a field's first metric."""
    for found in view.every(field):
        if found.place == "metric":
            points = view.run.metrics[found.key]
            return [point for point in points if math.isfinite(point.value)]
    return ()


def _calls_of_histories(
    view: RunView,
    calls: _Calls,
    token_histories: Sequence[_History | None],
    durations: _Durations | None,
    notes: Sequence[Found],
) -> tuple[Step, ...]:
    given, got, total = (calls.values_of(history) for history in token_histories)
    costs = calls.values_of(_cost_history(view))
    times = calls.values_of(durations.history if durations is not None else None)
    ms_of_unit = durations.ms_of_unit if durations is not None else None
    metrics = {
        name: calls.values_of(_History(name, points))
        for name, points in sorted(view.run.metrics.items())
        if len(points) == len(calls.points)
    }
    has_notes = len(notes) == len(calls.points)
    steps = []
    for at, point in enumerate(calls.points):
        own = {f"metric.{name}": values[at] for name, values in metrics.items()}
        step = replace(
            _call(at + 1, notes[at] if has_notes else None),
            end_ms=point.timestamp_ms,
            duration_ms=_in_ms(times[at], ms_of_unit),
            usage=Tokens(given[at], got[at], total[at]),
            cost_usd=costs[at],
            facts={name: value for name, value in own.items() if value is not None},
        )
        steps.append(step)
    return tuple(steps)


def _token_histories(view: RunView) -> list[_History | None]:
    """The histories of input, output and total tokens that are counts of single calls."""
    given, got, total = (_history(view, f"{name}_tokens") for name in ("input", "output", "total"))
    if total and not given and not got and _grows(total):
        total = None
    return [None if each and _is_running_total(each) else each for each in (given, got, total)]


def _durations(view: RunView) -> _Durations | None:
    for field, ms_of_unit in MS_OF_UNIT:
        if history := _history(view, field):
            return _Durations(history, ms_of_unit)
    return None


def _cost_history(view: RunView) -> _History | None:
    cost = _history(view, "cost_usd")
    return None if cost and _is_running_total(cost) else cost


def _history(view: RunView, field: str) -> _History | None:
    found = view.history(field)
    return _History(*found) if found is not None else None


def _is_running_total(history: _History) -> bool:
    """Whether a history is a growing counter by its values and by its name."""
    name = normalise(history.key)
    is_named_so = RUNNING_TOTAL.match(name) is not None and name != "total_tokens"
    return is_named_so and _grows(history)


def _grows(history: _History) -> bool:
    values = [point.value for point in _by_time(history.points)]
    return all(a <= b for a, b in pairwise(values))


def _by_time(points: Sequence[MetricPoint]) -> list[MetricPoint]:
    return sorted(points, key=lambda point: (point.timestamp_ms, point.step))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _in_ms(duration: float | None, ms_of_unit: float | None) -> float | None:
    if duration is None:
        return None
    return duration * (guess_unit(duration, None)[0] if ms_of_unit is None else ms_of_unit)


def _calls_of_notes(notes: Sequence[Found]) -> tuple[Step, ...]:
    if len(notes) < 2:
        return ()
    return tuple(_call(number, note) for number, note in enumerate(notes, 1))


def _call(number: int, note: Found | None) -> Step:
    """One of several calls of a run, with what its note says."""
    origins = {"tokens": "metric history", "cost": "metric history"}
    if note is None:
        return Step(f"call-{number}", f"call_{number}", origins=origins)
    kind = re.match(r"[^\W\d]+", note.stem)  # "query" of query_2024_03_01
    inputs: Json = {note.stem: note.value}
    outputs: Json = None
    if isinstance(note.value, str):
        turn = noted_turn(note.value)
        if turn is not None:
            inputs, outputs = dict(turn.asked), turn.answer
    return Step(
        f"call-{number}",
        f"{kind[0].strip('_') if kind else 'call'}_{number}",
        inputs=inputs,
        outputs=outputs,
        origins={**origins, "inputs": note.origin, "outputs": note.origin},
    )
