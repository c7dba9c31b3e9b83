"""Where each experiment goes: its id and name in the target, and what clashes with what."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from migrator import conventions as conv
from migrator.errors import TargetError
from migrator.issues import Code, Issue, Kind
from migrator.model import ExperimentPlan, ExperimentRecord

NAME_CHARS = 256  # column experiments.name
DEFAULT = "Default"  # MLflow's own; every store and database has one, so it always merges
DERIVED_DIGITS = 18  # MLflow's own ids have as many; fewer where the column holds 32 bits
OnConflict = Literal["fail", "merge", "rename"]
Key = str  # the experiment's directory, which is unique over all sources


def plan_experiments(
    records: Sequence[tuple[int, ExperimentRecord]],
    existing: Sequence[tuple[int, str]],
    on_conflict: OnConflict,
    largest_id: int | None = conv.INT64_MAX,
    name_key: Callable[[str], str] = str,
) -> tuple[dict[Key, ExperimentPlan], tuple[Issue, ...]]:
    """Give every experiment an id and a name in the target.

    Ids that are numbers of up to ``largest_id`` are kept; others, and those that another
    experiment has, are derived from the id and the name. Of one name in one source the active
    experiment keeps it, then the older; the others become ``name (id)``. The same name in a later
    source is merged into the first's. ``existing`` are the target's ``(id, name)``: what an earlier
    conversion of the same source wrote is found again and merged; any other clash follows
    ``on_conflict``. Raises TargetError on a clash with ``on_conflict`` "fail". ``name_key`` makes
    the names equal that the target takes for one. The order of ``records`` is immaterial. Plans
    are keyed by the experiment's directory.

    Where ``largest_id`` is None the target gives ids of its own, and those of plans and of
    ``existing`` only tell experiments apart: ``experiment_handle`` makes them.
    """
    return _Planner(existing, on_conflict, largest_id, name_key).plan(records)


def experiment_handle(experiment_id: str, name: str) -> int:
    """Return what stands for a source's experiment where the target gives ids of its own."""
    return _digest_id(experiment_id, name, 0, conv.INT64_MAX)


def experiment_kind(
    tags: Mapping[str, str], n_root_runs: int, n_roots_with_traces: int, n_native: int
) -> str | None:
    """Return the value of tag ``mlflow.experimentKind`` to add, or None for none.

    Only where it has none yet and its traces outweigh its plain runs, because the GenAI view has
    no plain list of runs.
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
        self.names: dict[str, tuple[int, Key]] = {}  # with the number of the source

    def plan(
        self, records: Sequence[tuple[int, ExperimentRecord]]
    ) -> tuple[dict[Key, ExperimentPlan], tuple[Issue, ...]]:
        def key(item: tuple[int, ExperimentRecord]) -> tuple[int, bool, int, int, str]:
            source, record = item
            identity = record.experiment_id
            return (source, record.deleted, record.creation_ms or 0, len(identity), identity)

        for source, record in sorted(records, key=key):
            self._place(source, record)
        return self.plans, tuple(self.issues)

    def _place(self, source: int, record: ExperimentRecord) -> None:
        holder = self.names.get(self.name_key(record.name))
        same = holder is not None and self.plans[holder[1]].record.name == record.name
        if holder is not None and same and holder[0] != source:
            first = self.plans[holder[1]]
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
            return
        tags = dict(record.tags)
        merged = False
        own_id = (
            _numeric(record.experiment_id, self.largest_id)
            if self.keeps_ids
            else self._digest(record)
        )
        name = self._fitting_name(record)
        if holder is not None:
            name = _suffixed(name, record.experiment_id)
        target_id = own_id
        if target_id is None or target_id in self.ids:
            target_id = self._derived(record)
        there = self.there_by_id.get(target_id)
        renamed = _suffixed(self._fitting_name(record), record.experiment_id)
        derived_there = self._derived_there(record)
        if derived_there is not None and there not in (name, renamed):
            # An earlier conversion gave it an id of its own.
            target_id, there = derived_there, self.there_by_id[derived_there]
        if there in (name, renamed):
            name, merged = there, True
        elif there is not None or self.name_key(name) in self.there_by_name:
            target_id, name, merged = self._clash(record, target_id, name)
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
                f'The name "{conv.cut(record.name, 300)}" of experiment {record.experiment_id} is '
                "taken, or too long.",
                f'the experiment, as "{name}"',
            )
        key = record.path
        self.ids[target_id] = key
        self.names.setdefault(self.name_key(record.name), (source, key))
        self.names.setdefault(self.name_key(name), (source, key))
        self.plans[key] = ExperimentPlan(
            record, target_id, name, record.artifact_location, tags, merged
        )

    def _clash(self, record: ExperimentRecord, target_id: int, name: str) -> tuple[int, str, bool]:
        """Resolve a clash with an experiment of the target that is another one."""
        same_name = self.there_by_name.get(self.name_key(name))
        other = self.there_by_id.get(target_id)
        facts = (
            f'the target has an experiment "{name}" with id {same_name}'
            if same_name is not None
            else f'the target\'s experiment {target_id} is "{other}"'
        )
        if same_name is not None and name == DEFAULT:
            return same_name, name, True
        if self.on_conflict == "fail":
            raise TargetError(
                f'Experiment "{record.name}" ({record.experiment_id}) clashes: {facts}.',
                todo="Use --on-conflict merge or rename, or a new database.",
            )
        if same_name is not None and self.on_conflict == "merge":
            return same_name, name, True
        if same_name is not None:
            name = _suffixed(name, record.experiment_id)
            number = 2
            while self.name_key(name) in {**self.there_by_name, **self.names}:
                name = _suffixed(self._fitting_name(record), f"{record.experiment_id}, {number}")
                number += 1
        if other is not None:
            target_id = self._derived(record)
        return target_id, name, False

    def _fitting_name(self, record: ExperimentRecord) -> str:
        return conv.cut(conv.clean_text(record.name), NAME_CHARS)

    def _derived(self, record: ExperimentRecord) -> int:
        """Return an id that nobody has, the same for the same experiment."""
        for attempt in range(1_000):
            number = self._digest(record, attempt)
            if number not in self.ids and number not in self.there_by_id:
                return number
            if self.there_by_id.get(number) in _names_of(record):
                return number  # written by an earlier conversion
        raise AssertionError("a thousand ids are taken")

    def _digest(self, record: ExperimentRecord, attempt: int = 0) -> int:
        return _digest_id(record.experiment_id, record.name, attempt, self.largest_id)

    def _derived_there(self, record: ExperimentRecord) -> int | None:
        number = self._digest(record)
        return number if self.there_by_id.get(number) in _names_of(record) else None

    def _issue(self, code: Code, record: ExperimentRecord, message: str, kept: str) -> None:
        self.issues.append(
            Issue(code, record.path, message, kept, Kind.EXPERIMENT, record.experiment_id)
        )


def _numeric(text: str, largest: int) -> int | None:
    """Return an id as the number that the target's column holds, if it is written as one."""
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


def _names_of(record: ExperimentRecord) -> tuple[str, str]:
    name = conv.cut(conv.clean_text(record.name), NAME_CHARS)
    return name, _suffixed(name, record.experiment_id)


def _suffixed(name: str, suffix: str) -> str:
    end = f" ({suffix})"
    return conv.cut(name, NAME_CHARS - len(end)) + end
