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
PAGE = 100  # traces read, and judged, at a time


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
    """Judge the traces of an experiment that aren't judged yet, and count them."""
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.set_experiment(experiment_name)
    judged = 0
    page_token = None
    while True:
        page = mlflow.MlflowClient().search_traces(
            locations=[experiment.experiment_id],
            max_results=PAGE,
            order_by=["timestamp_ms DESC"],
            page_token=page_token,
        )
        new = [trace for trace in page if trace.data.spans and not is_judged(trace)]
        if new:
            evaluate(data=new, scorers=[answered, within_budget])
            judged += len(new)
        page_token = page.token
        if not page_token:
            return judged


def is_judged(trace: Any) -> bool:
    """Whether an earlier run of this script has judged the trace."""
    return any(assessment.name == "answered" for assessment in trace.info.assessments)


if __name__ == "__main__":
    print(judge_new(sys.argv[1], "configurable_agents"), "judged")
