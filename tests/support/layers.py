"""The layers of the package. ``test_architecture.py`` checks them, the docs print them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent.parent / "migrator"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("results",),
    ("verification",),
    ("pipeline",),
    ("extractor", "transformer", "loader", "otlp", "report", "tracker", "codemod"),
    ("outcome", "trace_writer"),
    ("databases", "encoding", "object_stores", "workers"),
    ("addresses", "http_client", "model"),
    (
        *("atomic_files", "conventions", "empty_database", "errors", "issues", "packing", "paths"),
        "signals",
    ),
    ("counting", "credentials"),
)
"""Rooms from top to bottom. A room imports rooms of lower layers only."""

IMPORTS_MLFLOW = (
    *("loader", "verification", "tracker"),
    *("trace_writer", "extractor.artifact_proxy"),
)
"""The rooms that import mlflow, and only inside functions where ``scan`` could meet them."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, without the leading ``migrator.``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


def layer_of(module: str) -> int:
    """The place of a module's room in ``LAYERS``, counted from the top."""
    room = module.partition(".")[0]
    return next(place for place, rooms in enumerate(LAYERS) if room in rooms)


def imported_names(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, in functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a file imports; a name in a module counts for its module."""
    found = set()
    for name in imported_names(path):
        if not name.startswith("migrator."):
            continue
        module = name.removeprefix("migrator.")
        while module and module not in known:
            module = module.rpartition(".")[0]
        if module:
            found.add(module)
    return found
