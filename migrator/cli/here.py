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
    parts = [text for text in (_store_text(), _database_text()) if text]
    if not parts:
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


def _database_text() -> str:
    """The commands for MLflow's default database, if it lies here."""
    path = Path(DEFAULT_TARGET.removeprefix("sqlite:///"))
    try:
        with path.open("rb") as file:
            is_database = file.read(len(SQLITE)) == SQLITE
    except OSError:
        return ""
    if not is_database:
        return ""
    return (
        f"{path} is a database. convert adds to it what is new, after a backup. To view it:\n"
        f"    mlflow server --backend-store-uri {DEFAULT_TARGET} --port 5000\n"
        "To see which of its runs would become traces, and to add these traces:\n"
        f"    mlflow-migrate scan {path}\n"
        f"    mlflow-migrate convert {path} --in-place"
    )
