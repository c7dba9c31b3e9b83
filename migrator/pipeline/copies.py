"""Several directories of one id: one entity in two states, or two entities?

A copy of a store that was made earlier or later holds the same run in another state: it has ended
since, or got params, metric points, tags. They are united. Another run of the same id must not be
mixed with it. They are told apart by what MLflow never changes once it is written: the start or
creation time, the values of params and metric points. A value that is unknown on one side
contradicts nothing. ``migrator.loader.sqlite.clashes`` has the same rule for what a target holds
already, so that two sources give the same in one call and in two.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import singledispatch
from typing import Any, TypeVar

from migrator.issues import Code, Issue, Kind
from migrator.model import (
    Counts,
    DatasetRecord,
    Entry,
    EvaluationDatasetRecord,
    LoggedModelRecord,
    MetricPoint,
    RegisteredModelRecord,
    RunRecord,
    ScorerRecord,
    TraceRecord,
    WebhookRecord,
    WorkspaceRecord,
)
from migrator.outcome.ledger import counts_of
from migrator.pipeline.walk_totals import WalkTotals

T = TypeVar("T")

_OPEN_RUN = ("RUNNING", "SCHEDULED")
_OPEN_TRACE = "IN_PROGRESS"
_PLACES = {"path", "artifact_dir", "spans_path", "experiment_id"}  # say only where it lies
_SHOWN = 5  # names of values that differ


@dataclass(frozen=True, slots=True)
class Copy:
    """One directory of an id, read; ``target_id`` is that of its experiment, if it has one."""

    entry: Entry
    target_id: int | None
    record: Any


def unite(kind: Kind, first: Copy, second: Copy, totals: WalkTotals) -> Copy:
    """The first directory of an id, with what it lacks of the second.

    Counts what is merged, and what is rejected because it is another entity.
    """
    record, again = first.record, second.record
    why = contradiction(record, again)
    if not why and first.target_id != second.target_id:
        same = _content(record) == _content(again)
        why = f"{'with the same content, but ' if same else ''}in another experiment"
    if why:
        _reject(kind, first, second, counts_of(again), why, totals)
        return first
    again, left_out = _without_other_versions(record, again)
    _reject(kind, first, second, left_out, "created at another time or by another run", totals)
    whole = united(record, again)
    before, after = counts_of(record), counts_of(whole)
    for each, count in counts_of(again).items():
        added = after.get(each, 0) - before.get(each, 0)
        totals.ledger.merged[each] += count - added
    others = _differences(record, again)
    message = "with the same content" if whole == record else "in another state"
    if others:
        message += ", and with other values of " + ", ".join(others[:_SHOWN])
        message += ", …" if len(others) > _SHOWN else ""
    totals.ledger.add_issues(
        [
            Issue(
                Code.ENTITY_DIFFERS if others else Code.ENTITY_REPEATED,
                second.entry.path,
                f"{kind.value} {second.entry.entity_id} lies in {first.entry.path} too, {message}.",
                f"the values in {first.entry.path}" if others else "one of the two",
                kind,
                second.entry.entity_id,
            )
        ]
    )
    return replace(first, record=whole)


def _reject(
    kind: Kind, first: Copy, second: Copy, counts: Counts, why: str, totals: WalkTotals
) -> None:
    entry = second.entry
    message = f"{kind.value} {entry.entity_id} lies in {first.entry.path} too, {why}."
    kept = f"the one in {first.entry.path}"
    totals.ledger.add_issues(
        [
            Issue(Code.ENTITY_CLASHES, entry.path, message, kept, part, entry.entity_id, n)
            for part, n in counts.items()
            if n
        ]
    )


def _content(record: Any) -> list[object]:
    """A record's fields, except those that only say where it lies."""
    return [getattr(record, each.name) for each in fields(record) if each.name not in _PLACES]


# ------------------------------------------------------------------------------ is it the same


@singledispatch
def contradiction(first: Any, second: Any) -> str:
    """The reason why two records of one id are two entities; empty if they are one.

    Raises TypeError for what is not a record.
    """
    raise TypeError(f"not an entity: {type(first).__name__}")


@contradiction.register
def _(first: RunRecord, second: RunRecord) -> str:
    if _differ(first.start_ms, second.start_ms):
        return "started at another time"
    if _params_differ(first.params, second.params):
        return "with other params"
    if first.status not in _OPEN_RUN:
        for key in first.metrics.keys() & second.metrics.keys():
            mine, other = _points(first.metrics[key]), _points(second.metrics[key])
            if mine.keys() - other.keys() and other.keys() - mine.keys():
                return "with other metric points"
    return ""


@contradiction.register
def _(first: TraceRecord, second: TraceRecord) -> str:
    if first.timestamp_ms != second.timestamp_ms:
        return "begun at another time"
    if first.client_request_id and _differ(first.client_request_id, second.client_request_id):
        return "of another request"
    mine = {span.span_id for span in first.spans}
    other = {span.span_id for span in second.spans}
    has_spans_in_both = bool(mine and other)
    if first.status != _OPEN_TRACE and has_spans_in_both and mine.isdisjoint(other):
        return "with other spans"
    return ""


@contradiction.register
def _(first: LoggedModelRecord, second: LoggedModelRecord) -> str:
    if first.creation_ms != second.creation_ms:
        return "created at another time"
    if _differ(first.source_run_id, second.source_run_id):
        return "made by another run"
    if _params_differ(first.params, second.params):
        return "with other params"
    values = {_model_point(metric): metric.value for metric in first.metrics}
    for metric in second.metrics:
        if repr(values.get(_model_point(metric), metric.value)) != repr(metric.value):
            return "with other metric points"
    return ""


@contradiction.register
def _(first: RegisteredModelRecord, second: RegisteredModelRecord) -> str:
    return "created at another time" if _differ(first.creation_ms, second.creation_ms) else ""


@contradiction.register
def _(first: DatasetRecord, second: DatasetRecord) -> str:
    same = (first.name, first.digest) == (second.name, second.digest)
    return "" if same else "with another name or digest"


@contradiction.register(EvaluationDatasetRecord)
@contradiction.register(WebhookRecord)
def _(first: Any, second: Any) -> str:
    return "created at another time" if _differ(first.created_ms, second.created_ms) else ""


@contradiction.register
def _(first: WorkspaceRecord, second: WorkspaceRecord) -> str:
    return ""  # its name is all that it is known by


@contradiction.register
def _(first: ScorerRecord, second: ScorerRecord) -> str:
    return "with another name" if first.name != second.name else ""


def _without_other_versions(first: T, second: T) -> tuple[T, dict[Kind, int]]:
    """A registered model without the versions that differ from those of the first.

    The second result counts the versions, tags and aliases that this leaves out. Other records
    have no such parts.
    """
    if not isinstance(first, RegisteredModelRecord) or not isinstance(
        second, RegisteredModelRecord
    ):
        return second, {}
    mine = {version.version: version for version in first.versions}
    others = []
    for version in second.versions:
        same = mine.get(version.version, version)
        if _differ(same.creation_ms, version.creation_ms) or (
            same.run_id and version.run_id and same.run_id != version.run_id
        ):
            others.append(version)
    numbers = {version.version for version in others}
    aliases = {a: number for a, number in second.aliases.items() if number not in numbers}
    left_out = {
        Kind.MODEL_VERSION: len(others),
        Kind.MODEL_VERSION_TAG: sum(len(version.tags) for version in others),
        Kind.ALIAS: len(second.aliases) - len(aliases),
    }
    versions = tuple(v for v in second.versions if v.version not in numbers)
    return replace(second, versions=versions, aliases=aliases), left_out


def _differ(first: object, second: object) -> bool:
    return first is not None and second is not None and first != second


def _params_differ(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    if any(first[key] != second[key] for key in first.keys() & second.keys()):
        return True
    return bool(first.keys() - second.keys()) and bool(second.keys() - first.keys())


def _points(points: Iterable[MetricPoint]) -> dict[Hashable, MetricPoint]:
    """Points by what tells them apart; NaN is equal to NaN."""
    return {(point.timestamp_ms, repr(point.value), point.step): point for point in points}


def _model_point(metric: Any) -> tuple[object, ...]:
    return metric.key, metric.timestamp_ms, metric.step, metric.run_id


# ------------------------------------------------------------------------------------ uniting


def united(first: T, second: T) -> T:
    """The first record, with what it lacks of the second, which is the same entity.

    Where both have a value, the first one stays. A record that had not ended is brought up to date.
    """
    changes: dict[str, Any] = {}
    is_open = _is_open(first)
    for each in fields(first):  # type: ignore[arg-type]  # a record
        mine, other = getattr(first, each.name), getattr(second, each.name)
        if each.name == "metrics" and isinstance(mine, Mapping):
            changes["metrics"] = {
                key: tuple({**_points(mine.get(key, ())), **_points(other.get(key, ()))}.values())
                for key in {**mine, **other}
            }
        elif isinstance(mine, Mapping):
            changes[each.name] = {**mine, **other} if is_open else {**other, **mine}
        elif each.name in _PART_KEYS:
            changes[each.name] = _united_parts(each.name, mine, other, is_open)
        elif is_open and each.name not in _PLACES and each.name not in _KEPT:
            changes[each.name] = other
    return replace(first, **changes)  # type: ignore[type-var]  # T is a record, a dataclass


_KEPT = {"artifact_uri", "start_ms", "user_id"}
_PART_KEYS = {  # fields that hold parts -> what tells these apart
    "inputs": ("source_type", "source_id"),
    "outputs": ("model_id",),
    "metrics": ("key", "timestamp_ms", "step", "run_id"),
    "spans": ("span_id",),
    "assessments": ("assessment_id",),
    "versions": ("version",),
    "links": ("kind", "target_id"),
    "items": ("input_hash",),
    "events": ("entity", "action"),
}


def _united_parts(
    name: str, mine: Sequence[Any], other: Sequence[Any], is_open: bool
) -> tuple[Any, ...]:
    if name == "spans":  # a trace that had not ended is replaced
        return tuple(other) if is_open else tuple(mine or other)
    found: dict[tuple[object, ...], Any] = {}
    for part in (*mine, *other):
        key = tuple(getattr(part, column) for column in _PART_KEYS[name])
        if key in found and hasattr(part, "tags") and name == "versions":
            part = replace(found[key], tags={**part.tags, **found[key].tags})
            found[key] = part
        found.setdefault(key, part)
    return tuple(found.values())


def _is_open(record: Any) -> bool:
    return getattr(record, "status", None) in (*_OPEN_RUN, _OPEN_TRACE)


def _differences(first: Any, second: Any) -> list[str]:
    """The fields and keys whose values differ, where those of the first stay."""
    if _is_open(first):
        return []
    found = []
    for each in fields(first):
        mine, other = getattr(first, each.name), getattr(second, each.name)
        if each.name in _PLACES or each.name in _PART_KEYS or mine == other:
            continue
        if isinstance(mine, Mapping):
            keys = sorted(k for k in mine.keys() & other.keys() if mine[k] != other[k])
            found += [f"{each.name}/{key}" for key in keys]
        else:
            found.append(each.name)
    return found
