"""Fingerprints of tools that log sweeps and pipelines: one suffices to decide a tree's role."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from migrator.model import Role, RunRecord

DSPY_FILES = frozenset({"best_model.json", "trainset.json", "result_table.json"})
DSPY_EVALUATION = re.compile(r"eval(_\d+)?$")


class Fingerprint(NamedTuple):
    """What a tool leaves in the runs of a tree, the root first."""

    role: Role
    why: str
    is_in: Callable[[Sequence[RunRecord]], bool]


def fingerprint(runs: Sequence[RunRecord]) -> Fingerprint | None:
    """The first tool whose marks are in the runs of a tree."""
    for each in FINGERPRINTS:
        if each.is_in(runs):
            return each
    return None


def _in_any_run(test: Callable[[RunRecord], bool]) -> Callable[[Sequence[RunRecord]], bool]:
    def is_in(runs: Sequence[RunRecord]) -> bool:
        return any(test(run) for run in runs)

    return is_in


def _is_of_optuna(run: RunRecord) -> bool:
    has_trial_dates = {"datetime_start", "datetime_complete"} <= run.tags.keys()
    return has_trial_dates or any(key.endswith("_distribution") for key in run.tags)


def _is_of_sklearn_search(run: RunRecord) -> bool:
    if "rank_test_score" in run.metrics:
        return True
    return "best_cv_score" in run.metrics and run.tags.get("mlflow.autologging") == "sklearn"


def _is_of_hyperopt(run: RunRecord) -> bool:
    return run.tags.get("runSource") == "hyperoptAutoTracking" or "fmin_uuid" in run.tags


def _is_of_ray_tune(run: RunRecord) -> bool:
    return "trial_name" in run.tags and "training_iteration" in run.metrics


def _is_of_flaml(run: RunRecord) -> bool:
    return any(key.startswith(("flaml.", "synapseml.flaml.")) for key in run.tags)


def _is_of_pycaret(run: RunRecord) -> bool:
    return {"USI", "URI"} <= run.tags.keys()


def _is_of_automl(run: RunRecord) -> bool:
    return any(key.startswith("_databricks_automl") for key in run.tags)


def _are_of_dspy(runs: Sequence[RunRecord]) -> bool:
    """Evaluations below a root, and one of the files that DSPy's optimizers log."""
    has_evaluation = any(
        "eval" in run.metrics and DSPY_EVALUATION.match(run.name) is not None for run in runs[1:]
    )
    return has_evaluation and any(_has_dspy_file(run) for run in runs)


def _has_dspy_file(run: RunRecord) -> bool:
    return any(artifact.path.rsplit("/", 1)[-1] in DSPY_FILES for artifact in run.artifacts)


def _is_of_zenml_or_kedro(run: RunRecord) -> bool:
    return "zenml" in run.tags or "kedro_command" in run.tags


def _is_of_recipes(run: RunRecord) -> bool:
    return "mlflow.pipeline.step.name" in run.tags


FINGERPRINTS: tuple[Fingerprint, ...] = (
    Fingerprint(Role.SWEEP, "an Optuna study (its callback's tags)", _in_any_run(_is_of_optuna)),
    Fingerprint(
        Role.SWEEP, "a scikit-learn search (autologged)", _in_any_run(_is_of_sklearn_search)
    ),
    Fingerprint(Role.SWEEP, "a Hyperopt search", _in_any_run(_is_of_hyperopt)),
    Fingerprint(Role.SWEEP, "Ray Tune trials", _in_any_run(_is_of_ray_tune)),
    Fingerprint(Role.SWEEP, "a FLAML search", _in_any_run(_is_of_flaml)),
    Fingerprint(Role.SWEEP, "a PyCaret session", _in_any_run(_is_of_pycaret)),
    Fingerprint(Role.SWEEP, "a Databricks AutoML experiment", _in_any_run(_is_of_automl)),
    Fingerprint(Role.SWEEP, "a DSPy compilation or evaluation", _are_of_dspy),
    Fingerprint(Role.PIPELINE, "a ZenML or Kedro pipeline", _in_any_run(_is_of_zenml_or_kedro)),
    Fingerprint(Role.PIPELINE, "an MLflow Recipes pipeline", _in_any_run(_is_of_recipes)),
)
"""In the order in which they are tried."""
