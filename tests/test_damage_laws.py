"""The laws over whole stores that are made and damaged at random, and over mutated bytes.

``MIGRATOR_FUZZ`` sets the number of mutated files (10,000 and more by hand, a few in CI).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator import pipeline
from migrator.errors import SourceError
from migrator.issues import CATALOG, Code
from migrator.report.summary import Outcome
from tests.damagekit import DAMAGES, Spot, build
from tests.loader_samples import fast_schema, tables
from tests.storekit import START_MS, write_experiment, write_run
from tests.test_damage import tree_hash
from tests.test_extractor_damage import damage as damage_at_random

FUZZ = int(os.environ.get("MIGRATOR_FUZZ", "150"))


@pytest.fixture(autouse=True, scope="module")
def fast() -> Iterator[None]:
    with fast_schema():
        yield


def convert(root: Path, target: Path) -> Outcome:
    report = str(target.with_suffix(".json"))
    uri = f"sqlite:///{target}"
    return pipeline.convert([str(root)], uri, pipeline.Options(), schema="3.9", report=report)


def random_store(root: Path, rng: random.Random) -> None:
    """Write a random forest of runs over some experiments, beside a spot with one of everything."""
    build(Spot(root, 1))
    exps = [str(n) for n in range(1, rng.randrange(2, 4))]
    for exp in exps:
        write_experiment(root, exp, f"exp {exp}", deleted=rng.random() < 0.2)
    ids: list[str] = []
    for _ in range(rng.randrange(1, 12)):
        run_id = f"{rng.getrandbits(128):032x}"
        start = START_MS + rng.randrange(-5000, 5000)
        parents = [None, *ids, run_id, "f" * 32]
        write_run(
            root,
            rng.choice(exps),
            run_id,
            name=rng.choice(["step", "agent", "trial 1", "ünïcode", ""]),
            parent=rng.choice(parents),
            start_ms=start,
            end_ms=rng.choice([None, start - 5, start + rng.randrange(9000)]),
            status=rng.choice([1, 3, 3, 4, 5]),
            deleted=rng.random() < 0.1,
            params={k: str(rng.random()) for k in rng.sample(["lr", "model", "prompt", "a/b"], 2)},
            metrics={
                "m": [(start + rng.randrange(9), rng.choice([1, 0.5, "nan"]), n % 3)
                      for n in range(rng.randrange(6))]
            },
            artifacts=rng.choice([{}, {"prompt.txt": "hi", "response.txt": "ho"}]),
        )  # fmt: skip
        ids.append(run_id)


def whole(outcome: Outcome) -> None:
    """Assert that the counts close and that every issue can be looked up."""
    assert outcome.ledger.gaps() == []
    for issue in outcome.ledger.issues:
        assert issue.code in CATALOG and issue.message
    outcome.as_dict()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), named=st.integers(0, 3), times=st.integers(0, 6))
def test_the_laws_hold_over_random_stores_under_random_damage(
    tmp_path_factory: pytest.TempPathFactory, seed: int, named: int, times: int
) -> None:
    base = tmp_path_factory.mktemp("laws")
    root, target = base / "mlruns", base / "m.db"
    rng = random.Random(seed)
    random_store(root, rng)
    for one in rng.sample(list(DAMAGES.values()), named):
        spot = Spot(root, 10 + list(DAMAGES).index(one.name))
        build(spot)
        one.apply(spot)
    for _ in range(times):
        damage_at_random(root, rng)
    if not root.is_dir():
        return
    before = tree_hash(root)
    try:
        scanned = pipeline.scan([str(root)], pipeline.Options())
    except SourceError:
        return  # the damage left nothing of a store
    whole(scanned)
    first = convert(root, target)
    whole(first)
    assert tree_hash(root) == before, "the source was changed"
    loaders = {Code.LOAD_REFUSED, Code.LOAD_WITHOUT_PARENT}
    if not loaders & {issue.code for issue in first.ledger.issues}:
        assert first.ledger.as_rows() == scanned.ledger.as_rows(), "scan told something else"
    content = target.read_bytes()
    again = convert(root, target)
    whole(again)
    assert target.read_bytes() == content, "converting twice changed the database"
    shutil.rmtree(base)


def test_the_order_of_directories_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mlruns"
    for number, one in enumerate(DAMAGES.values(), 1):
        if number % 5 == 0:
            build(Spot(root, number))
            one.apply(Spot(root, number))
    random_store(root, random.Random(3))
    convert(root, tmp_path / "a.db")
    real = os.scandir

    class Reversed:
        def __init__(self, path: Any) -> None:
            with real(path) as entries:
                self._entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    convert(root, tmp_path / "b.db")
    monkeypatch.undo()
    assert tables(tmp_path / "a.db") == tables(tmp_path / "b.db")


# ------------------------------------------------------------------------------- bytes

WORDS = [
    *(b"\x00", b"\xff", b"\n", b"\r\n", b"\t", b": ", b"- ", b"'", b'"', b"{", b"[", b"&a", b"*a"),
    *(b"!!python/object:os.system", b"nan", b"1e999", b"-", b"9" * 400, b"\xed\xa0\x80"),
    *(b"<<: *a", b"%YAML 9", b"---", b"...", b"\\u0000", b"\\ud800", b"null", b"~", b"2023-01-01"),
    *(b"0x1F", b"1_000", b"\xe2\x80\xa8", b"\x85", b"? ", b"|", b">", b"# "),
]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change some bytes of a file in one of the ways in which bytes change."""
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.randrange(1, 40))
    changes: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data[:at] + data[to:],
        lambda: data[:at] + rng.randbytes(to - at) + data[to:],
        lambda: data[:at] + rng.choice(WORDS) + data[at:],
        lambda: data[:at] + data[at:to] * rng.randrange(2, 30) + data[to:],
        lambda: data[:at] + bytes(b ^ 1 << rng.randrange(8) for b in data[at:to]) + data[to:],
        lambda: data[to:] + data[:at],
        lambda: rng.randbytes(len(data)),
    ]
    return rng.choice(changes)()


def test_mutated_files_raise_nothing_hang_nowhere_and_close_the_ledger(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    build(Spot(root, 1))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    rng = random.Random(int(os.environ.get("MIGRATOR_SEED", "1")))
    done = 0
    while done < FUZZ:
        chosen = rng.sample(files, rng.randrange(1, 6))
        originals = {path: path.read_bytes() for path in chosen}
        for path, data in originals.items():
            path.write_bytes(mutate(data, rng))
            done += 1
        whole(pipeline.scan([str(root)], pipeline.Options()))
        if done % 40 < len(chosen):
            target = tmp_path / "m.db"
            target.unlink(missing_ok=True)
            whole(convert(root, target))
        for path, data in originals.items():
            path.write_bytes(data)
