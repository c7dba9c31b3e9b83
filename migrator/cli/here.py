"""``mlflow-migrate`` alone: what lies in this directory, and the commands for it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET
from migrator.cli.output import drawn_progress, say_result
from migrator.cli.sources import target_words
from migrator.databases import new_targets
from migrator.errors import SourceError, TargetError

DATABASE = Path(DEFAULT_TARGET.removeprefix("sqlite:///"))
SQLITE = b"SQLite format 3\x00"  # how every such file begins


def show_here() -> bool:
    """Print a screen about this directory. False if there is no terminal, or nothing to show."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    store = _store_text()
    parts = [text for text in (store, _database_text(has_store=bool(store))) if text]
    if not parts:
        say_result(f"There is no {DEFAULT_SOURCE} and no {DATABASE} in this directory.\n")
        return False
    parts.append("mlflow-migrate --help lists all commands.")
    say_result("\n\n".join(parts))
    return True


def _store_text() -> str:
    """What the file store here holds, and what to do with it; "" without one."""
    if not Path(DEFAULT_SOURCE).is_dir() and not Path("0", "meta.yaml").is_file():
        return ""
    source = DEFAULT_SOURCE if Path(DEFAULT_SOURCE).is_dir() else "."
    from migrator import pipeline
    from migrator.report.headline import has_damage, scan_headline
    from migrator.report.scan import plan_text

    try:
        with drawn_progress(silent=False) as progress:
            outcome = pipeline.scan(source, progress=progress)
    except SourceError as error:
        # a database has such a directory beside it, for its artifacts
        return "" if _has_database() else str(error)
    given = [] if source == DEFAULT_SOURCE else [source]
    command = shlex.join(["mlflow-migrate", "convert", *given, *target_words(given)])
    parts = [scan_headline(outcome), plan_text(outcome, command)]
    if has_damage(outcome.ledger):
        scan = shlex.join(["mlflow-migrate", "scan", *given])
        parts.insert(1, f"To see what and why:\n    {scan}")
    return "\n\n".join(parts)


def _has_database() -> bool:
    """True if MLflow's default database lies here."""
    try:
        with DATABASE.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def _database_text(*, has_store: bool) -> str:
    """The commands for MLflow's default database, if it lies here."""
    if not _has_database():
        return ""
    from migrator import loader

    problem = ""
    try:
        loader.open_target(DEFAULT_TARGET)
    except TargetError as error:
        problem = str(error)
    view = f"To view it:\n    mlflow server --backend-store-uri {DEFAULT_TARGET} --port 5000"
    if has_store and problem:
        return f"{DATABASE} is there too, and can't be written to: {problem}"
    if has_store:
        return f"{DATABASE} is there too: convert adds to it what is new, after a backup. {view}"
    if problem:
        in_place, view = problem, ""
    else:
        in_place = f"mlflow-migrate convert {DATABASE} --in-place"
    text = (
        f"{DATABASE} is a database. To see which of its runs would become traces:\n"
        f"    mlflow-migrate scan {DATABASE}\n"
        "To write its history and these traces into a new database:\n"
        f"    mlflow-migrate convert {DATABASE} --to {next(new_targets([DATABASE.name]))}\n"
        "To add the traces to the database itself, after a backup:\n"
        f"    {in_place}\n"
    )
    return f"{text}{view}".rstrip()
