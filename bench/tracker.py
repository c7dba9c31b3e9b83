"""What a node costs the workflow that is tracked: ``python bench/tracker.py [nodes]``.

Prints the median time of a node over rounds of a workflow of ``nodes`` nodes
(default 100) that do nothing: bare MLflow spans as MLflow exports them, the same spans with the
export taken out, the tracker in the background and in the foreground, disabled, autologged
functions, and nested runs as the legacy tracker wrote them (skipped where MLflow refuses file
stores). Ratios are of rounds that took turns, because the machine may be busy with other things.
Needs nothing but the project.
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
from mlflow.tracing.config import get_config

from migrator.tracker import MLFlowTracker

ROUNDS = 15


Workflow = Callable[[int], None]


def timed(
    nodes: int, workflows: dict[str, Workflow], before: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Let workflows take turns, each after ``before``; print what a node of each takes.

    Returns the CPU time of a node in microseconds by round. Wall time is what the workflow waits;
    CPU time of its thread is what can be compared on a machine that others use, too.
    """
    waits: dict[str, list[float]] = {label: [] for label in workflows}
    works: dict[str, list[float]] = {label: [] for label in workflows}
    for workflow in workflows.values():
        workflow(min(nodes, 10))  # warm
    for _ in range(ROUNDS):
        for label, workflow in workflows.items():
            before()
            wall, cpu = time.perf_counter(), time.thread_time()
            workflow(nodes)
            waits[label].append((time.perf_counter() - wall) / nodes * 1e6)
            works[label].append((time.thread_time() - cpu) / nodes * 1e6)
    for label in workflows:
        print(
            f"{label:50} {statistics.median(waits[label]):10.1f} us waited "
            f"(best {min(waits[label]):.1f}), {statistics.median(works[label]):.1f} us of CPU"
        )
    return works


def ratio(of: list[float], to: list[float]) -> float:
    """Return the median ratio of two workflows' rounds."""
    return statistics.median(mine / other for mine, other in zip(of, to, strict=True))


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


def tracked(tracker: MLFlowTracker) -> Workflow:
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


def decorated(tracker: MLFlowTracker, function: Callable[[str], str]) -> Workflow:
    """Return a workflow of calls of a traced function."""

    def workflow(count: int) -> None:
        with tracker.track_workflow({}):
            for _ in range(count):
                function("p")

    return workflow


def settings(folder: Path, **more: object) -> MLFlowTracker:
    """Return a tracker on a database in ``folder``."""
    workflow = {"flow": {"name": "bench"}, "config": {"llm": {"provider": "openai"}}}
    return MLFlowTracker(
        {"enabled": True, "tracking_uri": f"sqlite:///{folder / 'bench.db'}", **more}, workflow
    )


def unwatched(workflow: Workflow) -> Workflow:
    """Return a workflow of spans that nobody completes: MLflow's alone."""

    def alone(nodes: int) -> None:
        watching = get_config().span_processors
        mlflow.tracing.configure(span_processors=[])
        try:
            workflow(nodes)
        finally:
            mlflow.tracing.configure(span_processors=watching)

    return alone


def main() -> None:
    """Measure all, in one process."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    print(f"MLflow {mlflow.__version__}, Python {sys.version.split()[0]}, {nodes} nodes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'bench.db'}")
        mlflow.set_experiment("bench")
        default = "bare mlflow.start_span, exported as by default"
        exported = timed(nodes, {default: bare})[default]

        background = settings(folder)
        with background.track_workflow({}):  # takes the seat: MLflow's spans go our way now
            pass
        plain = "bare mlflow.start_span, export taken out"
        ours = "tracker, in the background"
        step = background.trace(lambda prompt: "r", name="step")
        auto = mlflow.trace(lambda prompt: "r", name="step")
        both = timed(
            nodes,
            {
                plain: unwatched(bare),
                ours: tracked(background),
                "function, tracker.trace": decorated(background, step),
                "function, mlflow.trace (as integrations do)": decorated(background, auto),
            },
            background.flush,
        )
        background.flush()
        first = time.perf_counter()
        for _ in range(ROUNDS):
            tracked(background)(nodes)
        background.flush()
        whole = (time.perf_counter() - first) / ROUNDS / nodes * 1e6
        print(f"{'tracker, until written':50} {whole:10.1f} us waited")
        foreground = tracked(settings(folder, async_logging=False))
        timed(nodes, {"tracker, in the foreground": foreground})
        off = timed(nodes * 100, {"tracker, disabled": tracked(MLFlowTracker(None))})

        mlflow.set_tracking_uri((folder / "mlruns").as_uri())
        try:
            mlflow.set_experiment("bench")
        except mlflow.exceptions.MlflowException as error:
            print(f"nested runs on a file store: {str(error).splitlines()[0][:60]}")
            runs = None
        else:
            (runs,) = timed(
                min(nodes, 20), {"legacy: nested runs on a file store": nested_runs}
            ).values()
    print("CPU time of the workflow's thread:")
    print(f"tracker : bare spans, export taken out of both {ratio(both[ours], both[plain]):.2f}")
    print(f"tracker : bare spans as exported by default    {ratio(both[ours], exported):.3f}")
    if runs is not None:
        print(f"tracker : nested runs                          {ratio(both[ours], runs):.3f}")
    print(f"disabled: {statistics.median(off['tracker, disabled']):.2f} us a node")


if __name__ == "__main__":
    main()
