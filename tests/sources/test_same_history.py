"""One history, written by one MLflow release into a file store and into SQLite: the same target.

Both are converted and read through MLflow's client. What the releases themselves keep differently
is left out here, and this is the whole list:

1.  Ids of experiments, runs, traces, spans and models, and all times: the writers draw ids and look
    at the clock as often as their store does. Spans are compared by name and parent's name. A name
    that MLflow drew for a run (``upbeat-steed-966``) is such an id too.
2.  Locations.
3.  Whole numbers in feedback: a file store has 17.0 where the database has 17.
4.  Metrics of a run that name a dataset (3.5, key ``acc on data``): the file store logs them once
    more, at another step, for each model that is logged afterwards.
5.  The NaN of 3.5.1, which that release can't log over SQLite (``fixtures/writers/genai.py``).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from migrator import pipeline
from tests.support import databasekit, fixturekit

PAIRS = [
    ("1.30.1-classic", "1.30.1-database"),
    ("2.9.2-agents", "2.9.2-database"),
    ("2.22.5-registry-traces", "2.22.5-database"),
    ("3.5.1-genai", "3.5.1-database"),
]
OF_PLACE = ("mlflow.log-model.history", "mlflow.loggedModels", "mlflow.parentRunId",
            "mlflow.artifactLocation", "mlflow.user", "mlflow.source.name")  # fmt: skip


_DRAWN = re.compile(r"[a-z]+-[a-z]+-\d{1,3}\b|(tr-|m-)?[0-9a-f-]{8,36}|file:\S+|\.?/\S+")


def target_of(source: Path, tmp_path: Path) -> MlflowClient:
    """Convert a source, and open the result with MLflow's client."""
    path = tmp_path / f"{source.parent.name}.db"
    pipeline.convert([str(source)], f"sqlite:///{path}", pipeline.Options(workers=1), schema="3.9")
    return MlflowClient(f"sqlite:///{path}")


def both(pair: tuple[str, str], tmp_path: Path, read: Callable[[MlflowClient], Any]) -> None:
    """Assert that both sources give the same."""
    store = fixturekit.materialise(pair[0], tmp_path)
    database = fixturekit.database(pair[1], tmp_path)
    for table in ("params", "tags", "metrics", "latest_metrics", "runs"):
        # as ``remove_orphaned_parents`` in fixtures/make.py does it to the file store
        gone = "SELECT run_uuid FROM runs WHERE name = 'to be removed from disk'"
        databasekit.execute(database, f"DELETE FROM {table} WHERE run_uuid IN ({gone})")
    files, rows = (read(target_of(source, tmp_path)) for source in (store, database))
    assert files, "nothing was compared"
    assert sorted(files - rows) == [] and sorted(rows - files) == []


def experiments_of(client: MlflowClient) -> dict[str, str]:
    return {
        each.experiment_id: each.name for each in client.search_experiments(view_type=ViewType.ALL)
    }


def runs(client: MlflowClient) -> Counter[str]:
    """Each run as text: what was logged in it, and its parent's name."""
    found: Counter[str] = Counter()
    experiments = experiments_of(client)
    listed = client.search_runs(list(experiments), run_view_type=ViewType.ALL)
    names = {run.info.run_id: run.info.run_name for run in listed}
    for run in listed:
        history = {
            key: [_number(m.value) for m in client.get_metric_history(run.info.run_id, key)]
            for key in sorted(run.data.metrics)
            if key not in ("nan", "acc on data")
        }
        tags = {k: v for k, v in run.data.tags.items() if not _is_of_place(k) and run.info.run_id
                not in v}  # fmt: skip
        params = {k: v for k, v in run.data.params.items() if k != "trace_id"}
        inputs = [
            (each.dataset.name, each.dataset.digest, sorted(t.value for t in each.tags))
            for each in run.inputs.dataset_inputs
        ]
        parent = names.get(run.data.tags.get("mlflow.parentRunId", ""))
        found[
            json.dumps(
                [experiments[run.info.experiment_id], _drawn(run.info.run_name),
                 run.info.status, _drawn(params), history, _drawn(tags), sorted(inputs), parent,
                 run.info.lifecycle_stage],
                ensure_ascii=False,
            )
        ] += 1  # fmt: skip
    return found


def _drawn(value: object) -> str:
    """A value as text in which ids, drawn names and locations are all the same."""
    return _DRAWN.sub("drawn", _plain(value))


def _is_of_place(key: str) -> bool:
    return key in OF_PLACE or key.startswith("migrator.")


def _number(value: float) -> str:
    return "nan" if math.isnan(value) else repr(value)


def traces(client: MlflowClient) -> Counter[str]:
    """Each trace as text: its state, its spans by name and parent's name, its assessments."""
    found: Counter[str] = Counter()
    experiments = experiments_of(client)
    for experiment_id, name in experiments.items():
        for trace in client.search_traces(locations=[experiment_id], max_results=500):
            spans = trace.data.spans
            names = {span.span_id: span.name for span in spans}
            shape = sorted(
                [span.name, str(names.get(span.parent_id)), span.span_type,
                 span.status.status_code.value, _plain(span.inputs), _plain(span.outputs)]
                for span in spans
            )  # fmt: skip
            feedback = sorted(
                [a.name, _plain((a.feedback or a.expectation).value), a.source.source_type,
                 str(a.rationale), str(a.valid)]
                for a in trace.info.assessments
            )  # fmt: skip
            found[json.dumps([name, trace.info.state.value, shape, feedback])] += 1
    return found


def _plain(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return re.sub(r"(?<=\d)\.0\b", "", text)


def registry(client: MlflowClient) -> Counter[str]:
    """Each registered model and version as text."""
    found: Counter[str] = Counter()
    for model in [
        *client.search_registered_models(),
        *client.search_registered_models("tags.`mlflow.prompt.is_prompt` = 'true'"),
    ]:
        found[f"{model.name} {model.description} {sorted(model.tags.items())}"] += 1
        found[f"{model.name} {sorted(model.aliases.items())}"] += 1
        for version in client.search_model_versions(f"name = '{model.name}'"):
            facts = [version.version, version.current_stage, version.description, version.status]
            tags = sorted(k for k in version.tags if not _is_of_place(k))
            found[f"{model.name} {facts} {tags}"] += 1
    return found


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1])
def test_runs_are_the_same(pair: tuple[str, str], tmp_path: Path) -> None:
    both(pair, tmp_path, runs)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1])
def test_traces_are_the_same(pair: tuple[str, str], tmp_path: Path) -> None:
    both(pair, tmp_path, traces)


@pytest.mark.parametrize("pair", PAIRS[2:], ids=lambda pair: pair[1])
def test_registered_models_and_prompts_are_the_same(pair: tuple[str, str], tmp_path: Path) -> None:
    both(pair, tmp_path, registry)
