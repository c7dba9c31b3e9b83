"""Writes the report of a conversion to a file, and beside it the list of what was rejected."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from migrator.atomic_files import write_atomically
from migrator.errors import OptionError
from migrator.issues import Severity
from migrator.outcome.summary import Outcome
from migrator.report.html import html_report
from migrator.report.printable import printable, printable_json
from migrator.report.text import convert_text


def json_report(outcome: Outcome, values: bool = False) -> str:
    """Return the whole outcome, every issue included, as JSON.

    Each experiment and each issue stands on a line of its own. (What indents every value in
    ``json`` is Python code: it took most of the time of a store of many experiments.)
    """
    encode = json.JSONEncoder(ensure_ascii=False).encode
    lines = []
    for key, value in outcome.as_dict(values).items():
        text = encode(value)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(map(encode, value)) + "\n ]"
        lines.append(f" {encode(key)}: {text}")
    return printable_json("{\n" + ",\n".join(lines) + "\n}") + "\n"


def text_report(outcome: Outcome, values: bool = False) -> str:
    """Return what ``convert --verbose`` prints."""
    return printable(convert_text(outcome, verbose=True, values=values)) + "\n"


FORMATS: dict[str, Callable[[Outcome, bool], str]] = {
    ".json": json_report,
    ".html": html_report,
    ".htm": html_report,
    ".txt": text_report,
}


def check_report_path(path: str, endings: Collection[str] = FORMATS) -> None:
    """Raise OptionError when a report can't be written to ``path`` (before any work is done).

    ``endings`` are those that it may have.
    """
    parent = Path(path).resolve().parent
    if not parent.is_dir():
        raise OptionError(
            f"The report can't be written to {path}: there is no directory {parent}.",
            todo="Make it first, or name another file.",
        )
    if Path(path).is_dir():
        raise OptionError(f"The report can't be written to {path}: that is a directory.")
    if Path(path).suffix.lower() not in endings:
        raise OptionError(
            f"The report's format can't be told from the name {path}.",
            todo=f"Let it end in {', '.join(endings)}.",
        )
    for changed in (Path(path), parent):
        if changed.exists() and not os.access(changed, os.W_OK):
            raise OptionError(
                f"The report can't be written to {path}: no permission to write to {changed}.",
                todo="Give write permission, or name another file.",
            )


def first_report_path(target: Path) -> Path:
    """Return the name beside the target that its first report has."""
    return target.with_name(f"{target.name}.report.json")


def free_report_path(target: Path) -> Path:
    """Return a name beside the target that no earlier report has."""
    path = first_report_path(target)
    number = 2
    while os.path.lexists(path):
        path = target.with_name(f"{target.name}.report-{number}.json")
        number += 1
    return path


def write_report(
    outcome: Outcome, path: Path, values: bool = False, like: Sequence[Path] = ()
) -> None:
    """Write the report in the format of the path's ending, and the rejects beside it.

    ``values`` shows the source's own words with the issues. Nobody may read them who may not read
    the files ``like``. Raises OSError.
    """
    if outcome.ledger.has_rejects:
        rejects = path.with_suffix(".rejects.jsonl")
        write_atomically(rejects, rejects_text(outcome), [path, *like])
        outcome.rejects_path = str(rejects)
    write_atomically(path, FORMATS[path.suffix.lower()](outcome, values), like)


def write_page(outcome: Outcome, path: Path, values: bool = False) -> None:
    """Write the outcome as an HTML page. Raises OptionError when the file can't be written."""
    try:
        write_atomically(path, html_report(outcome, values))
    except OSError as error:
        raise OptionError(f"{path} can't be written: {error.strerror}.") from error


def rejects_text(outcome: Outcome) -> str:
    """Return a JSON line for each rejection: what ``convert --only`` takes as its list."""
    return "".join(
        json.dumps(
            {
                "path": issue.path,
                "entity": issue.kind and issue.kind.value,
                "id": issue.entity_id,
                "code": issue.code.value,
                "message": issue.message,
                "kept": issue.kept,
            },
            ensure_ascii=False,
        )
        + "\n"
        for issue in outcome.ledger.issues
        if issue.severity is Severity.REJECTED
    )
