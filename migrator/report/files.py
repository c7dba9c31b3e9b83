"""Writes the report of a conversion, and beside it the list of rejected items."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from migrator.atomic_files import write_atomically
from migrator.errors import OptionError
from migrator.issues import Severity
from migrator.outcome.summary import Outcome
from migrator.report.json_schema import versioned
from migrator.report.printable import printable, printable_json
from migrator.report.text import Style, convert_text


def json_report(outcome: Outcome, values: bool = False) -> Iterator[str]:
    """Yield the parts of the whole outcome with every issue as JSON.

    Each experiment and each issue has a line. Indenting every value with ``json`` took most of the
    time of a conversion with many experiments, and all of them at once most of its memory.
    """
    encode = json.JSONEncoder(ensure_ascii=False).encode
    before = "{\n"
    for key, value in versioned(outcome.as_stream(values)).items():
        yield printable_json(f"{before} {encode(key)}: ")
        before = ",\n"
        if isinstance(value, list | Iterator):
            yield from _json_lines(value, encode)
        else:
            yield printable_json(encode(value))
    yield "\n}\n"


def _json_lines(items: Iterable[Any], encode: Callable[[Any], str]) -> Iterator[str]:
    """Yield the parts of a JSON list with a line for each item."""
    before = "[\n  "
    for item in items:
        yield printable_json(before + encode(item))
        before = ",\n  "
    yield "[]" if before.startswith("[") else "\n ]"


def text_report(outcome: Outcome, values: bool = False) -> str:
    """Return the text that ``convert --verbose`` prints."""
    return printable(convert_text(outcome, Style(verbose=True, values=values))) + "\n"


def html_report(outcome: Outcome, values: bool = False) -> str:
    """Return the HTML page."""
    from migrator.report import html  # Jinja2 takes a while to load

    return html.html_report(outcome, values)


FORMATS: dict[str, Callable[[Outcome, bool], str | Iterator[str]]] = {
    ".json": json_report,
    ".html": html_report,
    ".htm": html_report,
    ".txt": text_report,
}


def check_report_path(path: str, endings: Collection[str] = FORMATS) -> None:
    """Raise OptionError if no report can be written to ``path``. Call it before the work begins.

    ``endings`` are the file extensions that the report may have.
    """
    parent = Path(path).resolve().parent
    if not parent.is_dir():
        raise OptionError(
            f"The report can't be written to {path}: there is no directory {parent}.",
            todo="Create it first, or name another file.",
        )
    if Path(path).is_dir():
        raise OptionError(f"The report can't be written to {path}: that is a directory.")
    if Path(path).suffix.lower() not in endings:
        raise OptionError(
            f"The name {path} does not show the report's format.",
            todo=f"Use a name that ends in {', '.join(endings)}.",
        )
    for changed in (Path(path), parent):
        if changed.exists() and not os.access(changed, os.W_OK):
            raise OptionError(
                f"The report can't be written to {path}: no permission to write to {changed}.",
                todo="Give write permission, or name another file.",
            )


def first_report_path(target: Path) -> Path:
    """Return the path of the first report of a target, which is beside it."""
    return target.with_name(f"{target.name}.report.json")


def free_report_path(target: Path) -> Path:
    """Return a path beside the target for a report that does not exist yet."""
    path = first_report_path(target)
    number = 2
    while os.path.lexists(path):
        path = target.with_name(f"{target.name}.report-{number}.json")
        number += 1
    return path


def write_report(
    outcome: Outcome, path: Path, values: bool = False, like: Sequence[Path] = ()
) -> None:
    """Write the report in the format of the path's extension, and the rejected items beside it.

    With ``values``, issues show the values that the source has. The files grant nobody more than
    the files ``like`` do. Raises OSError.
    """
    if outcome.ledger.has_rejects:
        rejects = path.with_suffix(".rejects.jsonl")
        write_atomically(rejects, rejects_text(outcome), [path, *like])
        outcome.rejects_path = str(rejects)
    write_atomically(path, FORMATS[path.suffix.lower()](outcome, values), like)


def write_page(outcome: Outcome, path: Path, values: bool = False) -> None:
    """Write the outcome as an HTML page. Raises OptionError if the file can't be written."""
    try:
        write_atomically(path, html_report(outcome, values))
    except OSError as error:
        raise OptionError(f"{path} can't be written: {error.strerror}.") from error


def rejects_text(outcome: Outcome) -> str:
    """Return a JSON line per rejected item, the list that ``convert --only`` reads."""
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
