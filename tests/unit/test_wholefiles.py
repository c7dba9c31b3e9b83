"""Files appear whole, with no more permissions than what they replace, and never through links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from migrator.atomic_files import common_mode, create_partial, write_atomically


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_keeps_the_permissions_of_what_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(0o640)
    write_atomically(path, "new ü")
    assert path.read_text(encoding="utf-8") == "new ü"
    assert mode_of(path) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_may_read_it_who_may_not_read_the_files_it_is_made_of(tmp_path: Path) -> None:
    secret, shared = tmp_path / "secret", tmp_path / "shared"
    for path, mode in ((secret, 0o600), (shared, 0o644)):
        path.touch()
        path.chmod(mode)
    assert common_mode([shared, secret, tmp_path / "missing"]) == 0o600
    assert common_mode([]) == 0o666
    write_atomically(tmp_path / "report", "text", [shared, secret])
    assert mode_of(tmp_path / "report") == 0o600


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    link = tmp_path / "report.json"
    link.symlink_to(precious)
    write_atomically(link, "new")
    assert not link.is_symlink()
    assert precious.read_text() == "mine"


def test_what_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_partial_files_have_two_names(tmp_path: Path) -> None:
    first, second = (create_partial(tmp_path / "m.db") for _ in range(2))
    for handle, _ in (first, second):
        os.close(handle)
    assert first[1] != second[1]
    assert all(path.name.startswith(".m.db.partial-") for _, path in (first, second))


def test_half_characters_are_written_as_escapes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "text", "a\ud800")
    assert (tmp_path / "text").read_text() == "a\\ud800"
