"""The survey counts what a server's API will not keep, before anything is written."""

from __future__ import annotations

import math

import pytest

from migrator.loader.rest import limits
from migrator.loader.rest.limits import Survey
from migrator.model import InputRecord, LoggedModelMetric, MetricPoint, TokenUsage
from tests.support.loaderkit import T0, dataset, experiment, logged_model, run, trace


def counts(survey: Survey, release: tuple[int, int] = (3, 9)) -> dict[str, int]:
    return {limit.name: count for limit, count in survey.found(release)}


def test_names_of_limits_are_unique() -> None:
    assert len({limit.name for limit in limits.LIMITS}) == len(limits.LIMITS)


def test_a_run_is_counted_for_what_it_loses() -> None:
    survey = Survey()
    survey.add_experiment(experiment())
    early, late = MetricPoint(-1, 0.5, 0), MetricPoint(T0, 0.5, 0)
    record = run(name="", params={"p": "x" * 6001}, metrics={"m": (early, late)})
    survey.add_run(record, 1)
    found = counts(survey)
    assert found["run-id"] == found["run-name"] == found["negative-time"] == 1
    assert found["value-length"] == 1
    assert found["run-fields"] == 1  # it has a source
    assert found["experiment-id"] == 1


def test_a_dataset_that_a_run_uses_is_kept() -> None:
    used, unused = dataset(), dataset(dataset_id="e" * 32, name="other")
    survey = Survey()
    for record in (used, unused):
        survey.add_dataset(record, 1)
    survey.add_run(run(inputs=(InputRecord("DATASET", used.dataset_id),)), 1)
    assert counts(survey)["dataset-unused"] == 1


def test_a_models_nan_is_counted() -> None:
    nan = LoggedModelMetric("acc", T0, math.nan, 0, "r", None, None)
    survey = Survey()
    survey.add_logged_model(logged_model(metrics=(nan,)), 1)
    assert counts(survey)["model-nan"] == 1


def test_limits_of_some_releases_are_counted_for_those_only() -> None:
    survey = Survey()
    survey.add_trace(trace(usage=TokenUsage(10, None, None)), 1)
    assert counts(survey)["token-counts"] == 1
    assert "token-counts" not in counts(survey, (3, 17))


@pytest.mark.parametrize(
    ("source", "is_path"),
    [
        ("/models/bot", True),
        ("file:///models/bot", True),
        (r"C:\models\bot", True),
        ("models/bot", True),
        ("s3://bucket/bot", False),
        ("runs:/abc/model", False),
        ("mlflow-artifacts:/1/model", False),
        ("", False),
    ],
)
def test_which_sources_are_paths(source: str, is_path: bool) -> None:
    assert limits.is_path(source) is is_path


@pytest.mark.parametrize(
    ("value", "kept"),
    [(math.nan, None), (math.inf, 1.7976931348623157e308), (-math.inf, -1.7976931348623157e308),
     (0.5, 0.5)],
)  # fmt: skip
def test_a_metric_value_as_a_server_keeps_it(value: float, kept: float | None) -> None:
    assert limits.encoded(value) == kept
