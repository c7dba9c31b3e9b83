"""What a walk counts and collects, whole or in parts that are added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator import transformer
from migrator.issues import Kind
from migrator.model import Entry, RunEntry
from migrator.outcome.ledger import Ledger
from migrator.outcome.summary import ExperimentSummary
from migrator.packing import PackedDict
from migrator.pipeline.locations import Locations
from migrator.pipeline.redaction import Redactor
from migrator.pipeline.stores import Store


@dataclass(slots=True)
class WalkTotals:
    """Everything that the work on trees counts or collects.

    A process that does a part of the work fills a ``blank`` one, and ``add`` adds that to the
    whole. So a field that is added here has to be added to both.
    """

    ledger: Ledger
    locations: Locations
    redactor: Redactor
    summaries: PackedDict[ExperimentSummary] = field(default_factory=PackedDict)  # by directory
    handed: Counter[Kind] = field(default_factory=Counter)  # what of the found went to the sink
    moments: list[transformer.Moment] = field(default_factory=list)
    runs_unread: set[str] = field(default_factory=set)  # ids of runs of which nothing was kept
    runs_left_out: set[str] = field(default_factory=set)  # ids; by the options
    copies_read: set[str] = field(default_factory=set)  # directories of runs that lie elsewhere too

    def blank(self) -> WalkTotals:
        """Totals of the same experiments in which nothing is counted yet."""
        return WalkTotals(
            Ledger(), self.locations.blank(), self.redactor.blank(), _Parts(self.summaries)
        )

    def add(self, part: WalkTotals) -> None:
        """Add the totals of a part of the work. The order of the parts is kept."""
        self.ledger.add(part.ledger)
        self.locations.add(part.locations)
        self.redactor.add(part.redactor)
        for key, summary in part.summaries.items():
            self.summaries.to_change(key).add(summary)
        self.handed.update(part.handed)
        self.moments += part.moments
        self.runs_unread |= part.runs_unread
        self.runs_left_out |= part.runs_left_out
        self.copies_read |= part.copies_read


class _Parts(PackedDict[ExperimentSummary]):
    """Summaries of parts of experiments, each begun when it is first asked for."""

    def __init__(self, whole: Mapping[str, ExperimentSummary]) -> None:
        super().__init__()
        self._whole = whole

    def to_change(self, key: str) -> ExperimentSummary:
        if key not in self:
            self[key] = self._whole[key].blank()
        return super().to_change(key)


def count_files(ledger: Ledger, store: Store, entry: RunEntry) -> None:
    """Count the files of a run that is left out, which no walk has counted."""
    count = store.source.count_run(entry)
    ledger.files += count.files
    ledger.size_bytes += count.size_bytes


def leave_out_files(ledger: Ledger, store: Store, entry: Entry) -> None:
    """Count the files below an entity's directory as left out by the options."""
    ledger.files_left_out += store.source.count_files(entry)


def leave_to_other_shards(ledger: Ledger, kind: Kind) -> None:
    """Count an entity that another shard converts."""
    ledger.found[kind] += 1
    ledger.left_out[kind] += 1
