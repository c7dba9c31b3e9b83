"""The accounts of a walk: all that is counted, and can be counted in parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator import transformer
from migrator.issues import Kind
from migrator.outcome.ledger import Ledger
from migrator.outcome.summary import ExperimentSummary
from migrator.pipeline.locations import Locations
from migrator.pipeline.redaction import Redactor


@dataclass(slots=True)
class Accounts:
    """Everything that working on the trees counts or collects.

    A process that does a part of the work fills a ``blank`` one, and ``add`` takes that in. So an
    account that is added here has to be added to both.
    """

    ledger: Ledger
    locations: Locations
    redactor: Redactor
    summaries: dict[str, ExperimentSummary] = field(default_factory=dict)  # by directory
    handed: Counter[Kind] = field(default_factory=Counter)  # what of the found went to the sink
    moments: list[transformer.Moment] = field(default_factory=list)
    runs_unread: set[str] = field(default_factory=set)  # ids of those of which nothing was kept
    runs_left_out: set[str] = field(default_factory=set)  # ids; by the options
    copies_read: set[str] = field(
        default_factory=set
    )  # directories; of runs that lie elsewhere too

    def blank(self) -> Accounts:
        """Return accounts of the same experiments in which nothing is counted yet."""
        return Accounts(
            Ledger(), self.locations.blank(), self.redactor.blank(), _Parts(self.summaries)
        )

    def add(self, part: Accounts) -> None:
        """Take in the accounts of a part of the work. The order of the parts is kept."""
        self.ledger.add(part.ledger)
        self.locations.add(part.locations)
        self.redactor.add(part.redactor)
        for key, summary in part.summaries.items():
            self.summaries[key].add(summary)
        self.handed.update(part.handed)
        self.moments += part.moments
        self.runs_unread |= part.runs_unread
        self.runs_left_out |= part.runs_left_out
        self.copies_read |= part.copies_read


class _Parts(dict[str, ExperimentSummary]):
    """Summaries of parts of experiments, each begun when it is first asked for."""

    def __init__(self, whole: Mapping[str, ExperimentSummary]) -> None:
        self._whole = whole

    def __missing__(self, key: str) -> ExperimentSummary:
        whole = self._whole[key]
        self[key] = ExperimentSummary(
            whole.source,
            whole.experiment_id,
            whole.name,
            whole.target_id,
            whole.target_name,
            whole.lifecycle_stage,
        )
        return self[key]
