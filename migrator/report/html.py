"""The outcome as one HTML page: no scripts, nothing loaded, everything escaped.

It is read on a screen (light and dark), on a phone, and on paper. ``page.html`` is its template,
``report.css`` is written into it, and its numbers are those of the JSON report.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from migrator.outcome.summary import Outcome
from migrator.paths import readable_path
from migrator.report.charts import short_number
from migrator.report.page import page_of
from migrator.report.printable import printable


def html_report(outcome: Outcome, values: bool = False) -> str:
    """Render the page; with ``values``, issues show what the source says."""
    return _template().render(page=page_of(outcome, values), outcome=outcome)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("migrator.report", ""),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "thousands": _thousands,
        "counted": _counted,
        "readable_path": readable_path,
        "short_number": short_number,
    }
    return environment.get_template("page.html")


def _printable(value: Any) -> Any:
    """Make control characters of a source's text visible; markup of the template stays."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _thousands(number: int) -> str:
    return f"{number:,}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
