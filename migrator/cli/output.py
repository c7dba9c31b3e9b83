"""What every command prints, and how."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click

from migrator.report.colors import painted, painted_page
from migrator.report.console import Console, nothing
from migrator.report.formats import wrapped
from migrator.report.json_schema import versioned
from migrator.report.printable import printable, printable_json

if TYPE_CHECKING:
    from migrator.pipeline import Progress


LEAST_WIDTH = 40


def say(text: str) -> None:
    """Print a message on stderr, its lines broken between words where that is a terminal.

    Names come from a store, so control characters are made visible.
    """
    text = fitted(text)
    is_colored = has_color(sys.stderr)
    _echo(painted(text) if is_colored else text, sys.stderr, color=is_colored)


def fitted(text: str) -> str:
    """A message in lines that fit the terminal on stderr, if there is one."""
    has_terminal = sys.stderr is not None and sys.stderr.isatty()
    return wrapped(printable(text), _columns() if has_terminal else None)


def say_result(text: str) -> None:
    """Print the result of a command, in lines that fit, and in colour where the terminal has it."""
    text = wrapped(printable(text), width())
    is_colored = has_color(sys.stdout)
    _echo(painted_page(text) if is_colored else text, sys.stdout, color=is_colored)


def print_exactly(text: str, *, nl: bool = True) -> None:
    """Print TOML, CSV, or a drawing: no line is broken, only control characters are replaced."""
    _echo(printable(text), sys.stdout, nl=nl)


def _echo(text: str, stream: TextIO | None, *, nl: bool = True, color: bool = False) -> None:
    """Print to a stream of this process, if it has one; a progress line is removed first."""
    console().remove_progress()
    if stream is not None:
        click.echo(text, file=stream, nl=nl, color=color)


def has_color(stream: TextIO | None) -> bool:
    """True if ``--color`` asks for colour, or by default on a terminal without NO_COLOR."""
    choice = console().color
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


def has_one_screen() -> bool:
    """True if messages and the result go to a terminal, where they stand below one another."""
    streams = (sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def width() -> int | None:
    """Characters in a line: COLUMNS, or the terminal's; None in a pipe or a file."""
    out = console().out
    has_terminal = out is not None and out.isatty()
    if not has_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return _columns()


def _columns() -> int:
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns)


def print_json(value: dict[str, Any]) -> None:
    """Print JSON; in ASCII, with JSON's own escapes, where the stream lacks characters."""
    out = console().out
    is_unicode = out is None or out.is_unicode
    _echo(
        printable_json(json.dumps(versioned(value), ensure_ascii=not is_unicode, indent=2)),
        sys.stdout,
    )


def console() -> Console:
    """The streams of this command; those of no command where none runs."""
    context = click.get_current_context(silent=True)
    found = None if context is None else context.find_object(Console)
    return Console(None, None) if found is None else found


@contextmanager
def drawn_progress(silent: bool, verbose: bool = False) -> Iterator[Progress]:
    """Yield a function that shows progress: a line on a terminal; with ``-v`` lines in a pipe."""
    from migrator.pipeline import no_progress

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if silent or sys.stderr is None or not (is_terminal or verbose):
        yield no_progress
        return
    from migrator.cli.progress import ProgressLine  # tqdm loads 36 modules

    line = ProgressLine(sys.stderr, redraws=is_terminal)
    console().remove_progress = line.clear
    try:
        yield line
    finally:
        console().remove_progress = nothing
        line.clear()
