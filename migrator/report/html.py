"""The outcome as one HTML page, without scripts or files to load; every text is escaped.

The page suits screens (light and dark), phones and paper. ``page.html`` is its template and
``report.css`` its style. The JSON report has the same numbers.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from migrator.counting import counted
from migrator.outcome.summary import Outcome
from migrator.paths import readable_path
from migrator.report.charts import short_number
from migrator.report.page import page_of
from migrator.report.printable import printable

OPTION = re.compile(r"--[a-z][a-z-]*")


def html_report(outcome: Outcome, values: bool = False) -> str:
    """Render the page. With ``values``, issues show the values that the source has."""
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
        "counted": counted,
        "readable_path": readable_path,
        "short_number": short_number,
        "whole_options": _whole_options,
    }
    return environment.get_template("page.html")


def _printable(value: Any) -> Any:
    """Make control characters in a text visible. Markup of the template is left alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value


def _whole_options(text: str) -> Markup:
    """A text in which no line ends within an option such as ``--include``."""
    return Markup(OPTION.sub(r'<span class="word">\g<0></span>', str(escape(printable(text)))))


def _thousands(number: int) -> str:
    return f"{number:,}"
