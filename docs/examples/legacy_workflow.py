"""Before: the workflow on the legacy tracker, which wrote nested runs to ./mlruns.

`workflow.py` is the same workflow on the new one.
"""

from __future__ import annotations

import mlflow
from article import CONFIG, FLASH, PRO, ask, search
from configurable_agents.observability import MLFlowTracker

mlflow.set_tracking_uri("file:./mlruns")


def write_article(topic: str) -> dict[str, str]:
    """Run the workflow, tracked as a run with nested runs."""
    tracker = MLFlowTracker({"enabled": True, "tracking_uri": "file:./mlruns"}, CONFIG)
    state = {"topic": topic}
    with tracker.track_workflow(inputs={"topic": topic}):
        with tracker.track_node("research", FLASH, tools=["search"]):
            with mlflow.start_run(run_name="tool_search", nested=True):
                mlflow.log_param("tool_name", "search")
                mlflow.log_dict({"query": topic}, "inputs.json")
                documents = search(topic)
                mlflow.log_dict({"documents": documents}, "outputs.json")
            prompt = f"Take notes: {', '.join(documents)}"
            message = ask(FLASH, prompt)
            usage = message.usage_metadata
            tracker.log_node_metrics(
                input_tokens=usage.get("input_tokens", 0),
                output_tokens=usage.get("output_tokens", 0),
                model=FLASH,
                prompt=prompt,
                response=message.content,
            )
            state["notes"] = message.content
        with tracker.track_node("write", PRO):
            prompt = f"Write an article. {state['notes']}"
            message = ask(PRO, prompt)
            usage = message.usage_metadata
            tracker.log_node_metrics(
                input_tokens=usage.get("input_tokens", 0),
                output_tokens=usage.get("output_tokens", 0),
                model=PRO,
                prompt=prompt,
                response=message.content,
            )
            state["article"] = message.content
        if "article" not in state:  # a node that fails is swallowed by the tracker
            tracker.finalize_workflow(state, status="error")
            raise RuntimeError("a node failed; see the log")
        tracker.finalize_workflow(state)
    return state


def report() -> str:
    """Say what the last workflow cost."""
    experiment = mlflow.get_experiment_by_name("configurable_agents")
    runs = mlflow.search_runs(
        [experiment.experiment_id],
        filter_string="params.workflow_name = 'article_writer'",
        order_by=["start_time DESC"],
        max_results=1,
    )
    last = runs.iloc[0]
    tokens = last["metrics.total_input_tokens"] + last["metrics.total_output_tokens"]
    return f"{tokens:.0f} tokens, ${last['metrics.total_cost_usd']:.6f}"


if __name__ == "__main__":
    write_article("Cities")
    print(report())
