"""The result of a scan as text: what is there, what is damaged, and last a plan."""

from __future__ import annotations

from migrator.counting import counted
from migrator.issues import Kind
from migrator.outcome.summary import Outcome
from migrator.report.artifacts import hollow_lines, prefixes_text
from migrator.report.formats import duration, size
from migrator.report.headline import items_text, scan_headline
from migrator.report.text import (
    DEFAULT_STYLE,
    Style,
    artifacts_text,
    decisions_text,
    entities_table,
    experiments_table,
    kept_lines,
    notes_text,
    page,
    problems_text,
    shard_text,
)

# Measured (docs/performance.md): convert reads as scan does, and then inserts rows.
READING = 1.2  # times the scan
ROWS_PER_S = 100_000
EMPTY_BYTES = 2 << 20  # MLflow's schema without any row
ROW_BYTES = 250  # with its indexes


def scan_text(outcome: Outcome, command: str, style: Style = DEFAULT_STYLE) -> str:
    """Render the output of ``scan``; ``command`` is the command to type next."""
    parts = [
        scan_headline(outcome),
        shard_text(outcome),
        problems_text(outcome, style),
        entities_table(outcome),
        experiments_table(outcome.experiments, style.width) if outcome.experiments else "",
        decisions_text(outcome.experiments, style.verbose),
        notes_text(outcome, style),
        plan_text(outcome, command),
    ]
    return page(parts, style)


def plan_text(outcome: Outcome, command: str) -> str:
    """The command to type, what it writes, its cost, what stays behind, and what else is possible.

    "" if the sources hold nothing to convert.
    """
    ledger = outcome.ledger
    if not sum(ledger.found.values()):
        return ""
    lines = ["Plan:", f"    {command}", _result(outcome), _cost(outcome)]
    behind = []
    if ledger.has_rejects:
        behind.append("what is rejected, until it is fixed and you convert again")
    if ledger.files_ignored:
        behind.append(counted(ledger.files_ignored, "file that is not MLflow's",
                              "files that are not MLflow's"))  # fmt: skip
    if behind:
        lines.append(f"Stays behind: {'; '.join(behind)}.")
    lines += hollow_lines(outcome.artifacts.hollow)
    lines += kept_lines(outcome)
    lines += [artifacts_text(outcome), prefixes_text(outcome.artifacts, command)]
    return "\n".join(filter(None, lines))


def _result(outcome: Outcome) -> str:
    """What ``convert`` would write: the items of the source, and traces made of runs."""
    ledger = outcome.ledger
    items = items_text(ledger.found - ledger.rejected - ledger.left_out)
    text = f"It would write {items or 'no runs'}"
    if ledger.rebuilt[Kind.TRACE]:
        traces = counted(ledger.rebuilt[Kind.TRACE], "trace")
        spans = counted(ledger.rebuilt[Kind.SPAN], "span")
        text += f", and rebuild {traces} with {spans} from the runs"
    return f"{text}. The source is only read."


def _cost(outcome: Outcome) -> str:
    """About how long a conversion to SQLite takes here, and how large the database becomes."""
    rows = sum(outcome.ledger.found.values()) + sum(outcome.ledger.rebuilt.values())
    seconds = READING * outcome.seconds + rows / ROWS_PER_S
    return f"It takes about {duration(seconds)} and {size(EMPTY_BYTES + rows * ROW_BYTES)} of disk."
