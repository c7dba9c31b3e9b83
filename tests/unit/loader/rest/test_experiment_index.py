"""What an earlier conversion wrote into an experiment of a server is found again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from migrator import conventions
from migrator.loader.rest.experiment_index import (
    MODEL_TAG,
    Found,
    ServedExperiment,
    TargetExperiment,
    existing_experiments,
)
from tests.support.fake_server import FakeConnection, run_on_server
from tests.support.loaderkit import experiment

SOURCE_RUN, DIGEST = conventions.MIGRATOR_SOURCE_RUN, conventions.MIGRATOR_DIGEST


def target(
    tags: dict[str, str] | None = None, *, new: bool = False, deleted: bool = False
) -> TargetExperiment:
    return TargetExperiment("7", experiment(), new, True, tags or {}, deleted)


def test_an_experiment_names_the_one_that_it_was_made_from() -> None:
    listed = [
        SimpleNamespace(experiment_id=5, name="own", tags={}, lifecycle_stage="deleted"),
        SimpleNamespace(
            experiment_id=6,
            name="agents (1)",
            tags={
                conventions.MIGRATOR_SOURCE_EXPERIMENT: "1",
                conventions.MIGRATOR_SOURCE_NAME: "agents",
            },
            lifecycle_stage="active",
        ),
    ]
    server: Any = FakeConnection(listed={"experiments": listed})
    own, ours = existing_experiments(server)
    assert own == ServedExperiment("5", "own", {}, True)
    assert (own.source, ours.source) == (None, ("1", "agents"))


def test_of_two_runs_of_one_source_the_complete_one_counts() -> None:
    server: Any = FakeConnection(
        listed={
            "runs": [
                run_on_server("whole", {SOURCE_RUN: "a", DIGEST: "mark"}),
                run_on_server("cut off", {SOURCE_RUN: "a"}),
                run_on_server("gone", {SOURCE_RUN: "b"}, stage="deleted"),
            ]
        }
    )
    index = target()
    index.load(server)
    assert index.runs == {
        "a": Found("whole", "mark", False),
        "b": Found("gone", None, True),
    }


def test_a_deleted_model_is_known_by_its_experiments_tag() -> None:
    model = SimpleNamespace(
        model_id="m-alive", tags={conventions.MIGRATOR_SOURCE_MODEL: "m-1", DIGEST: "x"}
    )
    tags = {f"{MODEL_TAG}m-2": "m-gone mark", f"{MODEL_TAG}m-1": "m-alive mark"}
    index = target(tags)
    server: Any = FakeConnection(listed={"models": [model]})
    index.load(server)
    assert index.models["m-2"] == Found("m-gone", "mark", True)
    assert not index.models["m-1"].deleted  # tagged, and cut off before it was deleted


@pytest.mark.parametrize(("new", "waits"), [(True, 0), (False, 1)])
def test_an_experiment_of_an_earlier_conversion_is_listed_again_once(new: bool, waits: int) -> None:
    server: Any = FakeConnection()
    index = target(new=new)
    for run_id in ("a", "b"):
        assert index.run(server, run_id) is None
    assert server.settled == waits


def test_an_experiment_that_people_deleted_is_restored_to_be_deleted_again() -> None:
    server: Any = FakeConnection()
    experiment = target(deleted=True)
    experiment.open(server)
    assert [name for name, _ in server.store.calls] == ["restore_experiment"]
    assert experiment.is_to_be_deleted and not experiment.deleted
