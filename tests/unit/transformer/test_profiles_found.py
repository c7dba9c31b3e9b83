"""Every TOML file in the folder of built-in profiles is one: no list has to name it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from migrator.transformer import profiles

NEW = """\
name = "found-by-itself"
order = 1
description = "Runs of my tracker."

[[recognise]]
root_has = ["param:my_tracker_version"]
"""


def forget_profiles() -> None:
    profiles._built_in_texts.cache_clear()
    profiles._built_in.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the built-in profiles, which the package takes for its own."""
    package = Path(str(resources.files(profiles.__package__)))
    shutil.copytree(package / "profiles", tmp_path / "profiles")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    forget_profiles()
    yield tmp_path / "profiles"
    forget_profiles()


def test_a_new_file_is_a_profile_and_stands_where_its_order_says(folder: Path) -> None:
    before = profiles.built_in_names()
    forget_profiles()
    (folder / "found-by-itself.toml").write_text(NEW, encoding="utf-8")
    assert profiles.built_in_names() == ("found-by-itself", *before)
    assert profiles.load_profiles()[0].name == "found-by-itself"
    assert profiles.built_in_text("found-by-itself") == NEW


def test_each_file_is_found_and_no_two_have_one_name(folder: Path) -> None:
    assert len(profiles.built_in_names()) == len(list(folder.glob("*.toml")))
