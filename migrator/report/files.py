"""Writes the report of a conversion to a file."""

from __future__ import annotations

import json
from pathlib import Path

from migrator.errors import OptionError
from migrator.report.summary import Outcome


def check_report_path(path: str) -> None:
    """Raise OptionError when a report can't be written to ``path`` (before any work is done)."""
    parent = Path(path).resolve().parent
    if not parent.is_dir():
        raise OptionError(
            f"The report can't be written to {path}: there is no directory {parent}.",
            todo="Make it first, or name another file.",
        )
    if Path(path).is_dir():
        raise OptionError(f"The report can't be written to {path}: that is a directory.")


def free_report_path(target: Path) -> Path:
    """Return a name beside the target that no earlier report has."""
    path = target.with_name(f"{target.name}.report.json")
    number = 2
    while path.exists():
        path = target.with_name(f"{target.name}.report-{number}.json")
        number += 1
    return path


def write_report(outcome: Outcome, path: Path) -> None:
    """Write the whole outcome, every issue included, as JSON. Raises OSError."""
    text = json.dumps(outcome.as_dict(), ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
