"""Measures the code itself: how long, how complex, how dense, how well explained.

    python -m bench.house                          our package
    python -m bench.house migrator .venv/lib/python3.11/site-packages/{click,httpx,alembic}

Each argument is a package's folder; with several, the table has a column for each. Lists of the
longest functions, the largest modules and so on follow for the first one.

How it counts:

- Lines include blank ones. Those of a function are without its docstring.
- Parameters include keyword-only ones, ``*args`` and ``**kwargs``, not ``self`` and ``cls``.
- Complexity is 1, and 1 more for each ``if``, ``for``, ``while``, ``except``, ``case``, ``assert``,
  ``and``, ``or``, ternary, and for each ``for`` and ``if`` in a comprehension. That of nested
  functions is included.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAX_LINES = 60
MAX_PARAMETERS = 6
MAX_COMPLEXITY = 15
MAX_METHODS = 20
MAX_CLASS_LINES = 400
ODD_DOCSTRINGS = {
    "Return what/which/whether": re.compile(r"Return (what|which|whether)\b"),
    "Tell whether": re.compile(r"Tell whether\b"),
}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case,
    ast.Assert,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method: where it is, and how big."""

    place: str
    lines: int
    parameters: int
    complexity: int


@dataclass(frozen=True, slots=True)
class Class:
    """A class: where it is, and how big."""

    place: str
    lines: int
    methods: int


@dataclass(slots=True)
class Package:
    """Everything that is measured of a package."""

    name: str
    modules: dict[str, int] = field(default_factory=dict)  # path -> lines
    functions: list[Function] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)
    docstring_lines: int = 0
    ternaries: int = 0
    comprehensions: int = 0
    odd_docstrings: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in ODD_DOCSTRINGS}
    )

    @property
    def lines(self) -> int:
        """All lines."""
        return sum(self.modules.values())

    def share(self, is_over: Callable[[Function], bool]) -> str:
        """The percentage of functions for which ``is_over`` holds."""
        over = sum(1 for function in self.functions if is_over(function))
        return f"{100 * over / max(1, len(self.functions)):.1f}"

    def per_lines(self, count: int, lines: int) -> str:
        """A count for each so many lines."""
        return f"{lines * count / max(1, self.lines):.1f}"


def measure(folder: Path) -> Package:
    """Read all modules of a package; tests inside it are left out."""
    package = Package(folder.name)
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if "tests" in path.relative_to(folder).parts:
            continue
        text = path.read_text(encoding="utf-8")
        package.modules[name] = len(text.splitlines())
        add_module(package, name, ast.parse(text))
    return package


def add_module(package: Package, name: str, tree: ast.Module) -> None:
    """Add what a module holds to its package."""
    for node in ast.walk(tree):
        place = f"{name}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', '')}".strip()
        if isinstance(node, ast.IfExp):
            package.ternaries += 1
        elif isinstance(node, COMPREHENSIONS):
            package.comprehensions += 1
        elif isinstance(node, FunctionNode):
            package.functions.append(function_of(place, node))
        elif isinstance(node, ast.ClassDef):
            methods = sum(1 for each in node.body if isinstance(each, FunctionNode))
            package.classes.append(Class(place, lines_of(node), methods))
        if isinstance(node, ast.Module | ast.ClassDef | FunctionNode):
            package.docstring_lines += docstring_lines(node)
            for habit, pattern in ODD_DOCSTRINGS.items():
                if pattern.match(ast.get_docstring(node) or ""):
                    package.odd_docstrings[habit].append(place)


def function_of(place: str, node: FunctionNode) -> Function:
    """Measure a function."""
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    parameters = [each for each in named if each.arg not in ("self", "cls")]
    parameters += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    lines = lines_of(node) - docstring_lines(node)
    complexity = 1 + sum(decisions(each) for each in ast.walk(node))
    return Function(place, lines, len(parameters), complexity)


def decisions(node: ast.AST) -> int:
    """Count the decisions that a node itself makes."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return 1 if isinstance(node, BRANCHES) else 0


def lines_of(node: ast.stmt | ast.expr) -> int:
    """Count the lines of a node."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def docstring_lines(node: ast.AST) -> int:
    """Count the lines of a node's docstring."""
    body = getattr(node, "body", [])
    if not body or not isinstance(body[0], ast.Expr):
        return 0
    value = body[0].value
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return 0
    return lines_of(value)


def rows_of(package: Package) -> dict[str, str]:
    """The table's rows for a package."""
    big_classes = [
        each
        for each in package.classes
        if each.methods > MAX_METHODS or each.lines > MAX_CLASS_LINES
    ]
    return {
        "modules": f"{len(package.modules):,}",
        "lines": f"{package.lines:,}",
        "largest module, lines": f"{max(package.modules.values(), default=0):,}",
        "functions": f"{len(package.functions):,}",
        f"functions over {MAX_LINES} lines, %": package.share(lambda f: f.lines > MAX_LINES),
        f"over {MAX_PARAMETERS} parameters, %": package.share(
            lambda f: f.parameters > MAX_PARAMETERS
        ),
        f"complexity over {MAX_COMPLEXITY}, %": package.share(
            lambda f: f.complexity > MAX_COMPLEXITY
        ),
        "ternaries per 1,000 lines": package.per_lines(package.ternaries, 1000),
        "comprehensions per 1,000 lines": package.per_lines(package.comprehensions, 1000),
        "docstring lines per 100": package.per_lines(package.docstring_lines, 100),
        f"classes over {MAX_METHODS} methods or {MAX_CLASS_LINES} lines": str(len(big_classes)),
        **{
            f'docstrings "{habit} …"': str(len(places))
            for habit, places in package.odd_docstrings.items()
        },
    }


def print_table(packages: Sequence[Package]) -> None:
    """Print the packages side by side, as a Markdown table."""
    columns = [rows_of(package) for package in packages]
    print(f"| | {' | '.join(package.name for package in packages)} |")
    print(f"|---|{'---|' * len(packages)}")
    for title in columns[0]:
        print(f"| {title} | {' | '.join(column[title] for column in columns)} |")


def print_worst(package: Package, count: int) -> None:
    """Print the places to look at first."""
    functions = package.functions
    lists: dict[str, list[tuple[int, str]]] = {
        "largest modules, lines": [(lines, name) for name, lines in package.modules.items()],
        "longest functions, lines": [(each.lines, each.place) for each in functions],
        "most parameters": [(each.parameters, each.place) for each in functions],
        "most complex functions": [(each.complexity, each.place) for each in functions],
        "classes by methods": [(each.methods, each.place) for each in package.classes],
        "classes by lines": [(each.lines, each.place) for each in package.classes],
    }
    for title, numbers in lists.items():
        print(f"\n{title}")
        for number, place in sorted(numbers, reverse=True)[:count]:
            print(f"{number:6,}  {place}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and the worst places of the first package."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("migrator")])
    parser.add_argument("--top", type=int, default=10, help="length of the lists (10)")
    chosen = parser.parse_args(arguments)
    packages = [measure(folder) for folder in chosen.folders]
    print_table(packages)
    print_worst(packages[0], chosen.top)


if __name__ == "__main__":
    main()
