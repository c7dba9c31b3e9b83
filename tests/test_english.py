"""Plain English: no docstring, message or page falls back into the habits that slow a reader.

Each habit has a pattern. It is looked for in docstrings, in all other strings of the package, in
its templates and profiles, and in the documentation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COUNTED = (
    "artifacts|bars|columns|experiments|files|issues|items|links|metrics|models|notes|params|places|"
    "points|profiles|rows|runs|spans|steps|tags|things|tokens|traces|trees|values|versions|workflows"
)
BEGINNING = re.compile(r"(Return|Tell|Say) (what|which|whether|if)\b")  # of a docstring
HABITS = {
    "write: is not a": re.compile(
        r"(?<!\bthere )\b(is|are|was|were) no (?!longer\b|more\b|less\b)", re.IGNORECASE
    ),
    "write: fix": re.compile(r"\bmend(s|ed|ing)?\b", re.IGNORECASE),
    "write: an earlier one": re.compile(r"\bof before\b"),
    "archaic": re.compile(r"\b(hither|thither|whence|whosesoever)\b", re.IGNORECASE),
    "one is singular": re.compile(rf"(?<![\d.,:/-])1 ({COUNTED})\b"),
    "write singular or plural": re.compile(r"[a-z]\(s\)(?!\w)"),
}  # fmt: skip


def texts(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield each text of a file with its line, and whether it is a docstring."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for number, paragraph in paragraphs(source):
            yield number, paragraph, False
        return
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                docstrings.add(id(node.body[0].value))  # type: ignore[attr-defined]
                yield getattr(node, "lineno", 1), docstring, True
    for line, text in strings(tree, docstrings):
        yield line, text, False


def strings(tree: ast.AST, left_out: set[int]) -> Iterator[tuple[int, str]]:
    """Yield the strings of a module with their lines, but not nodes of these identities."""
    seen = set(left_out)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            seen.update(map(id, node.values))
            yield node.lineno, "".join(map(part_of, node.values))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in seen
        ):
            yield node.lineno, node.value


def part_of(node: ast.expr) -> str:
    """Read a part of an f-string; a value is shown as ``…``."""
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def paragraphs(source: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a page with their first lines."""
    number = 1
    for paragraph in source.split("\n\n"):
        yield number, paragraph
        number += paragraph.count("\n") + 2


def findings(path: Path) -> list[str]:
    """List the habits found in a file, each with its line and text."""
    found = []
    for line, text, is_docstring in texts(path):
        joined = " ".join(text.split())
        for advice, pattern in HABITS.items():
            found += [f"{line}: {advice}: {m[0]!r}" for m in pattern.finditer(joined)]
        if is_docstring and BEGINNING.match(joined):
            found.append(f"{line}: name the result (Return True if …): {joined[:60]!r}")
    return found


def files() -> list[Path]:
    """List the files to read, sorted."""
    found = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    for ending in ("py", "toml", "html"):
        found += ROOT.glob(f"migrator/**/*.{ending}")
    return sorted(found)


FILES = files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_in_plain_english(path: Path) -> None:
    found = findings(path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        '"""Return what it is."""',
        'def f():\n    """Tell whether it is."""',
        'class C:\n    """Say what it is."""',
        'def f():\n    """Tell if it is."""',
        '"from whence it came"',
        'f"{x} is no date"',
        '"These are no dates."',
        '"Mend the lines."',
        '"an experiment of before"',
        '"1 trees stay"',
        'f"{n} run(s)"',
    ],
)
def test_each_habit_is_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert len(findings(path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '"""Return True if it is."""',
        'x = "Return what it is."',  # is not a docstring
        '"There is no file. It is no longer there."',
        '"amendment, before, 11 runs, 2.1 runs, 1 run, 1 ms"',
        '"main(sys.argv)"',
        "mend = 1  # mend",
    ],
)
def test_plain_words_are_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text)
    assert findings(path) == []
