"""Where each experiment goes: its id and name in the target, and what clashes with what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from migrator import conventions as conv
from migrator import encoding
from migrator.errors import TargetError
from migrator.issues import Code, Issue, Kind
from migrator.model import ExistingExperiment, ExperimentPlan, ExperimentRecord

NAME_CHARS = 256  # column experiments.name
DEFAULT = "Default"  # MLflow's own; every store and database has one, so it always merges
DERIVED_DIGITS = 18  # MLflow's own ids have as many; fewer where the column holds 32 bits
OnConflict = Literal["fail", "merge", "rename"]
Key = str  # the experiment's directory, which is unique over all sources
Name = tuple[str, str]  # a workspace, and the key of a name, which is unique in it


@dataclass(frozen=True, slots=True)
class FoundExperiment:
    """An experiment of a source, and what decides which of several keeps a name they share."""

    source: int  # number of the source
    record: ExperimentRecord
    runs: int = 0
    other_items: int = 0  # native traces, logged models and datasets
    newest_run_ms: int | None = None
    converted_as: tuple[int, ...] = ()  # ids that an earlier conversion gave it, the best first

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


class Contents(NamedTuple):
    """What a source's experiment holds, as far as that tells whether it came to the target."""

    is_empty: bool = False
    in_target: frozenset[int] = frozenset()  # the target's experiments that have a run of it


def _unknown_contents(path: str) -> Contents:
    return Contents()


def plan_experiments(
    found: Sequence[FoundExperiment],
    existing: Sequence[ExistingExperiment],
    on_conflict: OnConflict,
    largest_id: int | None = conv.INT64_MAX,
    name_key: Callable[[str], str] = str,
    contents_of: Callable[[str], Contents] = _unknown_contents,
) -> tuple[dict[Key, ExperimentPlan], tuple[Issue, ...]]:
    """Give every experiment an id and a name in the target.

    Ids that are numbers of up to ``largest_id`` are kept. Other ids, and ids that another
    experiment has, are replaced by one derived from the id and the name. ``largest_id`` None means
    that the target gives ids itself: those of plans and of ``existing`` then only tell experiments
    apart (``experiment_handle`` makes them).

    Names are unique in a workspace. When experiments of one source share a name, one keeps it: the
    one that has it in the target already, then the active one, then the one with most runs, then
    the newest (``FoundExperiment.precedence``). The others become ``name (id)``. An experiment of
    a later source joins the one with its id and name in an earlier source, else the one with its
    name.

    ``existing`` are the target's experiments. One of them is the source's own if it has its id (or
    tag ``migrator.source_experiment_id``) and one of: the name that a conversion gives it, one of
    its runs, the source's creation time (where both have runs, one of them as well). With
    ``on_conflict`` "merge" one that has a run of it is enough, unless it came from an experiment of
    another name. The source's own is found again and merged. It keeps the name that it has in the
    target, unless the source renamed it since and nobody renamed it in the target: tag
    ``migrator.source_experiment_name`` keeps the name of the last conversion. Any other clash
    follows ``on_conflict``.

    One that was converted (``converted_as``) and has been deleted in the target for good gets its
    id again; the loader leaves it out.

    ``contents_of`` is called with an experiment's directory, and only where nothing else decides.
    ``name_key`` makes names equal that the target can't tell apart. The order of ``found`` does not
    matter. Plans are keyed by the experiment's directory. Raises TargetError on a clash with
    ``on_conflict`` "fail".
    """
    planner = _Planner(existing, on_conflict, largest_id, name_key, contents_of)
    return planner.plan(found)


def experiment_handle(experiment_id: str, name: str) -> int:
    """A number for a source's experiment where the target gives ids itself."""
    return _digest_id(experiment_id, name, 0, conv.INT64_MAX)


def candidate_ids(record: ExperimentRecord, largest_id: int) -> tuple[int, ...]:
    """The ids that an experiment most likely has in a database: its own, one derived from it."""
    own = _numeric(record.experiment_id, largest_id)
    derived = _digest_id(record.experiment_id, record.name, 0, largest_id)
    return (derived,) if own is None else (own, derived)


def experiment_kind(
    *, has_kind: bool, n_root_runs: int, n_roots_with_traces: int, n_native: int
) -> str | None:
    """The value of tag ``mlflow.experimentKind`` to add; None when the tag is not added.

    It is added where the experiment has none and its traces outnumber its plain runs, because the
    GenAI view has no plain list of runs.
    """
    if has_kind:
        return None
    mostly = n_roots_with_traces * 2 > n_root_runs
    only_native = n_root_runs == 0 and n_native > 0
    return conv.EXPERIMENT_KIND_GENAI if mostly or only_native else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an experiment goes in the target."""

    target_id: int
    name: str
    source_name: str | None  # to be remembered in a tag
    is_merged: bool  # it joins an experiment that is there
    is_name_new: bool  # another name than the source's is ours, and is to be explained


class _Planner:
    def __init__(
        self,
        existing: Iterable[ExistingExperiment],
        on_conflict: OnConflict,
        largest_id: int | None,
        name_key: Callable[[str], str],
        contents_of: Callable[[str], Contents],
    ) -> None:
        self.keeps_ids = largest_id is not None
        self.largest_id = conv.INT64_MAX if largest_id is None else largest_id
        self.name_key = name_key
        self.contents_of = contents_of
        self.there = {each.target_id: each for each in existing}
        self.there_by_name = {
            self._name(each.workspace, each.name): each.target_id for each in self.there.values()
        }
        self.there_by_id = {number: each.name for number, each in self.there.items()}
        self.there_by_source: dict[str, list[ExistingExperiment]] = {}
        for each in self.there.values():
            if each.source_id is not None:
                self.there_by_source.setdefault(each.source_id, []).append(each)
        self.on_conflict = on_conflict
        self.issues: list[Issue] = []
        self.plans: dict[Key, ExperimentPlan] = {}
        self.ids: dict[int, Key] = {}  # taken by this conversion
        self.names: dict[Name, FoundExperiment] = {}  # taken by this conversion
        self.by_identity: dict[tuple[str, ...], Key] = {}  # those of the sources -> plan
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
        keepers: dict[Name, FoundExperiment] = {}
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
        own_id = self._own_id(record)
        place = self._find_place(each, own_id, holder)
        tags = dict(record.tags)
        if place.name != DEFAULT and place.source_name is not None:
            tags[conv.MIGRATOR_SOURCE_NAME] = place.source_name
        if place.target_id != own_id and self.keeps_ids:
            tags[conv.MIGRATOR_SOURCE_EXPERIMENT] = record.experiment_id
            self._issue(
                Code.EXPERIMENT_ID_CHANGED,
                record,
                f'Experiment "{record.name}" can\'t have its id {record.experiment_id} in the '
                f"target: it is not a number of up to {self.largest_id}, or is taken.",
                f"the experiment, as {place.target_id}",
            )
        if place.name != record.name and place.is_name_new:
            self._issue(
                Code.EXPERIMENT_RENAMED,
                record,
                f'Experiment {record.experiment_id} "{encoding.cut(record.name, 300)}": '
                f"{self._reason(each, holder, merged=place.is_merged)}.",
                f'the experiment, as "{place.name}"',
            )
        self.ids[place.target_id] = record.path
        self.names.setdefault(self._key(record), each)
        self.names.setdefault(self._name(record.workspace, place.name), each)
        self.plans[record.path] = ExperimentPlan(
            record, place.target_id, place.name, record.artifact_location, tags, place.is_merged
        )

    def _own_id(self, record: ExperimentRecord) -> int | None:
        """The id that an experiment has in the target unless it is taken."""
        if self.keeps_ids:
            return _numeric(record.experiment_id, self.largest_id)
        return self._digest(record)

    def _find_place(
        self, each: FoundExperiment, own_id: int | None, holder: FoundExperiment | None
    ) -> _Place:
        """Where an experiment goes: where an earlier conversion wrote it, or to a new place."""
        record = each.record
        deleted_ids = [number for number in each.converted_as if self._is_deleted(record, number)]
        earlier = self._earlier(each)
        if earlier is not None:
            name, source_name = self._name_of_earlier(record, earlier, holder)
            is_new = _is_name_of(record, name) and not deleted_ids
            return _Place(earlier.target_id, name, source_name, is_merged=True, is_name_new=is_new)
        before = self._merged_before(record)
        if before is not None:
            self._keep_name(record, before)
            return _Place(before.target_id, before.name, None, is_merged=True, is_name_new=False)
        if deleted_ids:
            is_free = self._key(record) not in {**self.there_by_name, **self.names}
            name = _fitting_name(record) if is_free else self._free_name(record)
            return _Place(deleted_ids[0], name, record.name, is_merged=False, is_name_new=False)
        target_id, name, is_merged = self._new_place(record, own_id, holder)
        source_name = None if is_merged and name == record.name else record.name
        return _Place(target_id, name, source_name, is_merged=is_merged, is_name_new=True)

    def _new_place(
        self, record: ExperimentRecord, own_id: int | None, holder: FoundExperiment | None
    ) -> tuple[int, str, bool]:
        """Id and name of an experiment that no earlier conversion wrote; whether it is merged."""
        name = _fitting_name(record)
        target_id = own_id
        if target_id is None or target_id in self.ids:
            target_id = self._derived(record)
        if holder is not None:
            name = self._free_name(record)
            if target_id not in self.there:
                return target_id, name, False
            return self._clash(record, target_id, name)
        if target_id in self.there or self._name(record.workspace, name) in self.there_by_name:
            return self._clash(record, target_id, name)
        return target_id, name, False

    def _earlier(self, each: FoundExperiment) -> ExistingExperiment | None:
        """The experiment of the target that came from this one; None if there is none."""
        record = each.record
        candidates = [
            there for there in self._candidates(record) if there.target_id not in self.ids
        ]
        for there in candidates:
            if _is_name_of(record, there.name):
                return there
        for there in candidates:
            is_same_moment = record.creation_ms and there.creation_ms == record.creation_ms
            if is_same_moment and self._may_be_one(record, there):
                return there
        if not candidates:
            return None
        contents = self.contents_of(record.path)
        for there in candidates:
            if there.target_id in contents.in_target:
                return there
            if contents.is_empty and there.target_id == 0 and record.name == DEFAULT:
                return there  # every database has it, and here it has another name
        for there in candidates:
            is_known = record.creation_ms and there.creation_ms
            if there.source_id == record.experiment_id and not is_known:
                return there
        return None

    def _is_deleted(self, record: ExperimentRecord, number: int) -> bool:
        """Whether an id that an earlier conversion gave is free now, or another experiment's."""
        there = self.there.get(number)
        is_there = there is not None and there.creation_ms == record.creation_ms
        return number not in self.ids and not is_there

    def _may_be_one(self, record: ExperimentRecord, there: ExistingExperiment) -> bool:
        """Whether no run speaks against an experiment of the same id and moment.

        Scripts with a fixed clock make such experiments in several stores.
        """
        if not there.has_runs:
            return True
        contents = self.contents_of(record.path)
        return contents.is_empty or there.target_id in contents.in_target

    def _merged_before(self, record: ExperimentRecord) -> ExistingExperiment | None:
        """The target's experiment into which it was merged by name, and which has another now."""
        if self.on_conflict != "merge" or not self.there:
            return None
        if self._key(record) in self.there_by_name:
            return None
        in_target = self.contents_of(record.path).in_target
        for target_id in sorted(in_target & self.there.keys()):
            there = self.there[target_id]
            if there.source_name in (None, record.name):
                return there
        return None

    def _candidates(self, record: ExperimentRecord) -> list[ExistingExperiment]:
        """The target's experiments that have the id of this one, now or in the source."""
        numbers = [self._digest(record)]
        if self.keeps_ids:
            own = _numeric(record.experiment_id, self.largest_id)
            if own is not None:
                numbers.insert(0, own)
        candidates = [self.there[number] for number in numbers if number in self.there]
        for there in self.there_by_source.get(record.experiment_id, ()):
            if there not in candidates:
                candidates.append(there)
        return candidates

    def _name_of_earlier(
        self,
        record: ExperimentRecord,
        there: ExistingExperiment,
        holder: FoundExperiment | None,
    ) -> tuple[str, str | None]:
        """The name that an experiment of an earlier conversion has from now on in the target.

        The second text is the source's name to remember: the one that the target's name is from.
        It is None for an experiment of the target's own, into which this one was merged.
        """
        given = there.source_name
        if _is_name_of(record, there.name):
            return there.name, None if self._is_of_target(there, record) else record.name
        if given is not None and given != record.name and _follows(there, record):
            name = _fitting_name(record) if holder is None else self._free_name(record)
            key = self._name(record.workspace, name)
            is_taken = self.there_by_name.get(key, there.target_id) != there.target_id
            if not is_taken and key not in self.names:
                self._issue(
                    Code.EXPERIMENT_NAME_FOLLOWED,
                    record,
                    f"Experiment {record.experiment_id} was renamed in the source: it was "
                    f'"{encoding.cut(there.name, 300)}" in the target.',
                    f'the experiment, as "{encoding.cut(name, 300)}"',
                )
                return name, record.name
        self._keep_name(record, there)
        if given is None and not self._is_of_target(there, record):
            given = record.name
        return there.name, given

    def _is_of_target(self, there: ExistingExperiment, record: ExperimentRecord) -> bool:
        """Whether others made an experiment of the target, into which this one was merged."""
        if there.source_name is not None:
            return False
        if record.creation_ms and there.creation_ms and record.creation_ms != there.creation_ms:
            return True
        return self.keeps_ids and there.source_id is not None

    def _keep_name(self, record: ExperimentRecord, there: ExistingExperiment) -> None:
        self._issue(
            Code.EXPERIMENT_NAME_KEPT,
            record,
            f'Experiment {record.experiment_id} "{encoding.cut(record.name, 300)}" has another '
            f'name in the target: "{encoding.cut(there.name, 300)}".',
            "the name that the target has",
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
        same_name = self.there_by_name.get(self._name(record.workspace, name))
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
        while self._name(record.workspace, name) in {**self.there_by_name, **self.names}:
            name = _suffixed(_fitting_name(record), f"{record.experiment_id}, {number}")
            number += 1
        return name

    def _key(self, record: ExperimentRecord) -> Name:
        return self._name(record.workspace, _fitting_name(record))

    def _name(self, workspace: str, name: str) -> Name:
        return workspace, self.name_key(name)

    def _has_name_in_target(self, record: ExperimentRecord) -> bool:
        """Whether an earlier conversion wrote it, and under its own name."""
        name = _fitting_name(record)
        return any(there.name == name for there in self._candidates(record))

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


def _identity(record: ExperimentRecord) -> tuple[str, ...]:
    return record.experiment_id, record.name, record.workspace


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


def _follows(there: ExistingExperiment, record: ExperimentRecord) -> bool:
    """Whether nobody renamed an experiment in the target since the last conversion.

    A deleted one can't be renamed through MLflow, and the database's own ``Default`` stays.
    """
    if there.name == DEFAULT or (there.deleted and not record.deleted):
        return False
    given = replace(record, name=there.source_name or "")
    return _is_name_of(given, there.name)


def _suffixed(name: str, suffix: str) -> str:
    end = f" ({suffix})"
    return encoding.cut(name, NAME_CHARS - len(end)) + end
