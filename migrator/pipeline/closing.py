"""The end of a walk: what is reported of the whole, and the ledger against the sink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator import transformer
from migrator.errors import LedgerError
from migrator.issues import Code, Issue, Kind
from migrator.outcome.ledger import Ledger
from migrator.outcome.written import Written
from migrator.pipeline.locations import Locations
from migrator.pipeline.redaction import Redactor
from migrator.pipeline.stores import Store
from migrator.pipeline.trees import TreeReader
from migrator.pipeline.walk_context import WalkContext

# ------------------------------------------------------------------------- reports on the whole


def report_possible_regroupings(context: WalkContext) -> None:
    """Count the runs that ``--group-by-time`` and ``--adopt-orphans`` would join."""
    moments = context.totals.moments
    if not context.options.group_by_time:
        parents = transformer.group_by_time(moments)
        context.outcome.groups_by_time = (len(set(parents.values())), len(parents))
    if not context.options.adopt_orphans:
        context.outcome.orphans = len(transformer.adopt_orphans(moments))


def report_unused_profiles(context: WalkContext, reader: TreeReader) -> None:
    """Report the user's own profiles that took no tree: most often one has a mistake."""
    own = [p for p in reader.profiles if p.origin != "built in" and p.recognise]
    used: set[str | None] = set()
    trees = 0
    for summary in context.totals.summaries.values() if own else ():
        used.update(decision.profile for decision in summary.decisions.values())
        trees += summary.trees
    extended = {name for profile in reader.profiles for name in profile.extends}
    for profile in own:
        if profile.name in used or profile.name in extended:
            continue
        if not reader.options.asks_for(profile):
            continue
        issue = Issue(
            Code.PROFILE_UNUSED,
            str(Path(profile.origin).absolute()),
            f"Profile {profile.name} took no tree of runs; the sources have {trees:,}.",
            "the trees as the other profiles read them",
        )
        context.totals.ledger.add_issues([issue])


def report_mixed_assessments(context: WalkContext) -> None:
    """Report assessments of one name whose values have several types in an experiment."""
    totals: dict[tuple[int, str, str], Counter[str]] = {}
    paths: dict[int, str] = {}
    for path, summary in context.totals.summaries.items():
        paths.setdefault(summary.target_id, path)
        for (kind, name), types in summary.assessments.items():
            totals.setdefault((summary.target_id, kind, name), Counter()).update(types)
    for (target_id, kind, name), types in sorted(totals.items()):
        if len(types) < 2:
            continue
        path = paths[target_id]
        summary = context.totals.summaries[path]
        counts = ", ".join(f"{n:,} × {word}" for word, n in sorted(types.items()))
        issue = Issue(
            Code.ASSESSMENT_TYPES_MIXED,
            path,
            f'The {kind} "{name}" of experiment {summary.experiment_id} has values of '
            f"{len(types)} types: {counts}.",
            "each value as it was read",
            Kind.EXPERIMENT,
            summary.experiment_id,
        )
        context.totals.ledger.add_issues([issue])


# -------------------------------------------------------------------------- ledger against sink


@dataclass(frozen=True, slots=True)
class Walked:
    """A walk that has ended: what it handed over can be checked against what was found."""

    stores: Sequence[Store]
    ledger: Ledger
    handed: Counter[Kind]  # what of the found went to the sink
    added: Counter[Kind]  # what we added to native traces; it was not found
    locations: Locations
    redactor: Redactor

    def check_handed(self) -> None:
        """Raise LedgerError unless all that was found is handed over or accounted for.

        Call it before anything is published: a defect of ours then costs a message, not data.
        """
        self._allow_for_changes()
        self.ledger.join_notes()
        _check_closed(self.ledger, self.handed)

    def _allow_for_changes(self) -> None:
        """Take the number of files that were met where the store has changed since the walk.

        Only a second count can tell that from a file that we lost: what was met has to lie between
        the two counts.
        """
        ledger = self.ledger
        met = ledger.files_met
        if met == ledger.files:
            return
        now = sum(store.source.count_all_files() for store in self.stores)
        if min(ledger.files, now) <= met <= max(ledger.files, now):
            issue = Issue(
                Code.STORE_CHANGED,
                ", ".join(store.name for store in self.stores),
                f"The first walk found {ledger.files:,} files, {met:,} were met when they were to "
                f"be read, and {now:,} are there now.",
                "what was there",
            )
            ledger.add_issues([issue])
            ledger.files = met

    def check_written(self, written: Written) -> None:
        """Raise LedgerError unless what was handed over is written, merged or refused by name."""
        trial = Ledger(
            found=self.ledger.found,
            merged=Counter(self.ledger.merged),
            rejected=Counter(self.ledger.rejected),
            left_out=self.ledger.left_out,
        )
        _add_result(trial, written, self.added)
        trial.add_issues(written.issues)
        _check_closed(trial, {})

    def add_result(self, result: Written) -> None:
        """Enter into the ledger what the loader did."""
        _add_result(self.ledger, result, self.added)
        self.ledger.add_issues(self.redactor.issues(result.issues))


def _check_closed(ledger: Ledger, converted: Mapping[Kind, int]) -> None:
    before = Counter(ledger.converted)
    ledger.converted.update(converted)
    gaps = ledger.gaps()
    ledger.converted = before
    if gaps:
        raise LedgerError(
            "The counts do not close, so nothing was written: " + "; ".join(gaps) + ".",
            todo="This is a defect of mlflow-migrate; please report it with these numbers.",
        )


def _add_result(ledger: Ledger, result: Written, added: Counter[Kind]) -> None:
    """Enter what the loader did, without what we added to native traces: that was not found."""
    converted, there = Counter(result.converted), Counter(result.already_there)
    left_out = Counter(result.left_out)
    for kind, count in added.items():
        new = min(count, converted[kind])
        converted[kind] -= new
        there[kind] -= count - new
        if there[kind] < 0:  # what we added was left out or rejected with a native trace
            lacking = -there.pop(kind)
            of_deleted = min(lacking, left_out[kind])
            left_out[kind] -= of_deleted
            ledger.rejected[kind] -= lacking - of_deleted
    ledger.add_outcome(converted, there)
    ledger.merged.update(result.merged)
    ledger.left_out.update(+left_out)
    ledger.rebuilt_new.update({kind: n for kind, n in result.rebuilt.items() if n})
    ledger.rebuilt_already_there.update(result.rebuilt_already_there)
