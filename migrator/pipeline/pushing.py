"""``push``: sends what a tracker wrote to a local database on to a server, as it is.

It is a conversion through the server's API in which no run becomes a trace, and an experiment of
the server that has the name of one in the source takes its contents. So a push that was cut off is
completed by the next one, and what is there already stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from migrator import __version__, addresses, extractor
from migrator.counting import counted
from migrator.credentials import masked
from migrator.errors import SourceError, TargetError
from migrator.issues import Issue, Kind, Severity
from migrator.outcome.summary import Outcome
from migrator.pipeline.options import ROLES, Options
from migrator.pipeline.stores import Progress, fetched, no_progress, open_stores
from migrator.signals import point_of_no_return

_SOURCE = "Give the SQLite database that the tracker named, such as sqlite:///mlflow.db."
_TARGET = (
    "Give a running server's address, such as http://localhost:5000. To push into a database, "
    "start a server on it: mlflow server --backend-store-uri URI"
)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push."""

    runs: int
    traces: int
    there_already: int  # runs and traces
    failed: int  # items that the server refused, or parts of
    issues: tuple[Issue, ...]  # everything that the server refused

    @property
    def sent(self) -> str:
        """What was sent, such as ``2 traces and 1 run``."""
        return f"{counted(self.traces, 'trace')} and {counted(self.runs, 'run')}"

    @property
    def is_complete(self) -> bool:
        """Whether the server refused nothing."""
        return not self.issues

    def as_dict(self) -> dict[str, int]:
        """Return the counts, for machines."""
        counts = asdict(self)
        del counts["issues"]
        return counts


def push(
    source: str,
    target: str,
    *,
    progress: Progress = no_progress,
    say: Callable[[str], None] = lambda text: None,
) -> Pushed:
    """Send what ``source``, a SQLite database of MLflow, holds to the server at ``target``.

    What the server's API can't keep is passed to ``say`` before anything is written. Raises
    SourceError, TargetError, and KeyboardInterrupt; the last two say what was sent by then.
    """
    # What writes to a server takes a while to load.
    from migrator.loader import rest as server
    from migrator.pipeline.through_rest import RestConversion, convert_through_rest

    if not extractor.is_database(source) or addresses.is_database_server(source):
        raise SourceError(f"{masked(source)} is not a SQLite database.", todo=_SOURCE)
    addresses.refuse_mistaken(target, TargetError, _TARGET)
    if not addresses.is_http(target):
        shown = masked(target)
        raise TargetError(
            f"{shown} is not the address of a server, and push sends to servers only.",
            todo=_TARGET,
        )
    options = Options(on_conflict="merge", experiment_kind="keep", exclude=ROLES, workers=1)
    connection = server.open_server(target)
    try:
        with point_of_no_return() as committing, fetched(source, options, progress) as places:
            stores = open_stores(places)
            names = tuple(store.name for store in stores)
            outcome = Outcome(__version__, names, connection.shown)
            conversion = RestConversion(stores, connection, options, progress)
            convert_through_rest(conversion, outcome, lambda issues: None, say)
            committing()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"Interrupted. {connection.written_so_far()}") from interrupt
    return _pushed(outcome)


def _pushed(outcome: Outcome) -> Pushed:
    ledger = outcome.ledger
    kinds = (Kind.RUN, Kind.TRACE)
    refused = [issue for issue in ledger.issues if issue.severity is Severity.REJECTED]
    return Pushed(
        runs=ledger.converted[Kind.RUN],
        traces=ledger.converted[Kind.TRACE],
        there_already=sum(ledger.already_there[kind] for kind in kinds),
        failed=len({issue.entity_id for issue in refused}),
        issues=tuple(refused),
    )
