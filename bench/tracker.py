"""What a node costs the workflow that is tracked: ``python bench/tracker.py [nodes]``.

Prints the median time of a node over rounds of a workflow of ``nodes`` nodes
(default 100) that do nothing: bare MLflow spans as MLflow exports them, the same spans with the
export taken out, the tracker in the background and in the foreground, disabled, autologged
functions, and nested runs as the legacy tracker wrote them (skipped where MLflow refuses file
stores). Needs nothing but the project.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlflow

from migrator.tracker import MLFlowTracker

ROUNDS = 7


def timed(label: str, nodes: int, workflow: Callable[[int], None]) -> float:
    """Print what a node of ``workflow(nodes)`` takes, and return its CPU time in microseconds.

    Wall time is what the workflow waits; CPU time of its thread is what can be compared on a
    machine that others use, too.
    """
    workflow(min(nodes, 10))  # warm
    waits, works = [], []
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.thread_time()
        workflow(nodes)
        waits.append((time.perf_counter() - wall) / nodes * 1e6)
        works.append((time.thread_time() - cpu) / nodes * 1e6)
    print(
        f"{label:50} {statistics.median(waits):10.1f} us waited (best {min(waits):.1f}), "
        f"{statistics.median(works):.1f} us of CPU"
    )
    return statistics.median(works)


def bare(nodes: int) -> None:
    """Log the same facts with MLflow's own spans."""
    with mlflow.start_span("workflow", span_type="WORKFLOW") as root:
        root.set_inputs({"topic": "x"})
        for index in range(nodes):
            with mlflow.start_span(f"node{index}", span_type="LLM") as span:
                span.set_attributes(
                    {
                        "node_id": f"node{index}", "model": "gpt-4o-mini",
                        "mlflow.llm.model": "gpt-4o-mini", "provider": "openai",
                        "mlflow.llm.provider": "openai",
                    }
                )  # fmt: skip
                span.set_inputs({"prompt": "p"})
                span.set_outputs("r")
                span.set_attributes(
                    {
                        "mlflow.chat.tokenUsage": {
                            "input_tokens": 1, "output_tokens": 2, "total_tokens": 3
                        },
                        "mlflow.llm.cost": {"total_cost": 0.1},
                        "cost_usd": 0.1,
                    }
                )  # fmt: skip


def tracked(tracker: MLFlowTracker) -> Callable[[int], None]:
    """Return a workflow through the tracker."""

    def workflow(nodes: int) -> None:
        with tracker.track_workflow({"topic": "x"}):
            for index in range(nodes):
                with tracker.track_node(f"node{index}", "gpt-4o-mini"):
                    tracker.log_node_metrics(1, 2, "gpt-4o-mini", 0, "p", "r")

    return workflow


def nested_runs(nodes: int) -> None:
    """Log the same facts as the legacy tracker did."""
    with mlflow.start_run(run_name="workflow"):
        for index in range(nodes):
            with mlflow.start_run(run_name=f"node_{index}", nested=True):
                mlflow.log_param("node_id", f"node{index}")
                mlflow.log_param("node_model", "gpt-4o-mini")
                for key in ("node_duration_ms", "input_tokens", "output_tokens", "retries"):
                    mlflow.log_metric(key, 1)
                mlflow.log_metric("node_cost_usd", 0.1)
                mlflow.set_tag("prompt", "p")
                mlflow.set_tag("response", "r")
                mlflow.log_text("p", "prompt.txt")
                mlflow.log_text("r", "response.txt")


def settings(folder: Path, **more: object) -> MLFlowTracker:
    """Return a tracker on a database in ``folder``."""
    workflow = {"flow": {"name": "bench"}, "config": {"llm": {"provider": "openai"}}}
    return MLFlowTracker(
        {"enabled": True, "tracking_uri": f"sqlite:///{folder / 'bench.db'}", **more}, workflow
    )


def main() -> None:
    """Measure all, in one process."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    print(f"MLflow {mlflow.__version__}, Python {sys.version.split()[0]}, {nodes} nodes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'bench.db'}")
        mlflow.set_experiment("bench")
        exported = timed("bare mlflow.start_span, exported as by default", nodes, bare)

        background = settings(folder)
        with background.track_workflow({}):  # takes the seat: MLflow's spans go our way now
            pass
        spans = timed("bare mlflow.start_span, exported in our background", nodes, bare)
        background.flush()
        waits = timed("tracker, in the background", nodes, tracked(background))
        background.flush()
        first = time.perf_counter()
        for _ in range(ROUNDS):
            tracked(background)(nodes)
        background.flush()
        whole = (time.perf_counter() - first) / ROUNDS / nodes * 1e6
        print(f"{'tracker, until written':50} {whole:10.1f} us waited")
        timed("tracker, in the foreground", nodes, tracked(settings(folder, async_logging=False)))
        disabled = timed("tracker, disabled", nodes * 100, tracked(MLFlowTracker(None)))

        step = background.trace(lambda prompt: "r", name="step")
        plain = mlflow.trace(lambda prompt: "r", name="step")

        def decorated(function: Callable[[str], str]) -> Callable[[int], None]:
            def workflow(count: int) -> None:
                with background.track_workflow({}):
                    for _ in range(count):
                        function("p")

            return workflow

        timed("function, tracker.trace", nodes, decorated(step))
        timed("function, mlflow.trace (as integrations do)", nodes, decorated(plain))
        background.flush()

        mlflow.set_tracking_uri((folder / "mlruns").as_uri())
        try:
            mlflow.set_experiment("bench")
        except mlflow.exceptions.MlflowException as error:
            print(f"nested runs on a file store: {str(error).splitlines()[0][:60]}")
            runs = None
        else:
            runs = timed("legacy: nested runs on a file store", min(nodes, 20), nested_runs)
    print("CPU time of the workflow's thread:")
    print(f"tracker : bare spans, both in our background   {waits / spans:.2f}")
    print(f"tracker : bare spans as exported by default    {waits / exported:.2f}")
    if runs is not None:
        print(f"tracker : nested runs                          {waits / runs:.3f}")
    print(f"disabled: {disabled:.2f} us a node")


if __name__ == "__main__":
    main()
