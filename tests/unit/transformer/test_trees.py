"""Trees from parent links: every run in exactly one, whatever is wrong with the links."""

from __future__ import annotations

import random

import pytest

from migrator.issues import Code
from migrator.model import RunEntry
from migrator.transformer import build_forest
from migrator.transformer.trees import without


def entry(run_id: str, parent: str | None = None, experiment: str = "1") -> RunEntry:
    return RunEntry(run_id, f"/s/{experiment}", run_id, experiment, False, parent)


def test_runs_are_joined_by_parent_links_across_experiments() -> None:
    forest = build_forest([entry("b", "a", "2"), entry("a"), entry("c", "b"), entry("x")])
    first, second = forest.trees()
    assert (first.root_id, first.run_ids) == ("a", ("a", "b", "c"))
    assert first.children == {"a": ("b",), "b": ("c",)}
    assert (second.root_id, second.run_ids, second.children) == ("x", ("x",), {})
    assert [i.code for i in forest.issues] == [Code.RUN_PARENT_ELSEWHERE] * 2


def test_orphan_run_becomes_its_own_tree() -> None:
    forest = build_forest([entry("a", "gone"), entry("b", "a")])
    assert [t.run_ids for t in forest.trees()] == [("a", "b")]
    assert [(i.code, i.entity_id) for i in forest.issues] == [(Code.RUN_PARENT_MISSING, "a")]


def test_run_that_is_its_own_parent_is_a_root() -> None:
    forest = build_forest([entry("a", "a"), entry("b", "a")])
    assert [t.run_ids for t in forest.trees()] == [("a", "b")]
    assert [i.code for i in forest.issues] == [Code.RUN_PARENT_SELF]


def test_circle_of_parents_is_cut_at_its_smallest_id() -> None:
    links = [
        entry("c", "b"),
        entry("b", "d"),
        entry("d", "c"),
        entry("tail", "c"),
        entry("a", "tail"),
    ]
    forest = build_forest(links)
    assert [(t.root_id, set(t.run_ids)) for t in forest.trees()] == [
        ("b", {"a", "b", "c", "d", "tail"})
    ]
    assert [(i.code, i.entity_id) for i in forest.issues] == [(Code.RUN_PARENT_CYCLE, "b")]


@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_links_does_not_matter(seed: int) -> None:
    links = [entry("a"), *(entry(f"k{i}", f"k{i // 2}" if i > 1 else "a") for i in range(1, 60))]
    links += [entry("p", "q"), entry("q", "p"), entry("o", "nowhere")]
    shuffled = random.Random(seed).sample(links, len(links))
    assert build_forest(shuffled) == build_forest(links)


def test_deep_and_wide_trees_do_not_recurse() -> None:
    deep = build_forest(
        [entry("d00000"), *(entry(f"d{i:05}", f"d{i - 1:05}") for i in range(1, 5000))]
    )
    (chain,) = deep.trees()
    assert (chain.run_ids[-1], len(chain.run_ids)) == ("d04999", 5000)
    wide = build_forest([entry("r"), *(entry(f"s{i}", "r") for i in range(50_000))])
    (fan,) = wide.trees()
    assert (len(fan.children["r"]), len(fan.run_ids)) == (50_000, 50_001)
    circle = build_forest([entry(f"c{i:05}", f"c{(i + 1) % 5000:05}") for i in range(5000)])
    (ring,) = circle.trees()
    assert (ring.root_id, len(ring.run_ids)) == ("c00000", 5000)


def test_children_of_a_run_taken_out_hang_from_its_nearest_ancestor() -> None:
    children = {"r": ("a", "b"), "a": ("c",), "c": ("d",)}
    assert without("r", children, {"r", "b", "d"}) == (("r",), {"r": ("d", "b")})
    assert without("r", children, {"b", "d"}) == (("d", "b"), {})
