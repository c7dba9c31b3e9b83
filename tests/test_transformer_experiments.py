"""Experiments: ids and names in the target, clashes, and the same answer the second time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from migrator.errors import TargetError
from migrator.issues import Issue
from migrator.model import ExperimentPlan, ExperimentRecord
from migrator.transformer import OnConflict, experiment_kind, plan_experiments
from tests.planskit import experiment


def planned(
    records: Sequence[tuple[int, ExperimentRecord]],
    existing: Any = (),
    on_conflict: OnConflict = "fail",
) -> tuple[dict[tuple[int, str], ExperimentPlan], tuple[Issue, ...]]:
    """Plan records that lie in a directory of their source; key the plans by source and id."""
    placed = [(n, replace(r, path=f"/store{n}/{r.experiment_id}")) for n, r in records]
    plans, issues = plan_experiments(placed, existing, on_conflict)
    return {(n, r.experiment_id): plans[r.path] for n, r in placed}, issues


def place(
    *records: ExperimentRecord | tuple[int, ExperimentRecord],
    existing: Any = (),
    on_conflict: OnConflict = "fail",
) -> tuple[dict[tuple[int, str], tuple[int, str, bool]], list[str]]:
    numbered = [r if isinstance(r, tuple) else (0, r) for r in records]
    plans, issues = planned(numbered, existing, on_conflict)
    shown = {key: (p.target_id, p.target_name, p.merged) for key, p in plans.items()}
    return shown, [issue.code.value for issue in issues]


def target_of(shown: dict[tuple[int, str], tuple[int, str, bool]]) -> list[tuple[int, str]]:
    return sorted({(number, name) for number, name, _ in shown.values()})


def test_numeric_ids_of_64_bits_are_kept() -> None:
    shown, codes = place(experiment("0", "Default"), experiment("959069778369319831", "chat"))
    assert shown == {
        (0, "0"): (0, "Default", False),
        (0, "959069778369319831"): (959069778369319831, "chat", False),
    }
    assert codes == []


@pytest.mark.parametrize("identity", ["0_production_realtime", "9" * 25, "007", "-5", "٣"])
def test_other_ids_are_derived_and_the_old_one_is_kept(identity: str) -> None:
    plans, issues = planned([(0, experiment(identity, "prod"))], (), "fail")
    made = plans[0, identity]
    assert len(str(made.target_id)) == 18
    assert made.tags["migrator.source_experiment_id"] == identity
    assert [i.code.value for i in issues] == ["experiment-id-changed"]
    again, _ = planned([(0, experiment(identity, "prod"))], [(made.target_id, "prod")], "fail")
    assert (again[0, identity].target_id, again[0, identity].merged) == (made.target_id, True)


def test_of_one_name_the_active_then_the_older_keeps_it() -> None:
    records = [
        experiment("3", "x", creation_ms=1, deleted=True),
        experiment("2", "x", creation_ms=9),
        experiment("1", "x", creation_ms=10),
    ]
    for order in itertools.permutations(records):
        shown, codes = place(*order)
        assert {key[1]: name for key, (_, name, _) in shown.items()} == {
            "2": "x", "1": "x (1)", "3": "x (3)",
        }  # fmt: skip
        assert codes == ["experiment-renamed"] * 2
    plans, _ = planned([(0, r) for r in records], (), "fail")
    assert plans[0, "3"].tags["migrator.source_experiment_name"] == "x"


def test_same_name_in_another_source_is_merged_and_same_id_is_not() -> None:
    shown, codes = place(
        (0, experiment("0", "Default")), (0, experiment("5", "a")),
        (1, experiment("0", "Default")), (1, experiment("5", "b")), (1, experiment("6", "a")),
    )  # fmt: skip
    assert shown[1, "0"] == (0, "Default", True)
    assert shown[1, "6"] == (5, "a", True)
    assert shown[1, "5"][0] not in (5, 6) and shown[1, "5"][1] == "b"
    assert sorted(codes) == ["experiment-id-changed", "experiment-merged", "experiment-merged"]


def test_clash_with_the_target_fails_with_the_facts_and_what_to_do() -> None:
    with pytest.raises(TargetError) as caught:
        place(experiment("5", "x"), existing=[(7, "x")])
    for word in ('"x"', "(5)", "7", "--on-conflict"):
        assert word in str(caught.value)
    with pytest.raises(TargetError, match='experiment 5 is "y"'):
        place(experiment("5", "x"), existing=[(5, "y")])


def test_clash_is_merged_or_renamed_as_asked() -> None:
    shown, _ = place(experiment("5", "x"), existing=[(7, "x")], on_conflict="merge")
    assert shown[0, "5"] == (7, "x", True)
    shown, _ = place(experiment("5", "x"), existing=[(7, "x")], on_conflict="rename")
    assert shown[0, "5"] == (5, "x (5)", False)
    shown, _ = place(experiment("5", "x"), existing=[(5, "y")], on_conflict="rename")
    assert shown[0, "5"][0] != 5 and shown[0, "5"][1:] == ("x", False)


STORES: dict[str, list[tuple[int, ExperimentRecord]]] = {
    "plain": [(0, experiment("0", "Default")), (0, experiment("5", "a"))],
    "twins": [(0, experiment("5", "a")), (0, experiment("6", "a"))],
    "words": [(0, experiment("0_prod", "p")), (0, experiment("1_prod", "p"))],
    "two": [(0, experiment("5", "a")), (1, experiment("5", "b")), (1, experiment("7", "a"))],
    "long": [(0, experiment("5", "n" * 300)), (0, experiment("6", "n" * 300))],
}


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("on_conflict", ["fail", "merge", "rename"])
@pytest.mark.parametrize("before", [[], [(9, "other")]])
def test_converting_again_finds_the_same_experiments(
    name: str, on_conflict: OnConflict, before: list[tuple[int, str]]
) -> None:
    first, _ = place(*STORES[name], existing=before, on_conflict=on_conflict)
    there = sorted({*before, *target_of(first)})
    second, _ = place(*STORES[name], existing=there, on_conflict=on_conflict)
    assert {k: v[:2] for k, v in second.items()} == {k: v[:2] for k, v in first.items()}
    assert all(merged for _, _, merged in second.values())


@pytest.mark.parametrize("before", [[(7, "a")], [(5, "z")], [(5, "a (5)"), (7, "a")]])
def test_renamed_and_rederived_experiments_are_found_again(before: list[tuple[int, str]]) -> None:
    first, _ = place(*STORES["plain"], existing=before, on_conflict="rename")
    there = sorted({*before, *target_of(first)})
    second, _ = place(*STORES["plain"], existing=there, on_conflict="rename")
    assert {k: v[:2] for k, v in second.items()} == {k: v[:2] for k, v in first.items()}


def test_targets_are_unique_in_id_and_name() -> None:
    for records in STORES.values():
        shown, _ = place(*records)
        new = [v for v in shown.values() if not v[2]]
        assert len({v[0] for v in new}) == len({v[1] for v in new}) == len(new)
        assert all(len(v[1]) <= 256 for v in new)


def test_experiment_kind_is_set_only_where_traces_outweigh_runs() -> None:
    assert experiment_kind({}, 3, 2, 0) == "genai_development"
    assert experiment_kind({}, 4, 2, 9) is None
    assert experiment_kind({}, 0, 0, 1) == "genai_development"
    assert experiment_kind({}, 0, 0, 0) is None
    assert experiment_kind({"mlflow.experimentKind": "custom"}, 1, 1, 0) is None
