"""How much code the tracker saves: ``python bench/tracking_code.py [before.py after.py]``.

Counts the statements of a script that track: all of it but the workflow itself, which
``docs/examples/article.py`` has untracked. Each statement counts as the lines that Python's own
printer gives it, so that nothing is won by layout; docstrings and comments don't count.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
UNTRACKED = EXAMPLES / "article.py"
BEFORE, AFTER = EXAMPLES / "legacy_workflow.py", EXAMPLES / "workflow.py"


def lines_of(tree: ast.Module) -> int:
    """Count the lines of code: no docstrings, no comments, no blank lines."""
    bare = ast.parse(ast.unparse(tree))
    for node in ast.walk(bare):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [each for each in node.body if not is_text(each)] or [ast.Pass()]
    return sum(bool(line.strip()) for line in ast.unparse(bare).split("\n"))


def is_text(statement: ast.stmt) -> bool:
    """Return True for a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def tracking_lines(path: Path) -> int:
    """Count what a script has beyond the workflow itself."""
    article = ast.parse(UNTRACKED.read_text(encoding="utf-8"))
    (untracked,) = [
        node
        for node in article.body
        if isinstance(node, ast.FunctionDef) and node.name == "write_article"
    ]
    script = ast.parse(path.read_text(encoding="utf-8"))
    return lines_of(script) - lines_of(ast.Module([untracked], []))


def main() -> None:
    """Print the counts, and what is saved."""
    given = [Path(each) for each in sys.argv[1:3]]
    before, after = (
        tracking_lines(path) for path in (given if len(given) == 2 else (BEFORE, AFTER))
    )
    print(f"{before} lines track before, {after} after: {1 - after / before:.0%} fewer")


if __name__ == "__main__":
    main()
