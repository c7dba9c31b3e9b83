"""The README as PyPI shows it: no link that needs the repository around it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ADDRESS, TAG = "https://git.example.org/team/tool", "v1.2.3"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / ".github" / "release_readme.py"
    spec = importlib.util.spec_from_file_location("release_readme", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_of_the_readme_is_whole_and_leads_to_a_file_of_the_tag(
    script: ModuleType,
) -> None:
    text = script.with_whole_links((ROOT / "README.md").read_text("utf-8"), ADDRESS, TAG)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 20
    for link in links:
        found = re.fullmatch(rf"{ADDRESS}/(raw|blob)/{TAG}/([^#]+)(#.*)?", link)
        assert found is not None, link
        assert (ROOT / found[2]).is_file(), link
        assert (found[1] == "raw") == (f"![The same trace in MLflow]({link})" in text)
    assert "[[[cog" not in text and "cog.outl" not in text


def test_links_of_other_places_and_code_stay_as_they_are(script: ModuleType) -> None:
    text = "[a](https://example.org) [b](#set-up)\n```text\n[c](d.md)\n```\n[e](f.md#g)\n"
    expected = text.replace("(f.md#g)", f"({ADDRESS}/blob/{TAG}/f.md#g)")
    assert script.with_whole_links(text, ADDRESS, TAG) == expected


def test_the_project_gets_its_addresses(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("README.md", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["release_readme.py", f"{ADDRESS}/", TAG])
    script.main()
    settings = (tmp_path / "pyproject.toml").read_text("utf-8")
    assert f'[project.urls]\nRepository = "{ADDRESS}"\n' in settings
    assert f'Changelog = "{ADDRESS}/blob/{TAG}/docs/CHANGELOG.md"\n' in settings
    assert settings.count("[project.scripts]\n") == 1
