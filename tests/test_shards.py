"""Parts of a store that jobs of their own convert: together they are the whole."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from migrator import pipeline
from tests import fixturekit
from tests.fixturekit import store

STORES = tuple(str(store(name)) for name in ("2.22.5-agents", "2.22.5-server", "3.1.4-models"))


def rows(path: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """Return the rows of every table; shards write them in another order."""
    with sqlite3.connect(path) as db:
        tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {t: Counter(db.execute(f"SELECT * FROM {t}").fetchall()) for t in tables}


def convert(sources: Any, target: Path, **choice: Any) -> Any:
    return pipeline.convert(
        [str(source) for source in sources],
        f"sqlite:///{target}",
        pipeline.Options(workers=1, **choice),
        schema="3.9",
        backup=False,
    )


def both(sources: Any, tmp_path: Path, parts: int = 3, order: Any = None, **choice: Any) -> Any:
    """Return the rows of the whole and of its shards, and what each shard told."""
    whole, shared = tmp_path / "whole.db", tmp_path / "shared.db"
    if not whole.exists():
        convert(sources, whole, **choice)
    shared.unlink(missing_ok=True)
    told = [
        convert(sources, shared, shard=(number, parts), **choice)
        for number in order or range(1, parts + 1)
    ]
    return rows(whole), rows(shared), told


@pytest.mark.parametrize("name", fixturekit.names())
def test_the_shards_of_a_fixture_are_the_whole(name: str, tmp_path: Path) -> None:
    whole, shared, told = both([fixturekit.materialise(name, tmp_path)], tmp_path)
    assert shared == whole
    assert [each.shard_text for each in told] == ["1/3", "2/3", "3/3"]


def test_the_shards_of_several_sources_are_the_whole_in_any_order_and_twice(
    tmp_path: Path,
) -> None:
    for order in itertools.permutations((1, 2, 3)):
        whole, shared, _ = both(STORES, tmp_path, order=order)
        assert shared == whole
    before = (tmp_path / "shared.db").read_bytes()
    for number in (2, 1, 3):
        again = convert(STORES, tmp_path / "shared.db", shard=(number, 3))
        assert not any(again.ledger.converted.values()) and not again.ledger.rebuilt_new
    assert (tmp_path / "shared.db").read_bytes() == before


CHOICES: dict[str, dict[str, Any]] = {
    "regrouped": {"group_by_time": True, "adopt_orphans": True},
    "since": {"since": "2024-03-06"},
    "no-runs": {"runs": False},
    "no-traces": {"traces": False},
    "genai": {"experiment_kind": "genai"},
    "keep": {"experiment_kind": "keep"},
    "all": {"include": frozenset({"sweeps", "flat", "deleted"}), "redact": ("gpt",)},
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_with_any_options_the_shards_are_the_whole(choice: Any, tmp_path: Path) -> None:
    whole, shared, _ = both(STORES, tmp_path, **choice)
    assert shared == whole
