"""The documentation: what it shows works, what it links to is there, and nothing is left out."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import mlflow
import pytest

from migrator import conventions
from migrator.cli import main
from migrator.issues import Code
from migrator.loader.rows import COLUMNS
from migrator.tracker import TrackerConfig
from tests.support import docskit, fixturekit
from tests.support.docskit import DOCS, ROOT

PAGES = docskit.pages()
# The set-up lines are typed by .ci/run; the benchmark would take an hour.
# Pages that show how something was measured, and the script that did.
MEASURED = {
    DOCS / "performance.md": "run",
    DOCS / "explanation" / "scale.md": "scale",
}
OTHERWISE = (ROOT / "README.md", *MEASURED)
TYPED = [page for page in PAGES if docskit.blocks(page) and page not in OTHERWISE]
README_LINES = 165
# CI runs the one with pytest in it in a clean clone, and this whole suite from it.
SET_UP = re.compile(
    r"\$ python3 -m venv \.venv && \.venv/bin/pip install --quiet 'mlflow==3\.9\.\*'"
)


@pytest.mark.long
@pytest.mark.skipif(
    not mlflow.__version__.startswith("3.9."), reason="the pages show what MLflow 3.9 does"
)
@pytest.mark.parametrize("page", TYPED, ids=docskit.name_of)
def test_every_block_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    with docskit.session(page, tmp_path) as session:
        for block in docskit.blocks(page):
            if block.language != "text":  # a picture
                session.do(block)


def test_a_block_of_plain_text_is_a_picture_or_a_file_and_no_command() -> None:
    for page in PAGES:
        for block in docskit.blocks(page) if page not in OTHERWISE else ():
            assert block.language, f"{docskit.name_of(page)}: {block.line}: of which language?"
            if block.language == "text" and block.file is None:
                typed = re.search(r"^(\$ |mlflow|python|pip )", block.text, re.M)
                assert typed is None, f"{docskit.name_of(page)}: {block.line}"


@pytest.mark.parametrize(("page", "script"), MEASURED.items(), ids=MEASURED.values())
def test_the_options_of_a_benchmark_are_there(page: Path, script: str) -> None:
    source = (ROOT / "bench" / f"{script}.py").read_text(encoding="utf-8")
    shown = [block.text for block in docskit.blocks(page)]
    assert any(f"python -m bench.{script}" in text for text in shown)
    named = re.findall(r"--[a-z]+(?:-[a-z]+)*", "".join(shown))
    named += re.findall(r"`(--[a-z-]+)`", page.read_text(encoding="utf-8"))
    for option in set(named) - {option for _, option in options()}:
        assert f'"{option}"' in source, option


def test_the_readme_is_short_and_its_own_blocks_are_the_set_up_lines() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    written = docskit.blocks(ROOT / "README.md")
    assert {block.language for block in written} == {"console"}
    lines = [command for block in written for command, _ in docskit.commands(block)]
    assert len(lines) == 2
    assert all(SET_UP.match(f"$ {line}") for line in lines)
    assert "pytest" in lines[1]
    tried = re.search(r"mlflow-migrate convert (\S+)$", lines[0])
    assert tried is not None and (ROOT / tried[1] / "0" / "meta.yaml").is_file()


# ---------------------------------------------------------------------------------- the tester


def test_a_page_that_shows_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    right = "```console\n$ echo one two\none …\n```\n"
    for text, good in (
        (right, True),
        (right.replace("one …", "two …"), False),
        (right.replace("echo one two", "false"), False),
        ("```console\n$ false\n$ echo $?\n1\n```\n", True),
        ("```console\n$ false\n$ echo $?\n2\n```\n", False),
        ("<!-- file: a.txt -->\n```text\nhello\n```\n```console\n$ cat a.txt\nhello\n```\n", True),
        ("<!-- first: x = 2 -->\n```python\nassert x == 2\n```\n", True),
        ("```python\nassert 1 == 2\n```\n", False),
    ):
        page.write_text(text, encoding="utf-8")
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with docskit.session(page, folder) as session:
            try:
                for block in docskit.blocks(page):
                    session.do(block)
                passed = True
            except AssertionError:
                passed = False
        assert passed is good, text


def test_dots_stand_for_any_text() -> None:
    for shown, printed, same in (
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nd", True),
        ("a\n…", "a", True),
        ("a\n…\nd", "a\nb", False),
        ("in 3.1 s.", "in 12.75 s.", True),
        ("3 of 4", "5 of 4", False),
        ("(…) [x]", "(y) [x]", True),
    ):
        assert docskit.matches(shown, printed) is same, (shown, printed)


# -------------------------------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Markdown viewers make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.M):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).strip()
        found.add(re.sub(r" ", "-", words))
    return found


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=docskit.name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if page.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link}: the built pages hold docs/ only"
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        local = [link.partition("#")[0] for link in links(page) if "://" not in link]
        waiting += [(page.parent / path).resolve() for path in local if path]
    assert {docskit.name_of(page) for page in PAGES} <= {
        docskit.name_of(page) for page in reached if page.is_relative_to(ROOT)
    }


# --------------------------------------------------------------------- nothing is left out


def options() -> Iterator[tuple[str, str]]:
    """Yield every command with each of its options."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            for option in [*parameter.opts, *parameter.secondary_opts]:
                if option.startswith("-"):
                    yield name, option
        if isinstance(command, click.Group):
            for below, inner in command.commands.items():
                yield from walk(f"{name} {below}", inner)

    yield from walk("mlflow-migrate", main)


def test_every_option_is_in_the_reference_with_its_command() -> None:
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    for command, option in options():
        assert re.search(rf"(?<!\S){re.escape(option)}\b", sections[command]), (command, option)


def test_every_issue_code_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "issue-codes.md").read_text(encoding="utf-8")
    missing = [code.value for code in Code if f"| `{code.value}` |" not in text]
    assert missing == []


def test_every_setting_of_the_tracker_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    missing = [each.name for each in fields(TrackerConfig) if f"| `{each.name}` |" not in text]
    assert missing == []


def test_every_column_that_is_written_is_in_the_mapping() -> None:
    text = (DOCS / "reference" / "mapping.md").read_text(encoding="utf-8")
    rows: dict[str, str] = {}
    for line in text.partition("## Field by field")[2].splitlines():
        cells = line.split(" | ")
        if line.startswith("| `"):
            tables = re.findall(r"`([a-z_]+)`", cells[0])
        elif not line.startswith("| |"):
            continue
        for table in tables:
            rows[table] = rows.get(table, "") + cells[1]
    assert set(rows) == set(COLUMNS)
    for table, columns in COLUMNS.items():
        assert [name for name in columns if f"`{name}`" not in rows[table]] == [], table


def test_every_fixture_is_described() -> None:
    text = (ROOT / "fixtures" / "README.md").read_text(encoding="utf-8")
    assert [name for name in fixturekit.names() if f"| `{name}` |" not in text] == []


def test_what_pages_say_in_code_about_options_exists() -> None:
    known = {option for _, option in options()}
    other = {
        "--backend-store-uri", "--default-artifact-root", "--artifacts-destination", "--port",
        "--serve-artifacts", "--enable-workspaces",
        "--host", "--strict", "--check",
    }  # fmt: skip
    for page in PAGES:
        if page in MEASURED:
            continue  # its options are those of a benchmark
        text = page.read_text(encoding="utf-8")
        spans = re.findall(r"`([^`\n]+)`", text)
        for span in spans:
            if not span.startswith(("--", "mlflow-migrate ")):
                continue
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", span):
                assert option in known | other, f"{docskit.name_of(page)}: {span}"


def test_no_page_names_a_place_of_the_machine_it_was_written_on() -> None:
    here = (docskit.ROOT, Path.home(), Path(tempfile.gettempdir()))
    for page in PAGES:
        for place in here:
            assert f"{place}/" not in page.read_text(encoding="utf-8"), docskit.name_of(page)


# --------------------------------------------------------------------------- facts about MLflow


def defined(name: str) -> bool:
    """Tell whether MLflow's sources define a dotted name; nothing is imported."""
    parts = name.split(".")
    place = Path(mlflow.__file__).parent
    while len(parts) > 1 and ((place / parts[1]).is_dir() or (place / f"{parts[1]}.py").is_file()):
        parts = parts[1:]
        place = place / parts[0] if (place / parts[0]).is_dir() else place / f"{parts[0]}.py"
    source = place / "__init__.py" if place.is_dir() else place
    text = source.read_text(encoding="utf-8")
    return all(
        re.search(
            rf"^\s*(def|class|async def) {part}\b|^\s*{part}\b[,:= ]|import .*\b{part}\b",
            text,
            re.M,
        )
        for part in parts[1:]
    )


@pytest.mark.skipif(not mlflow.__version__.startswith("3.9."), reason="the page is about 3.9")
def test_every_name_on_the_page_about_mlflow_is_in_its_sources() -> None:
    text = (DOCS / "mlflow-3.9.md").read_text(encoding="utf-8")
    text += (DOCS / "reference" / "mapping.md").read_text(encoding="utf-8")
    names = {name for name in re.findall(r"`(mlflow\.[a-z_0-9.]*\w+)`", text)}
    names -= {value for value in vars(conventions).values() if isinstance(value, str)}
    names.discard("mlflow.user")  # a tag
    assert len(names) > 50
    assert sorted(name for name in names if not defined(name)) == []
    assert not defined("mlflow.tracing.fluent.no_such_name") and not defined("mlflow.nowhere.x")
