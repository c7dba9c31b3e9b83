"""Times the same queries on a file store and on the database made of it, through MLflow's client.

    python -m bench.queries 1000 10000

Each store holds so many runs (``bench.stores.workflows``) and a fifth as many traces, written by
MLflow's own file store. Every query is asked ``--repeat`` times of each in turn, and the answers
must be the same on both. Medians are shown. Needs an MLflow that opens file stores without being
told to (before 3.13).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import stores

TRACES = "300000000000000001"


def write_traces(store: str, count: int) -> None:
    """Let MLflow's file store write ``count`` traces into an experiment of their own."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState
    from mlflow.store.tracking.file_store import FileStore

    stores.write_experiment(store, TRACES, "traces")
    target = FileStore(store)
    for n in range(count):
        target.start_trace(
            TraceInfo(
                trace_id=f"tr-{stores.identity('trace', n)}",
                trace_location=TraceLocation.from_experiment_id(TRACES),
                request_time=stores.START_MS + n,
                state=TraceState.ERROR if n % 10 == 0 else TraceState.OK,
                request_preview="What do bees eat?",
                execution_duration=1000,
                trace_metadata={"mlflow.trace_schema.version": "3"},
                tags={"mlflow.traceName": f"flow {n % 7}", "topic": "bees" if n % 2 else "ants"},
            )
        )


def queries() -> dict[str, Callable[[Any], Any]]:
    """Return the queries by name: of a client, an answer that can be compared."""
    run_id = stores.identity("workflow", 7)

    def runs(text: str, order: str) -> Callable[[Any], Any]:
        return lambda client: [
            run.info.run_id
            for run in client.search_runs([stores.EXPERIMENT], text, order_by=[order])
        ]

    def traces(text: str) -> Callable[[Any], Any]:
        return lambda client: [
            trace.info.trace_id
            for trace in client.search_traces(
                locations=[TRACES],
                filter_string=text,
                max_results=100,
                order_by=["timestamp_ms DESC"],
                include_spans=False,
            )
        ]

    return {
        "get_run": lambda client: sorted(client.get_run(run_id).data.metrics.items()),
        "search_runs, the newest 1,000": runs("", "attributes.start_time DESC"),
        "search_runs by a metric and a param": runs(
            "metrics.total_input_tokens > 900 and params.workflow_name = 'article_writer'",
            "attributes.start_time DESC",
        ),
        "search_runs by name": runs(
            "attributes.run_name = 'article_writer_7'", "attributes.start_time DESC"
        ),
        "search_traces, the newest 100": traces(""),
        "search_traces by a tag and status": traces("tags.topic = 'bees' AND status = 'OK'"),
    }


def main() -> None:
    """Make the stores, ask, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("runs", type=int, nargs="+")
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    from mlflow import MlflowClient

    print("| runs | query | file store | database | file store / database |")
    print("|---|---|---|---|---|")
    for count in given.runs:
        folder = tempfile.mkdtemp(prefix="mlflow-migrate-bench-")
        try:
            store, target = f"{folder}/mlruns", f"sqlite:///{folder}/mlflow.db"
            os.makedirs(store)
            stores.workflows(store, count)
            write_traces(store, count // 5)
            ours = [sys.executable, "-m", "migrator.cli", "convert", store, "--to", target]
            subprocess.run([*ours, "--schema", "3.9", "-q"], stdout=subprocess.DEVNULL)
            clients = [MlflowClient(Path(store).as_uri()), MlflowClient(target)]
            for name, ask in queries().items():
                seconds: list[list[float]] = [[], []]
                answers = [ask(client) for client in clients]  # warms both
                if answers[0] != answers[1]:
                    raise SystemExit(f"{name}: the answers differ")
                for _ in range(given.repeat):
                    for client, took in zip(clients, seconds, strict=True):
                        began = time.perf_counter()
                        ask(client)
                        took.append(time.perf_counter() - began)
                old, new = (statistics.median(took) * 1000 for took in seconds)
                print(
                    f"| {count:,} | {name} | {old:.1f} ms | {new:.1f} ms | {old / new:.1f} |",
                    flush=True,
                )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
