"""What the code may import: the layers, no circles, and mlflow in few rooms only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from migrator import conventions
from tests.support.layers import (
    IMPORTS_MLFLOW,
    LAYERS,
    PACKAGE,
    imported_modules,
    imported_names,
    layer_of,
    modules,
)

MODULES = modules()
ROOMS = {name for layer in LAYERS for name in layer}


def test_every_room_has_a_layer() -> None:
    rooms = {name.partition(".")[0] for name in MODULES} - {"__init__"}
    assert rooms == ROOMS


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_a_room_imports_lower_layers_only(module: str) -> None:
    room = module.partition(".")[0]
    for imported in imported_modules(MODULES[module], MODULES):
        if imported.partition(".")[0] != room:
            assert layer_of(imported) > layer_of(module), f"{module} imports {imported}"


def test_no_modules_import_one_another_in_a_circle() -> None:
    below = {name: imported_modules(path, MODULES) - {name} for name, path in MODULES.items()}
    while leaves := {name for name, names in below.items() if not names & below.keys()}:
        below = {name: names for name, names in below.items() if name not in leaves}
    assert not below, f"a circle, or modules above one: {sorted(below)}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_few_rooms_import_mlflow(module: str) -> None:
    allowed = any(f"{module}.".startswith(f"{room}.") for room in IMPORTS_MLFLOW)
    for name in imported_names(MODULES[module]):
        if name.partition(".")[0] in {"mlflow", "alembic"}:
            assert allowed, f"{module} imports {name}"


WRITERS = [p for name, p in MODULES.items() if name.startswith(("transformer", "tracker"))]


@pytest.mark.parametrize("path", WRITERS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_names_that_old_and_new_traces_share_stand_in_one_module(path: Path) -> None:
    shared = {
        value
        for name, value in vars(conventions).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    assert len(shared) > 30
    constants = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not constants & shared, "take the name from migrator.conventions"


def needed_by(module: str) -> set[str]:
    """All modules that a module imports, directly or not, for types too."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imported_modules(MODULES[waiting.pop()], MODULES) - found:
            found.add(name)
            waiting.append(name)
    return found


def test_the_trackers_spans_and_exporter_meet_in_the_sink_only() -> None:
    spans, exporter = "tracker.spans", "tracker.exporter"
    assert "tracker.sink" in needed_by(spans) & needed_by(exporter)
    assert exporter not in needed_by(spans)
    assert spans not in needed_by(exporter)
