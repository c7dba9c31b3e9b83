"""File names are text and back, whatever their bytes and the locale."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.paths import is_utf8, openable_path, readable_path


@pytest.mark.parametrize("name", ["plain", "größe", "世界 🎉"])
def test_names_in_utf_8_are_shown_as_they_are_and_can_be_opened(name: str, tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name.encode())
    Path(path).write_text("x")
    assert readable_path(path) == f"{tmp_path}/{name}"
    assert is_utf8(path)
    assert Path(openable_path(readable_path(path))).read_text() == "x"


def test_bytes_that_are_not_utf_8_are_shown_as_escapes() -> None:
    path = os.fsdecode(b"caf\xe9")
    assert not is_utf8(path)
    assert readable_path(path) == "caf\\xe9"
