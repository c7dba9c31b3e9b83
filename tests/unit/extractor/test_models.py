"""Reading logged models, registered models and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrator.extractor.filestore import FileStoreSource
from migrator.extractor.filestore.index import index_store
from migrator.issues import Code, Kind
from migrator.model import Extracted, LoggedModelMetric, LoggedModelRecord, RegisteredModelRecord
from tests.support.ledgerkit import assert_census, assert_closed, read_all
from tests.support.storekit import (
    START_MS,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_values,
)

MODEL = "m-" + "c" * 32
RUN = "a" * 32


def closed(root: Path) -> None:
    index = index_store(str(root))
    results = list(read_all(index))
    for result in results:
        assert_closed(result)
    assert_census(index, results)


def logged(root: Path) -> Extracted[LoggedModelRecord]:
    closed(root)
    (entry,) = index_store(str(root)).logged_models
    return FileStoreSource(str(root)).read_logged_model(entry)


def registered(root: Path) -> Extracted[RegisteredModelRecord]:
    closed(root)
    (entry,) = index_store(str(root)).registered_models
    return FileStoreSource(str(root)).read_registered_model(entry)


def codes(result: Extracted[Any]) -> list[Code]:
    return [issue.code for issue in result.issues]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_experiment(tmp_path, "1", "one")
    return tmp_path


def test_a_logged_model_is_read_whole(root: Path) -> None:
    write_logged_model(
        root,
        "1",
        MODEL,
        name="agent-v1",
        source_run_id=RUN,
        params={"p/q": "1"},
        tags={"t": "x"},
        metrics={"acc": [(START_MS, 0.5, 1, RUN), (START_MS, 0.7, 2, RUN, "eval set", "d1")]},
        artifacts={"MLmodel": "x"},
    )
    result = logged(root)
    model = result.record
    assert model is not None and result.issues == () and result.files_referred == 1
    assert (model.name, model.status, model.model_type) == ("agent-v1", 2, "agent")
    assert (model.params, model.tags, model.source_run_id) == ({"p/q": "1"}, {"t": "x"}, RUN)
    assert model.metrics == (
        LoggedModelMetric("acc", START_MS, 0.5, 1, RUN, None, None),
        LoggedModelMetric("acc", START_MS, 0.7, 2, RUN, "eval set", "d1"),
    )
    assert model.lifecycle_stage == "active"  # the key is absent
    assert model.artifact_dir == str(root / "1" / "models" / MODEL / "artifacts")


def test_a_deleted_logged_model_is_deleted(root: Path) -> None:
    write_logged_model(root, "1", MODEL, lifecycle_stage="deleted", status="READY")
    model = logged(root).record
    assert model is not None and (model.lifecycle_stage, model.status) == ("deleted", 2)


def test_metric_lines_of_a_model_are_rejected_one_by_one(root: Path) -> None:
    content = b"%d 0.5 1 r\n" % START_MS
    write_logged_model(
        root, "1", MODEL, metrics={"m": content * 3 + b"1 2\nx\n%d 1 1 r d\n" % START_MS}
    )
    result = logged(root)
    assert result.record is not None and len(result.record.metrics) == 1
    assert result.found[Kind.LOGGED_MODEL_METRIC] == 6
    assert result.merged == {Kind.LOGGED_MODEL_METRIC: 2}
    assert codes(result) == [Code.METRIC_LINE_MALFORMED, Code.METRIC_POINT_REPEATED]


def test_a_logged_model_without_meta_is_rebuilt_and_an_empty_one_rejected(root: Path) -> None:
    path = write_logged_model(root, "1", MODEL, params={"a": "1"})
    (path / "meta.yaml").write_bytes(b"")
    result = logged(root)
    assert result.record is not None and result.record.name == MODEL
    assert codes(result) == [Code.META_EMPTY, Code.MODEL_REBUILT]
    (path / "params" / "a").unlink()
    result = logged(root)
    assert result.record is None and Code.MODEL_EMPTY in codes(result)


def test_a_registered_model_is_read_whole(root: Path) -> None:
    write_registered_model(
        root,
        "name with ünï",
        versions=[
            {
                "current_stage": "Production",
                "run_id": RUN,
                "description": "v1",
                "tags": {"a/b": "c"},
            },
            {"current_stage": "Deleted_Internal", "storage_location": "s"},
        ],
        tags={"mlflow.prompt.is_prompt": "true"},
        aliases={"champion": 1, "Challenger_1": "2"},
        description="all of it",
    )
    result = registered(root)
    model = result.record
    assert model is not None and result.issues == ()
    assert (model.name, model.description) == ("name with ünï", "all of it")
    assert model.aliases == {"Challenger_1": 2, "champion": 1}
    assert model.tags == {"mlflow.prompt.is_prompt": "true"}
    first, second = model.versions
    assert (first.version, first.current_stage, first.run_id, first.tags) == (
        1,
        "Production",
        RUN,
        {"a/b": "c"},
    )
    assert second.current_stage == "Deleted_Internal" and second.storage_location == "s"


def test_versions_are_sorted_by_number(root: Path) -> None:
    write_registered_model(root, "m", versions=[{}] * 11)
    model = registered(root).record
    assert model is not None and [v.version for v in model.versions] == list(range(1, 12))


def test_damaged_versions_and_aliases_cost_themselves(root: Path) -> None:
    path = write_registered_model(root, "m", versions=[{"tags": {"a": "b"}}, {}])
    (path / "version-1" / "meta.yaml").write_bytes(b"\x00" * 9)
    write_values(path / "version-x" / "tags", {"t": "1", "u": "2"})
    write_values(path / "aliases", {"bad": "latest", "far": "9", "good": "2\r\n"})
    result = registered(root)
    assert result.record is not None
    assert [(v.version, v.source, v.tags) for v in result.record.versions] == [
        (1, None, {"a": "b"}),
        (2, "dummy-source", {}),
    ]
    assert result.record.aliases == {"far": 9, "good": 2}
    assert result.found[Kind.MODEL_VERSION] == 3 and result.found[Kind.MODEL_VERSION_TAG] == 3
    assert {
        Code.META_EMPTY,
        Code.MODEL_VERSION_REBUILT,
        Code.MODEL_VERSION_DAMAGED,
        Code.LOST_WITH_OWNER,
        Code.ALIAS_DAMAGED,
        Code.ALIAS_DANGLING,
    } <= set(codes(result))


def test_a_registered_model_without_meta_is_rebuilt_and_an_empty_one_rejected(root: Path) -> None:
    path = write_registered_model(root, "m")
    (path / "meta.yaml").unlink()
    result = registered(root)
    assert result.record is not None and result.record.name == "m"
    assert codes(result) == [Code.META_MISSING, Code.MODEL_REBUILT]
    write_values(root / "models" / "hollow", {"meta.yaml": ""})
    index = index_store(str(root))
    (entry,) = [model for model in index.registered_models if model.entity_id == "hollow"]
    hollow = FileStoreSource(str(root)).read_registered_model(entry)
    assert_closed(hollow)
    assert hollow.record is None and Code.MODEL_EMPTY in codes(hollow)


def test_strays_in_the_registry_are_named(root: Path) -> None:
    path = write_registered_model(root, "m")
    write_values(path, {"README.md": "x", "notes/a": "1", "version-1/stray": "x"})
    write_values(root / "models" / "not a model", {"a.txt": "1"})
    result = registered(root)
    assert result.files_ignored == 3
    assert index_store(str(root)).ignored_files == 1
