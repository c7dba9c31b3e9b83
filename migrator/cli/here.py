"""``mlflow-migrate`` alone: what lies in this directory, and the commands for it."""

from __future__ import annotations

import sys
from pathlib import Path

from migrator import DEFAULT_SOURCE, DEFAULT_TARGET
from migrator.cli.output import drawn_progress, say_result, width
from migrator.errors import SourceError

SQLITE = b"SQLite format 3\x00"  # how every such file begins


def show_here() -> bool:
    """Print a screen about this directory. False if there is no terminal, or nothing to show."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    store = _store_text()
    parts = [text for text in (store, _database_text(has_store=bool(store))) if text]
    if not parts:
        say_result(
            f"There is no {DEFAULT_SOURCE} and no {_default_database()} in this directory.\n"
        )
        return False
    from migrator.report.formats import wrapped

    parts.append("mlflow-migrate --help lists all commands.")
    say_result(wrapped("\n\n".join(parts), width()))
    return True


def _store_text() -> str:
    """What the file store here holds, and what to do with it; "" without one."""
    if not Path(DEFAULT_SOURCE).is_dir() and not Path("0", "meta.yaml").is_file():
        return ""
    source = DEFAULT_SOURCE if Path(DEFAULT_SOURCE).is_dir() else "."
    from migrator import pipeline
    from migrator.report.headline import scan_headline
    from migrator.report.scan import plan_text

    try:
        with drawn_progress(silent=False) as progress:
            outcome = pipeline.scan(source, progress=progress)
    except SourceError as error:
        return str(error)
    command = "mlflow-migrate convert" + ("" if source == DEFAULT_SOURCE else f" {source}")
    return f"{scan_headline(outcome)}\n\n{plan_text(outcome, command)}"


def _default_database() -> Path:
    return Path(DEFAULT_TARGET.removeprefix("sqlite:///"))


def _database_text(*, has_store: bool) -> str:
    """The commands for MLflow's default database, if it lies here."""
    path = _default_database()
    try:
        with path.open("rb") as file:
            is_database = file.read(len(SQLITE)) == SQLITE
    except OSError:
        return ""
    if not is_database:
        return ""
    view = f"    mlflow server --backend-store-uri {DEFAULT_TARGET} --port 5000"
    if has_store:
        return (
            f"{path} is there too: convert adds to it what is new, after a backup. To view it:\n"
            f"{view}"
        )
    return (
        f"{path} is a database. To see which of its runs would become traces:\n"
        f"    mlflow-migrate scan {path}\n"
        "To write its history and these traces into a new database:\n"
        f"    mlflow-migrate convert {path} --to sqlite:///migrated.db\n"
        "To add the traces to the database itself, after a backup:\n"
        f"    mlflow-migrate convert {path} --in-place\n"
        "To view it:\n"
        f"{view}"
    )
