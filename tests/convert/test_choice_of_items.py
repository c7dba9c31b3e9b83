"""Which items a user chooses: by time, run, name and state; and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline
from migrator.errors import OptionError
from migrator.verification import verify
from tests.support import storekit

DAY_MS = 24 * 3600 * 1000
FIRST_MS = int(datetime(2024, 5, 30, 12, tzinfo=timezone.utc).timestamp() * 1000)
EARLY, LATE, CHILD, GONE, OTHER = ("e" * 32, "1" * 32, "c" * 32, "9" * 32, "0" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "1", "prod-chat")
    storekit.write_experiment(root, "2", "prod-rag")
    storekit.write_experiment(root, "3", "try [1]")
    storekit.write_experiment(root, "4", "gone", deleted=True)
    storekit.write_run(root, "1", EARLY, start_ms=FIRST_MS, end_ms=FIRST_MS + 1)
    late_ms = FIRST_MS + 2 * DAY_MS
    storekit.write_run(root, "1", LATE, start_ms=late_ms, end_ms=late_ms + 9)
    storekit.write_run(root, "1", CHILD, parent=LATE, start_ms=late_ms + 1, end_ms=late_ms + 8)
    storekit.write_run(root, "2", GONE, deleted=True, start_ms=FIRST_MS, end_ms=FIRST_MS + 1)
    storekit.write_run(root, "3", OTHER, start_ms=FIRST_MS + DAY_MS, end_ms=FIRST_MS + DAY_MS + 1)
    return root


def converted(store: Path, **choice: Any) -> dict[str, set[str]]:
    """The ids of the runs in each experiment of the target; ``verify`` has to agree."""
    target = f"sqlite:///{store.parent}/mlflow.db"
    options = pipeline.Options(**choice)
    outcome = pipeline.convert([store], target, options)
    assert outcome.exit_code == 0, outcome.ledger.issues
    result = verify([store], target, options)
    assert result.same, result.differences
    client = MlflowClient(target)
    found = {}
    for experiment in client.search_experiments(ViewType.ALL):
        runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
        if experiment.name != "Default":
            found[experiment.name] = {run.info.run_id for run in runs}
    return found


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"until": "2024-05-30"}, {EARLY, GONE}),
        ({"until": "2024-05-31"}, {EARLY, GONE, OTHER}),
        ({"until": "2024-05-30T12:00"}, set()),
        ({"until": "2024-05-30T12:00:01"}, {EARLY, GONE}),
        ({"since": "2024-05-31", "until": "2024-05-31"}, {OTHER}),
        ({"run_ids": CHILD}, {LATE, CHILD}),
        ({"run_ids": [EARLY, OTHER]}, {EARLY, OTHER}),
        ({"experiments": "prod-*"}, {EARLY, LATE, CHILD, GONE}),
        ({"experiments": ["try [1]", "2"]}, {OTHER, GONE}),
        ({"not_experiments": "prod-*"}, {OTHER}),
        ({"experiments": "prod-*", "not_experiments": "prod-rag"}, {EARLY, LATE, CHILD}),
        ({"not_experiments": "nothing-*"}, {EARLY, LATE, CHILD, GONE, OTHER}),
        ({"deleted": False}, {EARLY, LATE, CHILD, OTHER}),
    ],
)
def test_only_the_chosen_runs_are_there(
    store: Path, choice: Mapping[str, Any], expected: set[str]
) -> None:
    found = converted(store, **choice)
    assert set().union(*found.values()) == expected
    assert ("gone" in found) == ("deleted" not in choice and not _names_some(choice))


def _names_some(choice: Mapping[str, Any]) -> bool:
    return bool(choice.keys() & {"experiments", "run_ids"})


def test_renamed_experiments_and_models_are_found_again(store: Path) -> None:
    storekit.write_registered_model(store, "ranker")
    rename = {"prod-chat": "chat", "prod-rag": "prod-chat", "ranker": "rank"}
    expected = {
        "chat": {EARLY, LATE, CHILD},
        "prod-chat": {GONE},
        "try [1]": {OTHER},
        "gone": set(),
    }
    assert converted(store, rename=rename) == expected
    assert converted(store, rename=rename) == expected
    client = MlflowClient(f"sqlite:///{store.parent}/mlflow.db")
    assert [model.name for model in client.search_registered_models()] == ["rank"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"until": "soon"}, "--until 'soon'"),
        ({"since": "2024-06-01", "until": "2024-05-31"}, "--until"),
        ({"rename": "a"}, "OLD=NEW"),
        ({"rename": "a=b=c"}, "OLD=NEW"),
        ({"rename": ["a=b", "a=c"]}, "two names"),
        ({"deleted": False, "include": "deleted"}, "--no-deleted"),
    ],
)
def test_a_wrong_value_is_refused_at_once(choice: Mapping[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        pipeline.Options(**choice)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"run_ids": "f" * 32}, "no run"),
        ({"experiments": "dev-*"}, "dev-"),
        ({"not_experiments": "prod"}, "'prod'"),
        ({"rename": "prod=live"}, "--rename"),
    ],
)
def test_a_name_that_fits_nothing_is_refused(
    store: Path, choice: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        pipeline.scan([store], pipeline.Options(**choice))
