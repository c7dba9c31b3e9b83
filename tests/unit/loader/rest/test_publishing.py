"""What the writers of one conversion to a server share: deletions, and each id once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from migrator.issues import Code, Kind
from migrator.loader.rest.experiment_index import TargetExperiment
from migrator.loader.rest.publishing import Deletions, Publishing, PublishSettings
from migrator.loader.rest.seen import DeletedByPeople
from migrator.outcome.written import Written
from tests.support.fake_server import FakeConnection
from tests.support.loaderkit import experiment


def target(*, deleted: bool = False) -> TargetExperiment:
    plan = experiment()
    record = replace(plan.record, lifecycle_stage="deleted" if deleted else "active")
    return TargetExperiment("7", replace(plan, record=record), True, True, {}, False)


def test_a_run_that_is_referred_to_is_restored_and_deleted_again() -> None:
    server: Any = FakeConnection()
    deletions = Deletions(server)
    deletions.note_deleted("r1")
    deletions.activate("r1")
    deletions.activate("r1")
    deletions.activate("never deleted")
    assert server.store.named("restore_run") == [("r1",)]
    deletions.apply({1: target()})
    assert server.store.named("delete_run") == [("r1",)]
    assert server.store.named("delete_experiment") == []


def test_runs_of_an_experiment_that_is_deleted_go_with_it() -> None:
    server: Any = FakeConnection()
    deletions = Deletions(server)
    deletions.delete_later("r1", 1)
    deletions.delete_later("r2", 2)
    deletions.apply({1: target(deleted=True), 2: target()})
    assert server.store.named("delete_run") == [("r2",)]
    assert server.store.named("delete_experiment") == [("7",)]


def test_the_second_item_of_an_id_is_refused_with_its_parts() -> None:
    server: Any = FakeConnection()
    result = Written()
    gone = DeletedByPeople(restore=False)
    publishing = Publishing(server, PublishSettings(), result, gone, {}, Deletions(server))
    assert not publishing.is_second(Kind.RUN, "r1")
    assert not publishing.is_second(Kind.TRACE, "r1"), "ids of two kinds may be equal"
    assert publishing.is_second(Kind.RUN, "r1")
    publishing.refuse_second(Kind.RUN, "r1", "1/r1", {Kind.PARAM: 2, Kind.TAG: 0})
    rejected = [(issue.code, issue.kind, issue.count) for issue in result.issues]
    assert (Code.LOAD_DUPLICATE, Kind.RUN, 1) in rejected
    assert (Code.LOAD_DUPLICATE, Kind.PARAM, 2) in rejected
    assert Kind.TAG not in {issue.kind for issue in result.issues}
