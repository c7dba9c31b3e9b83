"""The issue codes: each says what it means and what to do, and something raises it."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

from migrator import issues
from migrator.issues import Code, Issue, Kind, Severity

PACKAGE = Path(issues.__file__).parent


def raised_in(path: Path) -> set[str]:
    """Return the names of the codes that a module uses other than to compare with them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    compared = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Compare, ast.Set))
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in compared:
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "Code":
            names.add(node.attr)
    return names


def test_something_raises_each_code() -> None:
    raised: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        if path != Path(issues.__file__):
            raised |= raised_in(path)
    assert sorted(set(Code.__members__) - raised) == []


def test_a_code_that_is_only_compared_is_not_raised(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("odd = issue.code is Code.A\nset = {Code.B}\nIssue(Code.C, '')\n")
    assert raised_in(module) == {"C"}


def test_each_code_says_what_it_means_and_what_to_do() -> None:
    for code in Code:
        assert isinstance(code.severity, Severity), code
        assert code.meaning.endswith("."), code
        assert code.action.endswith("."), code
        assert code.value == code.value.lower().replace("_", "-"), code
    assert len(Code.__members__) == len(Code), "two codes have one name for users"


def test_a_code_is_its_name_for_users() -> None:
    assert Code.FILE_IGNORED.value == "file-ignored"
    assert str.__str__(Code.FILE_IGNORED) == "file-ignored"
    assert Code.FILE_IGNORED.severity is Severity.NOTE


def test_an_issue_survives_the_way_from_another_process() -> None:
    issue = Issue(Code.LOAD_REFUSED, "/store/x", "taken", kind=Kind.PARAM, count=2)
    again = pickle.loads(pickle.dumps(issue))
    assert again == issue
    assert again.code is Code.LOAD_REFUSED
    assert again.kind is Kind.PARAM
    assert again.severity is Severity.REJECTED
