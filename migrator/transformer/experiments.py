"""Where each experiment goes: its id and name in the target, and what clashes with what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from migrator import conventions as conv
from migrator import encoding
from migrator.errors import TargetError
from migrator.issues import Code, Issue, Kind
from migrator.model import ExperimentPlan, ExperimentRecord

NAME_CHARS = 256  # column experiments.name
DEFAULT = "Default"  # MLflow's own; every store and database has one, so it always merges
DERIVED_DIGITS = 18  # MLflow's own ids have as many; fewer where the column holds 32 bits
OnConflict = Literal["fail", "merge", "rename"]
Key = str  # the experiment's directory, which is unique over all sources


@dataclass(frozen=True, slots=True)
class FoundExperiment:
    """An experiment of a source, and what decides which of several keeps a name they share."""

    source: int  # number of the source
    record: ExperimentRecord
    runs: int = 0
    other_items: int = 0  # native traces, logged models and datasets
    newest_run_ms: int | None = None

    @property
    def newest_ms(self) -> int:
        """The last moment that is known of it, 0 without any."""
        times = (self.record.creation_ms, self.record.last_update_ms, self.newest_run_ms)
        return max(time_ms or 0 for time_ms in times)

    @property
    def precedence(self) -> tuple[bool, int, int, int, int, str, int, str]:
        """Sort key: of experiments that share a name, the first keeps it."""
        identity, path = self.record.experiment_id, self.record.path
        return (
            self.record.deleted,
            -self.runs,
            -self.other_items,
            -self.newest_ms,
            len(identity),
            identity,
            len(path),
            path,
        )


def plan_experiments(
    found: Sequence[FoundExperiment],
    existing: Sequence[tuple[int, str]],
    on_conflict: OnConflict,
    largest_id: int | None = conv.INT64_MAX,
    name_key: Callable[[str], str] = str,
) -> tuple[dict[Key, ExperimentPlan], tuple[Issue, ...]]:
    """Give every experiment an id and a name in the target.

    Ids that are numbers of up to ``largest_id`` are kept. Other ids, and ids that another
    experiment has, are replaced by one derived from the id and the name. ``largest_id`` None means
    that the target gives ids itself: those of plans and of ``existing`` then only tell experiments
    apart (``experiment_handle`` makes them).

    When experiments of one source share a name, one keeps it: the one that has it in the target
    already, then the active one, then the one with most runs, then the newest
    (``FoundExperiment.precedence``). The others become ``name (id)``. An experiment of a later
    source joins the one with its id and name in an earlier source, else the one with its name.

    ``existing`` are the ``(id, name)`` of the target's experiments. What an earlier conversion of
    the same source wrote is found again and merged, under the name that it has there. Any other
    clash follows ``on_conflict``.

    ``name_key`` makes names equal that the target can't tell apart. The order of ``found`` does not
    matter. Plans are keyed by the experiment's directory. Raises TargetError on a clash with
    ``on_conflict`` "fail".
    """
    return _Planner(existing, on_conflict, largest_id, name_key).plan(found)


def experiment_handle(experiment_id: str, name: str) -> int:
    """A number for a source's experiment where the target gives ids itself."""
    return _digest_id(experiment_id, name, 0, conv.INT64_MAX)


def experiment_kind(
    tags: Mapping[str, str], n_root_runs: int, n_roots_with_traces: int, n_native: int
) -> str | None:
    """The value of tag ``mlflow.experimentKind`` to add; None when the tag is not added.

    It is added where the experiment has none and its traces outnumber its plain runs, because the
    GenAI view has no plain list of runs.
    """
    if conv.EXPERIMENT_KIND in tags:
        return None
    mostly = n_roots_with_traces * 2 > n_root_runs
    only_native = n_root_runs == 0 and n_native > 0
    return conv.EXPERIMENT_KIND_GENAI if mostly or only_native else None


class _Planner:
    def __init__(
        self,
        existing: Iterable[tuple[int, str]],
        on_conflict: OnConflict,
        largest_id: int | None,
        name_key: Callable[[str], str],
    ) -> None:
        self.keeps_ids = largest_id is not None
        self.largest_id = conv.INT64_MAX if largest_id is None else largest_id
        self.name_key = name_key
        existing = tuple(existing)
        self.there_by_name = {name_key(name): number for number, name in existing}
        self.there_by_id = {number: name for number, name in existing}
        self.on_conflict = on_conflict
        self.issues: list[Issue] = []
        self.plans: dict[Key, ExperimentPlan] = {}
        self.ids: dict[int, Key] = {}  # taken by this conversion
        self.names: dict[str, FoundExperiment] = {}  # taken by this conversion, by their keys
        self.by_identity: dict[tuple[str, str], Key] = {}  # (id, name) in the source -> plan
        self.joined: set[tuple[int, int]] = set()  # (source, target id) of those that joined

    def plan(
        self, found: Sequence[FoundExperiment]
    ) -> tuple[dict[Key, ExperimentPlan], tuple[Issue, ...]]:
        by_source: dict[int, list[FoundExperiment]] = {}
        for each in found:
            by_source.setdefault(each.source, []).append(each)
        for _, of_source in sorted(by_source.items()):
            self._plan_source(of_source)
        return self.plans, tuple(self.issues)

    def _plan_source(self, found: Sequence[FoundExperiment]) -> None:
        apart = []
        for each in sorted(found, key=lambda each: each.precedence):
            earlier = self.by_identity.get(_identity(each.record))
            if earlier is None:
                apart.append(each)
            else:
                self._join(each, self.plans[earlier])
        for each in apart:
            self.by_identity.setdefault(_identity(each.record), each.record.path)
        apart.sort(key=lambda each: not self._has_name_in_target(each.record))
        keepers: dict[str, FoundExperiment] = {}
        for each in apart:
            keepers.setdefault(self._key(each.record), each)
        # Those that keep their names first, so that no other is renamed to one of these.
        for keeper in keepers.values():
            self._place(keeper, keeper)
        for each in apart:
            keeper = keepers[self._key(each.record)]
            if keeper is not each:
                self._place(each, keeper)

    def _join(self, each: FoundExperiment, first: ExperimentPlan) -> None:
        """Put an experiment's runs into the experiment of an earlier source."""
        record = each.record
        self.joined.add((each.source, first.target_id))
        self.plans[record.path] = ExperimentPlan(
            record,
            first.target_id,
            first.target_name,
            first.artifact_location,
            dict(record.tags),
            True,
        )
        self._issue(
            Code.EXPERIMENT_MERGED,
            record,
            f'Experiment "{record.name}" ({record.experiment_id}) has the name of one in '
            f"another source ({first.record.path}).",
            f"its runs, in experiment {first.target_id}",
        )

    def _place(self, each: FoundExperiment, keeper: FoundExperiment) -> None:
        """Place an experiment. ``keeper`` is the one of its source that keeps their name."""
        record = each.record
        holder = self.names.get(self._key(record))
        if each is keeper and holder is not None and holder.record.name == record.name:
            first = self.plans[holder.record.path]
            if (each.source, first.target_id) not in self.joined:
                self._join(each, first)
                return
        own_id = (
            _numeric(record.experiment_id, self.largest_id)
            if self.keeps_ids
            else self._digest(record)
        )
        target_id = own_id
        if target_id is None or target_id in self.ids:
            target_id = self._derived(record)
        there = self.there_by_id.get(target_id)
        derived_there = self._derived_there(record)
        if derived_there is not None and not _is_name_of(record, there):
            # An earlier conversion gave it an id of its own.
            target_id, there = derived_there, self.there_by_id[derived_there]
        name, merged = _fitting_name(record), False
        if there is not None and _is_name_of(record, there):
            name, merged = there, True
        elif holder is not None:
            name = self._free_name(record)
            if there is not None:
                target_id, name, merged = self._clash(record, target_id, name)
        elif there is not None or self.name_key(name) in self.there_by_name:
            target_id, name, merged = self._clash(record, target_id, name)
        tags = dict(record.tags)
        if target_id != own_id and self.keeps_ids:
            tags[conv.MIGRATOR_SOURCE_EXPERIMENT] = record.experiment_id
            self._issue(
                Code.EXPERIMENT_ID_CHANGED,
                record,
                f'Experiment "{record.name}" can\'t have its id {record.experiment_id} in the '
                f"target: it is not a number of up to {self.largest_id}, or is taken.",
                f"the experiment, as {target_id}",
            )
        if name != record.name:
            tags[conv.MIGRATOR_SOURCE_NAME] = record.name
            self._issue(
                Code.EXPERIMENT_RENAMED,
                record,
                f'Experiment {record.experiment_id} "{encoding.cut(record.name, 300)}": '
                f"{self._reason(each, holder, merged=merged)}.",
                f'the experiment, as "{name}"',
            )
        self.ids[target_id] = record.path
        self.names.setdefault(self._key(record), each)
        self.names.setdefault(self.name_key(name), each)
        self.plans[record.path] = ExperimentPlan(
            record, target_id, name, record.artifact_location, tags, merged
        )

    def _reason(
        self, each: FoundExperiment, holder: FoundExperiment | None, *, merged: bool
    ) -> str:
        """The reason why an experiment can't have its own name."""
        if holder is not None:
            other = holder.record
            what = "has the same name"
            if other.name != each.record.name:
                name = encoding.cut(other.name, 300)
                what = f'has the name "{name}", which is the same to the target'
            where = f" of {other.path}" if holder.source != each.source else ""
            return f"experiment {other.experiment_id}{where} {what} and {_advantage(holder, each)}"
        if merged:
            return "the target has it under another name"
        if len(each.record.name) > NAME_CHARS:
            return (
                f"the name has {len(each.record.name):,} characters, and {NAME_CHARS} is the most"
            )
        if _fitting_name(each.record) != each.record.name:
            return "the name holds characters that no database can store"
        return "the target has another experiment of this name"

    def _clash(self, record: ExperimentRecord, target_id: int, name: str) -> tuple[int, str, bool]:
        """Resolve a clash with an experiment of the target that has nothing to do with this one."""
        same_name = self.there_by_name.get(self.name_key(name))
        other = self.there_by_id.get(target_id)
        facts = (
            f'the target has an experiment "{self.there_by_id[same_name]}" with id {same_name}'
            if same_name is not None
            else f'the target\'s experiment {target_id} is "{other}"'
        )
        if same_name is not None and name == DEFAULT:
            return same_name, self.there_by_id[same_name], True
        if self.on_conflict == "fail":
            raise TargetError(
                f'Experiment "{record.name}" ({record.experiment_id}) clashes: {facts}.',
                todo="Use --on-conflict merge or rename, or a new database.",
            )
        if same_name is not None and self.on_conflict == "merge":
            return same_name, self.there_by_id[same_name], True
        if same_name is not None:
            name = self._free_name(record)
        if other is not None:
            target_id = self._derived(record)
        return target_id, name, False

    def _free_name(self, record: ExperimentRecord) -> str:
        """``name (id)``, or ``name (id, number)`` where that is taken too."""
        name = _suffixed(_fitting_name(record), record.experiment_id)
        number = 2
        while self.name_key(name) in {**self.there_by_name, **self.names}:
            name = _suffixed(_fitting_name(record), f"{record.experiment_id}, {number}")
            number += 1
        return name

    def _key(self, record: ExperimentRecord) -> str:
        return self.name_key(_fitting_name(record))

    def _has_name_in_target(self, record: ExperimentRecord) -> bool:
        """Whether an earlier conversion wrote it, and under its own name."""
        own = _numeric(record.experiment_id, self.largest_id) if self.keeps_ids else None
        numbers = [self._digest(record)] if own is None else [own, self._digest(record)]
        return any(self.there_by_id.get(number) == _fitting_name(record) for number in numbers)

    def _derived(self, record: ExperimentRecord) -> int:
        """An id that no experiment has, always the same for the same experiment."""
        for attempt in range(1_000):
            number = self._digest(record, attempt)
            if number not in self.ids and number not in self.there_by_id:
                return number
            if _is_name_of(record, self.there_by_id.get(number)):
                return number  # written by an earlier conversion
        raise AssertionError("a thousand ids are taken")

    def _digest(self, record: ExperimentRecord, attempt: int = 0) -> int:
        return _digest_id(record.experiment_id, record.name, attempt, self.largest_id)

    def _derived_there(self, record: ExperimentRecord) -> int | None:
        number = self._digest(record)
        return number if _is_name_of(record, self.there_by_id.get(number)) else None

    def _issue(self, code: Code, record: ExperimentRecord, message: str, kept: str) -> None:
        self.issues.append(
            Issue(code, record.path, message, kept, Kind.EXPERIMENT, record.experiment_id)
        )


def _numeric(text: str, largest: int) -> int | None:
    """Read an id as a number; None if it is not written as one or the column can't hold it."""
    if not text.isascii() or not text.isdecimal() or (len(text) > 1 and text[0] == "0"):
        return None
    number = int(text)
    return number if number <= largest else None


def _digest_id(experiment_id: str, name: str, attempt: int, largest: int) -> int:
    text = f"{experiment_id}/{name}" + (f"/{attempt}" if attempt else "")
    low: int = 10 ** (DERIVED_DIGITS - 1)
    count = 9 * low
    if low + count > largest:
        low = count = conv.LEAST_DERIVED_ID
    return low + int(hashlib.sha256(text.encode()).hexdigest(), 16) % count


def _advantage(keeper: FoundExperiment, other: FoundExperiment) -> str:
    """The reason why one of two experiments of one name keeps it."""
    if keeper.source != other.source:
        return "lies in an earlier source"
    if keeper.precedence > other.precedence:
        return "has it in the target already"
    if keeper.record.deleted != other.record.deleted:
        return "is not deleted"
    if keeper.runs != other.runs:
        return f"has more runs ({keeper.runs:,}, and this one {other.runs:,})"
    if keeper.other_items != other.other_items:
        return "holds more traces, models and datasets"
    return "is newer" if keeper.newest_ms != other.newest_ms else "has the smaller id"


def _identity(record: ExperimentRecord) -> tuple[str, str]:
    return record.experiment_id, record.name


def _fitting_name(record: ExperimentRecord) -> str:
    return encoding.cut(encoding.clean_text(record.name), NAME_CHARS)


def _is_name_of(record: ExperimentRecord, there: str | None) -> bool:
    """Whether an experiment of the target has a name that a conversion gives to this one."""
    name = _fitting_name(record)
    if there is None or there == name:
        return there is not None
    suffix = there.rpartition(" (")[2].removesuffix(")")
    identity, _, number = suffix.partition(", ")
    named_so = identity == record.experiment_id and (not number or number.isdecimal())
    return named_so and there == _suffixed(name, suffix)


def _suffixed(name: str, suffix: str) -> str:
    end = f" ({suffix})"
    return encoding.cut(name, NAME_CHARS - len(end)) + end
