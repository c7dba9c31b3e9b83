"""Logged models and the registry: new ids are followed, and refusals cost one item."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

from migrator import conventions
from migrator.issues import Code, Kind
from migrator.loader.rest import models
from migrator.loader.rest.connection import Refused
from migrator.outcome.written import Written
from tests.support.fake_server import FakeConnection
from tests.support.loaderkit import hex_id, logged_model, registered_model

RUN = hex_id("run")


def test_a_models_points_are_kept_once_and_the_rest_is_named() -> None:
    [point] = logged_model().metrics
    record = logged_model(
        metrics=(
            point,
            dataclasses.replace(point),
            dataclasses.replace(point, value=0.6),
            dataclasses.replace(point, key="nan", value=math.nan),
            dataclasses.replace(point, run_id="gone"),
        )
    )
    written = Written()
    found = models.metrics_of(record, written, {RUN: "new-run"})
    assert list(found.values()) == [point]
    assert written.merged[Kind.LOGGED_MODEL_METRIC] == 1
    codes = [issue.code for issue in written.issues]
    assert codes == [Code.LOAD_REFUSED, Code.SERVER_REFUSED, Code.LOAD_WITHOUT_PARENT]


def registry_server() -> Any:
    """A server without any registered model; it numbers versions from 1."""
    server = FakeConnection()
    numbers = iter(range(1, 99))
    missing = Refused("not found")
    server.registry.answers = {
        "get_registered_model": missing,
        "get_model_version": missing,
        "create_model_version": lambda *arguments, **named: SimpleNamespace(
            version=str(next(numbers)), current_stage="None", source=arguments[1], tags={}
        ),
    }
    return server


def register(server: Any, ids: models.Ids | None = None, **changes: Any) -> Written:
    written = Written()
    record = registered_model(**changes)
    models.RegistryWriter(server, written, ids or models.Ids()).write(record, record.name)
    return written


def test_a_registered_model_is_made_with_versions_stages_aliases_and_last_its_mark() -> None:
    server = registry_server()
    written = register(server)
    names = [name for name, _ in server.registry.calls if not name.startswith("get_")]
    assert names == [
        "create_registered_model",
        "create_model_version",
        "create_model_version",
        "transition_model_version_stage",
        "set_registered_model_alias",
        "set_registered_model_tag",
        "set_registered_model_tag",
    ]
    last = server.registry.named("set_registered_model_tag")[-1]
    assert last[1].key == conventions.MIGRATOR_DIGEST
    assert server.registry.named("set_registered_model_alias") == [("bot", "champion", "1")]
    assert written.converted[Kind.MODEL_VERSION] == 2


def test_numbers_of_deleted_versions_are_left_out() -> None:
    server = registry_server()
    [first, _] = registered_model().versions
    third = dataclasses.replace(first, version=3)
    register(server, versions=(third,), aliases={})
    assert server.registry.named("delete_model_version") == [("bot", "1"), ("bot", "2")]


def test_a_version_that_is_refused_leaves_the_model_without_a_mark() -> None:
    server = registry_server()
    server.registry.answers["create_model_version"] = Refused("no versions today")
    written = register(server, aliases={})
    assert {issue.kind for issue in written.issues if issue.code is Code.SERVER_REFUSED} == {
        Kind.MODEL_VERSION,
        Kind.MODEL_VERSION_TAG,
    }
    tags = [tag.key for _, tag in server.registry.named("set_registered_model_tag")]
    assert conventions.MIGRATOR_DIGEST not in tags


def test_sources_follow_the_new_ids_of_runs_and_models() -> None:
    ids = models.Ids(runs={RUN: "new-run"}, models={"m-1": "m-new"})
    [version, _] = registered_model().versions
    for source, wanted in (
        (f"runs:/{RUN}/model", "runs:/new-run/model"),
        ("models:/m-1", "models:/m-new"),
        ("s3://bucket/model", "s3://bucket/model"),
    ):
        server = registry_server()
        register(server, ids, versions=(dataclasses.replace(version, source=source),), aliases={})
        [(_, sent, run_id, *_)] = server.registry.named("create_model_version")
        assert (sent, run_id) == (wanted, "new-run")


def test_a_source_that_is_a_path_leads_nowhere_and_is_named() -> None:
    server = registry_server()
    written = register(server, versions=registered_model().versions[:1], aliases={})
    [(_, source, *_)] = server.registry.named("create_model_version")
    assert source == "migrator-source:/m"
    assert [issue.code for issue in written.issues] == [Code.SERVER_SOURCE_CHANGED]
