"""The laws under random damage: nothing raises, nothing hangs, nothing is lost without a word."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.extractor.filestore.index import index_store
from tests.support.ledgerkit import assert_census, assert_closed, read_all
from tests.support.storekit import (
    START_MS,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

RUN, RUN2 = "a" * 32, "b" * 32


def build(root: Path) -> None:
    """Write a store with one of everything."""
    write_experiment(root, "1", "one", tags={"t": "1"})
    points = [(START_MS + n, n / 2, n) for n in range(3)]
    write_run(
        root,
        "1",
        RUN,
        params={"lr": "0.1", "a/b": "c"},
        metrics={"m": points, "s/n": points},
        artifacts={"prompt.txt": "hi", "d/out.json": "{}"},
    )
    write_run(root, "1", RUN2, parent=RUN, layout="1.26")
    write_dataset(root, "1", "train", "d", runs=[RUN])
    write_logged_model(
        root,
        "1",
        "m-" + "c" * 32,
        source_run_id=RUN,
        params={"p": "1"},
        metrics={"m": [(START_MS, 1.0, 0, RUN)]},
        output_step=1,
    )
    write_registered_model(root, "model", aliases={"best": 1}, tags={"t": "1"})
    write_trace(
        root,
        "1",
        "tr-" + "d" * 32,
        spans=[{"name": "s", "span_id": "1" * 16, "start_time_ns": START_MS * 10**6}],
        assessments={"a-1": {"assessment_name": "x", "feedback": {"value": 1}}},
    )
    write_experiment(root, "2", "gone", deleted=True)
    write_run(root, "2", "e" * 32, deleted=True)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine") / "mlruns"
    build(root)
    return root


def hold(root: Path) -> None:
    """Index and read a store, and assert both sums."""
    index = index_store(str(root))
    results = list(read_all(index))
    for result in results:
        assert_closed(result)
    assert_census(index, results)
    for issue in index.issues:
        assert issue.message


SNIPPETS = [
    b"\x00",
    b"\xff\xfe",
    b"\n",
    b"\r",
    b": ",
    b"&a *a",
    b"- ",
    b"\t",
    b"'",
    b"{" * 70,
    b"9" * 5000,
    b"<<<<<<< HEAD\n",
    b"nan inf True",
    b'"\\ud800"',
    b"!!set {a, b}",
    b"0x" + b"f" * 6000,
    b"2023-01-01",
]


def damage(root: Path, rng: random.Random) -> None:
    """Damage one file or directory of a store in one of the ways that happen."""
    paths = sorted(root.rglob("*"))
    path = rng.choice(paths)
    kind = rng.randrange(8)
    if path.is_symlink() or not path.exists():
        return
    if path.is_dir():
        if kind < 2:
            shutil.rmtree(path)
        elif kind < 4:
            shutil.rmtree(path)
            path.write_bytes(b"a file")
        elif kind < 6:
            path.rename(path.with_name(path.name + rng.choice([" (1)", "~", ".x", "\udcff"])))
        elif kind == 6:
            os.mkfifo(path / f"pipe{rng.random()}")
        else:
            (path / f"link{rng.random()}").symlink_to(
                rng.choice([root, Path("/etc"), path, path / "nowhere"])
            )
        return
    if not path.is_file():  # a pipe from an earlier damage: reading it here would block
        return
    data = path.read_bytes()
    at = rng.randrange(len(data) + 1)
    if kind == 0:
        path.write_bytes(data[:at])
    elif kind == 1:
        path.unlink()
    elif kind == 2:
        path.unlink()
        path.mkdir()
        (path / "inside").write_bytes(data)
    elif kind == 3:
        path.write_bytes(data[:at] + rng.randbytes(rng.randrange(1, 30)) + data[at:])
    elif kind == 4:
        path.write_bytes(data + data)
    elif kind == 5:
        path.write_bytes(b"\x00" * len(data))
    else:
        path.write_bytes(data[:at] + rng.choice(SNIPPETS) + data[at:])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), times=st.integers(1, 12))
def test_both_sums_hold_under_random_damage(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, times: int
) -> None:
    root = tmp_path_factory.mktemp("damaged") / "mlruns"
    shutil.copytree(pristine, root)
    rng = random.Random(seed)
    for _ in range(times):
        damage(root, rng)
    if root.is_dir():
        hold(root)
    shutil.rmtree(root.parent)


def test_each_file_emptied_or_turned_binary_costs_only_itself(
    pristine: Path, tmp_path: Path
) -> None:
    whole = sum(1 for r in read_all(index_store(str(pristine))) if r.record is not None)
    root = tmp_path / "mlruns"
    shutil.copytree(pristine, root)
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for bad in (b"", b"\x00\xff\xfe" * 20):
            file.write_bytes(bad)
            hold(root)
            results = list(read_all(index_store(str(root))))
            lost = whole - sum(1 for result in results if result.record is not None)
            only = "datasets" in file.parts or file.parent.name == "e" * 32
            assert lost <= only, file
        file.write_bytes(data)


def test_reading_changes_nothing(pristine: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        stats = [(str(path), path.stat()) for path in sorted(pristine.rglob("*"))]
        return [(path, stat.st_mtime_ns, stat.st_size) for path, stat in stats]

    before = state()
    hold(pristine)
    assert state() == before


def test_the_order_of_directories_does_not_matter(
    pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_index = index_store(str(pristine))
    first = list(read_all(first_index))
    real = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *args: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert index_store(str(pristine)) == first_index
    assert list(read_all(index_store(str(pristine)))) == first
