"""Judge traces as they come, migrated and new alike; run it from cron, or in a loop.

    python docs/examples/monitor.py sqlite:///mlflow.db

MLflow 3.9's own online monitoring (`scorer.start`) takes only judges that ask a model through an
AI gateway. Scorers of your own run here, on each trace once.
"""

from __future__ import annotations

import sys
from typing import Any

import mlflow
from mlflow.genai import evaluate, scorer

LIMIT_USD = 0.01


@scorer
def answered(outputs: Any) -> bool:
    """Whether the workflow came to anything."""
    return bool(outputs)


@scorer
def within_budget(trace: Any) -> bool:
    """Whether it cost no more than it may."""
    costs = [a.feedback.value for a in trace.info.assessments if a.name == "cost_usd"]
    return sum(costs) <= LIMIT_USD


def judge_new(uri: str, experiment_name: str) -> int:
    """Judge the traces of an experiment that aren't judged yet; return how many they were."""
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.set_experiment(experiment_name)
    traces = mlflow.MlflowClient().search_traces(
        locations=[experiment.experiment_id], max_results=500, order_by=["timestamp_ms DESC"]
    )
    new = [
        trace
        for trace in traces
        if trace.data.spans and "answered" not in {a.name for a in trace.info.assessments}
    ]
    if new:
        evaluate(data=new, scorers=[answered, within_budget])
    return len(new)


if __name__ == "__main__":
    print(judge_new(sys.argv[1], "configurable_agents"), "judged")
