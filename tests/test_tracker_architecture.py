"""The tracker's modules: no import circle, and spans and exporter meet in the sink only."""

from __future__ import annotations

import ast
from pathlib import Path

import migrator.tracker

ROOT = Path(migrator.tracker.__file__).parent
PACKAGE = "migrator.tracker"


def imports_of(path: Path) -> set[str]:
    """The tracker's modules that a module imports, also for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            found.add(str(node.module).split(".")[2])
    return found


GRAPH = {path.stem: imports_of(path) for path in ROOT.glob("*.py") if path.stem != "__init__"}


def reachable(module: str) -> set[str]:
    """All modules that a module needs, directly or not."""
    found: set[str] = set()
    waiting = list(GRAPH[module])
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += GRAPH.get(each, set())
    return found


def test_no_module_needs_itself() -> None:
    assert len(GRAPH) > 15
    assert [module for module in GRAPH if module in reachable(module)] == []


def test_spans_and_exporter_do_not_know_one_another() -> None:
    assert "exporter" not in reachable("spans")
    assert "spans" not in reachable("exporter")
