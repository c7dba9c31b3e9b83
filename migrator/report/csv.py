"""The experiments of an outcome as a pandas data frame, and as CSV."""

from __future__ import annotations

import pandas as pd

from migrator.outcome.summary import ExperimentSummary, Outcome
from migrator.report.printable import csv_cell

COUNTERS = ("roles", "profiles", "left_as_runs")
LISTS = (
    "decisions",
    "weeks",
    "biggest",
    "examples",
)  # lists have no cell; the JSON report has them


def experiments_frame(outcome: Outcome) -> pd.DataFrame:
    """Return a row per experiment. Dates are UTC timestamps, and counters are text."""
    names = [name for name in ExperimentSummary.__dataclass_fields__ if name not in LISTS]
    rows = []
    for experiment in outcome.experiments:
        row = {name: getattr(experiment, name) for name in names}
        for name in COUNTERS:
            counter = getattr(experiment, name)
            row[name] = ", ".join(f"{n} {what}" for what, n in sorted(counter.items()))
        row |= {key: csv_cell(value) for key, value in row.items() if isinstance(value, str)}
        rows.append(row)
    frame = pd.DataFrame(rows, columns=names)
    for column in ("first_ms", "last_ms"):
        frame[column.replace("_ms", "")] = pd.to_datetime(
            frame.pop(column), unit="ms", utc=True, errors="coerce"
        )
    return frame


def experiments_csv(outcome: Outcome) -> str:
    """Return the frame as CSV text with a header line."""
    return experiments_frame(outcome).to_csv(index=False)
