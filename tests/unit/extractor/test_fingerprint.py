"""The state of a folder by sizes and times of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.extractor.filestore import fingerprint
from migrator.extractor.filestore.fingerprint import take_fingerprint

CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "er" / "file").write_text("one", encoding="utf-8")
    return root


def digest(folder: Path) -> str:
    found = take_fingerprint([str(folder)])
    assert found is not None
    return found.digest


def test_it_is_the_same_until_a_file_changes(folder: Path) -> None:
    first = digest(folder)
    assert digest(folder) == first
    file = folder / "deep" / "er" / "file"
    times = file.stat().st_mtime_ns
    file.write_text("two", encoding="utf-8")
    os.utime(file, ns=(times, times))
    second = digest(folder)
    assert second != first
    (folder / "deep" / "empty").mkdir()
    assert digest(folder) not in (first, second)


def test_a_file_that_changed_within_a_tick_of_the_clock_is_not_settled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "CLOCK_NS", CLOCK_NS)
    newest = (folder / "deep" / "er" / "file").stat().st_ctime_ns
    for later_ns, is_settled in ((0, False), (CLOCK_NS, False), (CLOCK_NS + 1, True)):
        monkeypatch.setattr("time.time_ns", lambda ns=newest + later_ns: ns)
        found = take_fingerprint([str(folder)])
        assert found is not None and found.is_settled is is_settled


def test_a_folder_that_can_not_be_listed_has_none(folder: Path) -> None:
    assert take_fingerprint([str(folder / "nowhere")]) is None
    assert take_fingerprint([str(folder), str(folder / "deep" / "er" / "file")]) is None


def test_it_is_the_same_for_every_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        below = tmp_path / "store" / f"run{number}" / "metrics"
        below.mkdir(parents=True)
        (below / "loss").write_text(f"{number} 0.5 0\n", encoding="utf-8")
    alone = take_fingerprint([str(tmp_path / "store")])
    assert alone is not None
    monkeypatch.setattr(fingerprint, "MANY", 10)
    monkeypatch.setattr(fingerprint, "_PIECE", 7)
    assert take_fingerprint([str(tmp_path / "store")], 2) == alone
    (tmp_path / "store" / "run39" / "metrics" / "loss").write_text("1 0.25 0\n", encoding="utf-8")
    changed = take_fingerprint([str(tmp_path / "store")], 2)
    assert changed is not None and changed.digest != alone.digest
    assert take_fingerprint([str(tmp_path / "nowhere"), str(tmp_path / "store")], 2) is None
