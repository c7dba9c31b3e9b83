"""Traces know the prompt versions of MLflow's registry that they used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities.model_registry import PromptVersion

from tests.support import trackerkit
from tests.support.trackerkit import only, spans, tracker

MINI = "gpt-4o-mini"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with trackerkit.restored():
        yield


@pytest.mark.parametrize("by_address", [False, True])
def test_prompt_version_is_linked_to_the_trace(by_address: bool, tmp_path: Path) -> None:
    track = tracker(tmp_path)
    mlflow.genai.register_prompt("outline", "Outline {{topic}}.")
    version = mlflow.genai.register_prompt("outline", "Outline {{topic}} in short.")
    assert isinstance(version, PromptVersion) and version.version == 2
    prompt = "prompts:/outline/2" if by_address else version
    with track.track_workflow({}), track.track_node("plan", MINI):
        track.log_node_metrics(10, 1, MINI, prompt=prompt)
    trace = only(track)
    linked = json.loads(trace.info.tags["mlflow.linkedPrompts"])
    assert linked == [{"name": "outline", "version": "2"}]
    shown = "prompts:/outline/2" if by_address else "Outline {{topic}} in short."
    assert spans(trace)["plan"].inputs == {"prompt": shown}


@pytest.mark.parametrize("prompt", ["Outline cities.", "prompts:/outline@newest", "prompts:/x"])
def test_other_prompts_are_texts(prompt: str, tmp_path: Path) -> None:
    track = tracker(tmp_path)
    with track.track_workflow({}), track.track_node("plan", MINI):
        track.log_node_metrics(10, 1, MINI, prompt=prompt)
    trace = only(track)
    assert "mlflow.linkedPrompts" not in trace.info.tags
    assert spans(trace)["plan"].inputs == {"prompt": prompt}


def test_the_link_is_what_mlflows_prompt_page_asks_for(tmp_path: Path) -> None:
    track = tracker(tmp_path)
    version = mlflow.genai.register_prompt("outline", "Outline {{topic}}.")
    with track.track_workflow({}), track.track_node("plan", MINI):
        track.log_node_metrics(10, 1, MINI, prompt=version)
    trace = only(track)
    found = mlflow.search_traces(
        locations=[trace.info.experiment_id], filter_string="prompt = 'outline/1'",
        return_type="list",
    )  # fmt: skip
    assert [each.info.trace_id for each in found] == [trace.info.trace_id]
