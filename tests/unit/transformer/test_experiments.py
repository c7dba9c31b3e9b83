"""Experiments: ids and names in the target, clashes, and the same answer the second time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from migrator.errors import TargetError
from migrator.issues import Issue
from migrator.model import ExistingExperiment, ExperimentPlan, ExperimentRecord
from migrator.transformer import (
    FoundExperiment,
    OnConflict,
    experiment_kind,
    plan_experiments,
)
from tests.support.planskit import T0, experiment


def planned(
    records: Sequence[tuple[int, ExperimentRecord]],
    existing: Sequence[tuple[int, str] | ExistingExperiment] = (),
    on_conflict: OnConflict = "fail",
    runs: Mapping[str, int] = {},  # by experiment id
    **more: Any,
) -> tuple[dict[tuple[int, str], ExperimentPlan], tuple[Issue, ...]]:
    """Plan records that lie in a directory of their source; key the plans by source and id."""
    placed = [(n, replace(r, path=f"/store{n}/{r.experiment_id}")) for n, r in records]
    found = [FoundExperiment(n, r, runs.get(r.experiment_id, 0)) for n, r in placed]
    there = [ExistingExperiment(*each) if isinstance(each, tuple) else each for each in existing]
    plans, issues = plan_experiments(found, there, on_conflict, **more)
    return {(n, r.experiment_id): plans[r.path] for n, r in placed}, issues


def place(
    *records: ExperimentRecord | tuple[int, ExperimentRecord],
    **how: Any,
) -> tuple[dict[tuple[int, str], tuple[int, str, bool]], list[str]]:
    numbered = [r if isinstance(r, tuple) else (0, r) for r in records]
    plans, issues = planned(numbered, **how)
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


def names_of(shown: dict[tuple[int, str], tuple[int, str, bool]]) -> dict[str, str]:
    return {identity: name for (_, identity), (_, name, _) in shown.items()}


def test_of_one_name_the_active_then_the_one_with_most_runs_then_the_newest_keeps_it() -> None:
    records = [
        experiment("1", "x", creation_ms=T0 + 9),
        experiment("2", "x", creation_ms=T0 + 5),
        experiment("30", "x", creation_ms=T0 + 9),
        experiment("4", "x", creation_ms=T0 + 99, deleted=True),
    ]
    for runs, keeper in (
        ({"1": 36, "2": 37, "30": 1, "4": 99}, "2"),
        ({"1": 37, "2": 37, "30": 36}, "1"),
        ({"2": 0}, "1"),  # equal but for the id: the smaller one
    ):
        expected = {r.experiment_id: f"x ({r.experiment_id})" for r in records} | {keeper: "x"}
        for order in itertools.permutations(records):
            shown, codes = place(*order, runs=runs)
            assert names_of(shown) == expected
            assert codes == ["experiment-renamed"] * 3
    plans, issues = planned([(0, r) for r in records], runs={"2": 37, "1": 1})
    assert plans[0, "1"].tags["migrator.source_experiment_name"] == "x"
    assert "experiment 2 has the same name and has more runs (37, and this one 1)" in str(issues)


def test_whoever_has_the_name_in_the_target_keeps_it_when_another_one_grows() -> None:
    records = (experiment("5", "x"), experiment("6", "x"))
    first, _ = place(*records, runs={"5": 2, "6": 1})
    assert names_of(first) == {"5": "x", "6": "x (6)"}
    there = target_of(first)
    again, codes = place(*records, runs={"5": 2, "6": 3}, existing=there)
    assert target_of(again) == there and codes == ["experiment-renamed"]
    third = experiment("7", "x")
    more, _ = place(*records, third, runs={"7": 9}, existing=there)
    assert names_of(more) == {"5": "x", "6": "x (6)", "7": "x (7)"}


def test_a_new_name_is_never_one_that_another_experiment_has() -> None:
    records = [
        experiment("5", "x"),
        experiment("6", "x"),
        experiment("7", "x (6)"),
        experiment("8", "n" * 300),
        experiment("9", "n" * 256 + "m"),  # the same when it is cut
    ]
    for order in itertools.permutations(records):
        shown, _ = place(*order, runs={"5": 1, "8": 1})
        names = names_of(shown)
        assert (names["5"], names["6"], names["7"]) == ("x", "x (6, 2)", "x (6)")
        assert len(set(names.values())) == len(records)
        again, _ = place(*order, runs={"5": 1, "8": 1}, existing=target_of(shown))
        assert target_of(again) == target_of(shown)
        assert all(merged for _, _, merged in again.values())


def test_names_that_the_target_takes_for_one_follow_the_same_rule() -> None:
    records = [(0, experiment("5", "Chat")), (0, experiment("6", "chat"))]
    plans, issues = planned(records, runs={"6": 3}, name_key=str.casefold)
    assert [plans[0, i].target_name for i in "56"] == ["Chat (5)", "chat"]
    assert 'experiment 6 has the name "chat", which is the same to the target' in str(issues)
    plans, issues = planned(records[1:], [(9, "CHAT")], on_conflict="merge", name_key=str.casefold)
    assert (plans[0, "6"].target_id, plans[0, "6"].target_name) == (9, "CHAT")
    assert "experiment-renamed" in [issue.code.value for issue in issues]


def test_of_several_sources_only_one_experiment_of_a_name_joins_that_of_an_earlier_source() -> None:
    first = (0, experiment("5", "x"))
    shown, _ = place(first, (1, experiment("6", "x")), (1, experiment("7", "x")), runs={"7": 2})
    assert shown[1, "7"] == (5, "x", True)
    assert shown[1, "6"] == (6, "x (6)", False)
    # A copy of the store, with a twin: the experiment of one id and name is the same one.
    shown, _ = place(first, (1, experiment("5", "x")), (1, experiment("7", "x")), runs={"7": 2})
    assert shown[1, "5"] == (5, "x", True)
    assert shown[1, "7"] == (7, "x (7)", False)


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
    def kind_of(roots: int, with_traces: int, native: int, has_kind: bool = False) -> str | None:
        return experiment_kind(
            has_kind=has_kind, n_root_runs=roots, n_roots_with_traces=with_traces, n_native=native
        )

    assert kind_of(3, 2, 0) == "genai_development"
    assert kind_of(4, 2, 9) is None
    assert kind_of(0, 0, 1) == "genai_development"
    assert kind_of(0, 0, 0) is None
    assert kind_of(1, 1, 0, has_kind=True) is None
