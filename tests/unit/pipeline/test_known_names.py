"""The names of recognised trees, from a sample of an experiment's runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator import pipeline
from migrator.pipeline import PlannedTree, known_names
from tests.support.storekit import write_experiment, write_run


def write_pipelines(root: Path, experiment_id: str) -> None:
    """Write a pipeline that trained, and one that failed before it did; no flat runs."""
    write_experiment(root, experiment_id, f"pipelines {experiment_id}")
    trained, failed = f"a{experiment_id}" * 16, f"b{experiment_id}" * 16
    write_run(root, experiment_id, trained, name="Tree_Pipeline_0301")
    hyper = {"max_depth": "3", "n_estimators": "9"}
    write_run(root, experiment_id, f"c{experiment_id}" * 16, parent=trained, params=hyper)
    write_run(root, experiment_id, failed, name="Tree_Pipeline_0302", status=4)
    write_run(root, experiment_id, f"d{experiment_id}" * 16, parent=failed, name="load", status=4)


@pytest.mark.parametrize(("most", "traces"), [(100, 0), (2, 1), (0, 2)])
def test_trees_of_pipelines_are_sampled_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, traces: int
) -> None:
    for experiment_id in ("1", "2"):
        write_pipelines(tmp_path / "mlruns", experiment_id)
    monkeypatch.setattr(known_names, "MOST_SAMPLED_TWINS", most)
    trees: list[PlannedTree] = []
    pipeline.scan([str(tmp_path / "mlruns")], pipeline.Options(workers=1), on_tree=trees.append)
    assert len(trees) == 4
    assert sum(len(tree.plan.traces) for tree in trees) == traces
