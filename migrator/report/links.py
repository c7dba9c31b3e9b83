"""The command that serves a converted database, and links into MLflow's pages."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from migrator.conventions import DEFAULT_WORKSPACE
from migrator.outcome.summary import ExperimentSummary, Outcome
from migrator.report.formats import iso_time

MOST_LINKS = 5  # shown; the others are counted
MARGIN_MS = 60_000  # added to the range of a link at both ends


@dataclass(frozen=True, slots=True)
class Link:
    """URLs of an experiment's traces and of its overview; ``overview`` is "" without times."""

    experiment: str
    count: int  # of its traces
    traces: str
    overview: str


def server_command(outcome: Outcome) -> str:
    """Return the command that serves the target database."""
    uri = shlex.quote(outcome.target or "")
    more = ""
    if any(each.workspace != DEFAULT_WORKSPACE for each in outcome.experiments):
        more = " --enable-workspaces"  # without it, MLflow does not open such a database
    return f"mlflow server --backend-store-uri {uri} --port 5000{more}"


def server_url(outcome: Outcome) -> str:
    """Return the URL of the target if it is a server, otherwise that of ``server_command``."""
    if outcome.server is not None:
        return outcome.target or ""
    return "http://127.0.0.1:5000"


def trace_links(outcome: Outcome) -> list[Link]:
    """Links to the experiments that have traces, without deleted ones; the largest come first.

    MLflow's pages show recent days by default; these links set the range of all the traces.
    """
    by_target = _with_traces(outcome.experiments)
    largest = sorted(by_target, key=lambda target_id: -_traces_of(by_target[target_id]))
    return [_link(outcome, by_target[target_id]) for target_id in largest]


def _with_traces(experiments: Sequence[ExperimentSummary]) -> dict[int, list[ExperimentSummary]]:
    """Group the experiments that have traces by their id in the target.

    Several sources may share an experiment. It is deleted in the target if the first one is.
    """
    found: dict[int, list[ExperimentSummary]] = {}
    stages: dict[int, str] = {}
    for experiment in experiments:
        stage = stages.setdefault(experiment.target_id, experiment.lifecycle_stage)
        if stage != "deleted" and experiment.traces + experiment.native_traces:
            found.setdefault(experiment.target_id, []).append(experiment)
    return found


def _traces_of(experiments: Sequence[ExperimentSummary]) -> int:
    return sum(each.traces + each.native_traces for each in experiments)


def _link(outcome: Outcome, experiments: Sequence[ExperimentSummary]) -> Link:
    experiment = experiments[0]
    base = f"{server_url(outcome)}/#/experiments/{experiment.target_id}"
    count = _traces_of(experiments)
    first = [each.first_ms for each in experiments if each.first_ms is not None]
    last = [each.last_ms for each in experiments if each.last_ms is not None]
    if not first or not last:
        traces = f"{base}/traces?startTimeLabel=ALL{_in_workspace(experiment)}"
        return Link(experiment.target_name, count, traces, "")
    # MLflow carries the range over from tab to tab, and the Overview of 3.9 fails on "ALL".
    start, end = iso_time(min(first) - MARGIN_MS), iso_time(max(last) + MARGIN_MS)
    span = f"startTimeLabel=CUSTOM&startTime={start}&endTime={end}{_in_workspace(experiment)}"
    # 3.17 has no page /overview without a tab
    traces, overview = f"{base}/traces?{span}", f"{base}/overview/usage?{span}"
    return Link(experiment.target_name, count, traces, overview)


def _in_workspace(experiment: ExperimentSummary) -> str:
    if experiment.workspace == DEFAULT_WORKSPACE:
        return ""
    return f"&workspace={quote(experiment.workspace)}"
