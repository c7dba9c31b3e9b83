"""What every command prints, and how."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from migrator.report.console import Console
from migrator.report.printable import printable, printable_json

if TYPE_CHECKING:
    from migrator.pipeline import Progress


def say(text: str, **how: Any) -> None:
    """Print text. Names come from a store, so control characters are made visible."""
    click.echo(printable(text), **how)


def print_json(value: dict[str, Any]) -> None:
    """Print JSON; in ASCII, with JSON's own escapes, where the stream lacks characters."""
    out = console().out
    is_unicode = out is None or out.is_unicode
    click.echo(printable_json(json.dumps(value, ensure_ascii=not is_unicode, indent=2)))


def console() -> Console:
    console: Console = click.get_current_context().obj
    return console


@contextmanager
def drawn_progress(silent: bool) -> Iterator[Progress]:
    """Yield a function that draws progress on a terminal, and does nothing in a pipe."""
    from migrator.pipeline import no_progress

    if silent or sys.stderr is None or not sys.stderr.isatty():
        yield no_progress
        return
    from tqdm import tqdm

    bar = tqdm(file=sys.stderr, leave=False)

    def draw(stage: str, done: int, total: int) -> None:
        if bar.desc != f"{stage}: ":
            bar.reset()
            bar.set_description(stage, refresh=False)
        bar.total = total or None
        bar.update(done - bar.n)

    with bar:
        yield draw
