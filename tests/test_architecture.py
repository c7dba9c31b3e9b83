"""The import table: stages never import one another, and only the loader imports mlflow."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from migrator import conventions

ROOT = Path(__file__).parent.parent / "migrator"
GROUND = {
    "model", "conventions", "errors", "issues", "workers", "interrupts", "databases",
    "addresses", "paths", "wholefiles", "credentials", "__init__",
}  # fmt: skip
ALLOWED = {
    "model": {"issues"},
    "conventions": {"model"},
    "errors": {"credentials"},
    "workers": {"errors", "interrupts"},
    "databases": {"errors", "credentials"},
    "addresses": {"errors", "credentials"},
    "interrupts": set(),
    "paths": set(),
    "wholefiles": set(),
    "credentials": set(),
    "issues": set(),
    "__init__": set(),
    "__main__": {"cli"},
    "extractor": GROUND,
    "transformer": GROUND,
    "loader": GROUND,
    "otlp": GROUND,
    "remote": GROUND,
    "server": GROUND,
    "report": GROUND,
    "selection": GROUND,
    "redaction": GROUND,
    "pipeline": GROUND
    | {"selection", "redaction", "extractor", "transformer", "loader", "otlp", "server", "report"}
    | {"remote"},
    "verify": GROUND
    | {"extractor", "transformer", "report", "pipeline", "server", "verify_server"},
    "verify_server": GROUND | {"transformer", "verify"},
    "tracker": GROUND,
    "code": GROUND,
    # Of the transformer the profiles only, of the tracker `push` only.
    "cli": GROUND | {"pipeline", "verify", "report", "transformer", "tracker", "code"},
}
MLFLOW_ALLOWED = {"loader", "server", "verify", "verify_server", "tracker"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
            if node.module == "migrator":
                names += [f"migrator.{alias.name}" for alias in node.names]
    return names


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        if name.startswith("migrator.") and name != "migrator.__version__":
            target = name.split(".")[1]
            assert target == room or target in ALLOWED[room], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_loader_and_verify_import_mlflow(path: Path) -> None:
    for name in imports_of(path):
        if name.split(".")[0] in {"mlflow", "alembic"}:
            assert room_of(path) in MLFLOW_ALLOWED, f"{path} imports {name}"


WRITERS = [path for path in FILES if room_of(path) in ("transformer", "tracker")]


@pytest.mark.parametrize("path", WRITERS, ids=lambda p: str(p.relative_to(ROOT)))
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
