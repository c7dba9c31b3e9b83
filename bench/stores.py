"""Writes file stores fast, byte for byte as MLflow 2.22 writes them (``tests/test_bench.py``).

    python -m bench.stores workflows 10000 /tmp/store

Shapes: ``workflows`` (a root and four nodes, the legacy tracker's keys), ``wide`` (one parent),
``deep`` (one chain), ``training`` (25 params and 21 metrics of 21 points in each run), ``metrics``
(one run of so many metrics with 1,000 points each), ``experiments`` (one run in each).
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

START_MS = 1_700_000_000_000
EXPERIMENT = "100000000000000001"
TEXT = "The quick brown fox jumps over the lazy dog. " * 8


def identity(*parts: object) -> str:
    """Return 32 hex digits for a name."""
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()


def scalar(text: str) -> str:
    """Return a text as MLflow's YAML writer puts it after a key."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)+", text, re.ASCII):
        return text  # nearly all: a letter first and a mark inside, so neither number nor keyword
    dumped: str = yaml.safe_dump({"k": text}, allow_unicode=True, width=sys.maxsize)
    return dumped.removeprefix("k: ").removesuffix("\n")


def write_file(path: str, text: str) -> None:
    """Write one small file; its directory must exist."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(handle, text.encode())
    os.close(handle)


def write_keyed(folder: str, key: str, text: str) -> None:
    """Write the file of a key, which may have directories in it."""
    if "/" in key:
        os.makedirs(os.path.dirname(f"{folder}/{key}"), exist_ok=True)
    write_file(f"{folder}/{key}", text)


def write_experiment(
    root: str,
    experiment: str,
    name: str,
    *,
    created_ms: int = START_MS,
    artifact_root: str | None = None,
) -> None:
    """Write an active experiment's directory and ``meta.yaml``."""
    path = f"{root}/{experiment}"
    os.makedirs(path, exist_ok=True)
    write_file(
        f"{path}/meta.yaml",
        f"artifact_location: file://{artifact_root or root}/{experiment}\n"
        f"creation_time: {created_ms}\n"
        f"experiment_id: '{experiment}'\nlast_update_time: {created_ms}\n"
        f"lifecycle_stage: active\nname: {scalar(name)}\n",
    )


def write_run(
    root: str,
    experiment: str,
    run_id: str,
    name: str,
    *,
    start_ms: int,
    end_ms: int,
    user: str = "ana",
    artifact_root: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, Sequence[tuple[int, float, int]]] | None = None,
    artifacts: Mapping[str, str] | None = None,
) -> None:
    """Write one finished run: ``meta.yaml`` and a file for each param, tag, metric, artifact."""
    path = f"{root}/{experiment}/{run_id}"
    for folder in ("", "/metrics", "/params", "/tags", "/artifacts"):
        os.mkdir(path + folder)
    write_file(
        f"{path}/meta.yaml",
        f"artifact_uri: file://{artifact_root or root}/{experiment}/{run_id}/artifacts\n"
        f"end_time: {end_ms}\nentry_point_name: ''\nexperiment_id: '{experiment}'\n"
        f"lifecycle_stage: active\nrun_id: {scalar(run_id)}\nrun_name: {scalar(name)}\n"
        f"run_uuid: {scalar(run_id)}\n"
        f"source_name: ''\nsource_type: 4\nsource_version: ''\nstart_time: {start_ms}\n"
        f"status: 3\ntags: []\nuser_id: {scalar(user)}\n",
    )
    for key, value in (params or {}).items():
        write_keyed(f"{path}/params", key, value)
    for key, value in (tags or {}).items():
        write_keyed(f"{path}/tags", key, value)
    for key, points in (metrics or {}).items():
        lines = "".join(f"{time_ms} {value} {step}\n" for time_ms, value, step in points)
        write_keyed(f"{path}/metrics", key, lines)
    for key, value in (artifacts or {}).items():
        write_keyed(f"{path}/artifacts", key, value)


def own_tags(name: str, parent: str | None = None) -> dict[str, str]:
    """Return the tags that MLflow gives every run."""
    tags = {
        "mlflow.runName": name,
        "mlflow.source.name": "agents.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": "ana",
    }
    return tags | ({"mlflow.parentRunId": parent} if parent else {})


def workflow(root: str, number: int, nodes: int = 4) -> None:
    """Write one workflow of the legacy tracker: a root and its nodes, one after another."""
    root_id = identity("workflow", number)
    start = START_MS + number * 60_000
    tokens = [(200 + 7 * n + number % 50, 80 + n) for n in range(nodes)]
    for n, (tokens_in, tokens_out) in enumerate(tokens):
        name = f"node_step{n}"
        end = start + 1000 * (n + 1)
        write_run(
            root, EXPERIMENT, identity("node", number, n), name,
            start_ms=start + 1000 * n + 5, end_ms=end,
            params={"node_id": f"step{n}", "node_model": "gpt-4o-mini"},
            tags=own_tags(name, root_id) | {"prompt": TEXT, "response": TEXT[:200]},
            metrics={
                "node_duration_ms": [(end, 995.0, 0)],
                "input_tokens": [(end, float(tokens_in), 0)],
                "output_tokens": [(end, float(tokens_out), 0)],
                "node_cost_usd": [(end, 0.000123, 0)],
                "retries": [(end, 0.0, 0)],
            },
            artifacts={"prompt.txt": TEXT, "response.txt": TEXT[:200]},
        )  # fmt: skip
    end = start + 1000 * nodes + 10
    name = f"article_writer_{number}"
    write_run(
        root, EXPERIMENT, root_id, name, start_ms=start, end_ms=end,
        params={
            "workflow_name": "article_writer", "workflow_version": "1.0", "schema_version": "1.0",
            "global_model": "gpt-4o-mini", "global_provider": "openai",
            "global_temperature": "0.7", "node_count": str(nodes),
        },
        tags=own_tags(name),
        metrics={
            "duration_seconds": [(end, (end - start) / 1000, 0)],
            "total_input_tokens": [(end, float(sum(t for t, _ in tokens)), 0)],
            "total_output_tokens": [(end, float(sum(t for _, t in tokens)), 0)],
            "total_cost_usd": [(end, 0.000492, 0)],
            "node_count": [(end, float(nodes), 0)],
            "retry_count": [(end, 0.0, 0)],
            "status": [(end, 1.0, 0)],
        },
        artifacts={"inputs.json": '{"topic": "bees"}', "outputs.json": '{"article": "Bees."}'},
    )  # fmt: skip


def workflows(root: str, runs: int) -> None:
    """Write ``runs`` runs as workflows of five."""
    write_experiment(root, EXPERIMENT, "configurable_agents")
    for number in range(runs // 5):
        workflow(root, number)


def wide(root: str, runs: int) -> None:
    """Write one parent with ``runs - 1`` children."""
    write_experiment(root, EXPERIMENT, "wide")
    parent = identity("parent")
    _small(root, parent, "parent", 0, None)
    for n in range(1, runs):
        _small(root, identity("child", n), f"step {n}", n, parent)


def deep(root: str, runs: int) -> None:
    """Write a chain of ``runs`` runs, each the child of the one before."""
    write_experiment(root, EXPERIMENT, "deep")
    for n in range(runs):
        parent = identity("link", n - 1) if n else None
        _small(root, identity("link", n), f"step {n}", n, parent)


def _small(root: str, run_id: str, name: str, n: int, parent: str | None) -> None:
    write_run(
        root, EXPERIMENT, run_id, name, start_ms=START_MS + n, end_ms=START_MS + 1_000_000,
        params={"model": "gpt-4o-mini"}, tags=own_tags(name, parent) | {"prompt": TEXT},
        metrics={"input_tokens": [(START_MS + n, 5.0, 0)]},
    )  # fmt: skip


def training(root: str, runs: int) -> None:
    """Write ``runs`` ordinary training runs, shaped as those of a large real store.

    3,558 of them are 1.57 million metric points and 88,950 params in 188,575 files.
    """
    write_experiment(root, EXPERIMENT, "training")
    for n in range(runs):
        points = [(START_MS + i, i * 0.001 + n, i) for i in range(21)]
        write_run(
            root, EXPERIMENT, identity("train", n), f"train {n}",
            start_ms=START_MS, end_ms=START_MS + 1000,
            params={f"param{p}": f"{p + n / 1000}" for p in range(25)},
            tags=own_tags(f"train {n}") | {"stage": "fit", "framework": "torch"},
            metrics={f"metric{m}": points for m in range(21)},
        )  # fmt: skip


def metrics(root: str, count: int) -> None:
    """Write one run with ``count`` metrics of 1,000 points each."""
    write_experiment(root, EXPERIMENT, "training")
    points = [(START_MS + i, i * 0.001, i) for i in range(1000)]
    write_run(
        root, EXPERIMENT, identity("train"), "train", start_ms=START_MS, end_ms=START_MS + 1000,
        params={"lr": "0.1"}, tags=own_tags("train"),
        metrics={f"metric{m}": points for m in range(count)},
    )  # fmt: skip


def experiments(root: str, runs: int) -> None:
    """Write ``runs`` experiments with one run each."""
    for n in range(runs):
        experiment = str(200_000_000_000_000_000 + n)
        write_experiment(root, experiment, f"experiment {n}")
        write_run(
            root, experiment, identity("only", n), "only", start_ms=START_MS,
            end_ms=START_MS + 1, params={"lr": "0.1"}, tags=own_tags("only"),
        )  # fmt: skip


SHAPES = {
    "workflows": workflows,
    "wide": wide,
    "deep": deep,
    "training": training,
    "metrics": metrics,
    "experiments": experiments,
}


def main() -> None:
    """Write a store: shape, number of runs, directory (must not exist)."""
    shape, runs, directory = sys.argv[1:4]
    Path(directory).mkdir(parents=True)
    SHAPES[shape](str(Path(directory).resolve()), int(runs))


if __name__ == "__main__":
    main()
