"""Artifacts that are not what their name says, and profiles that take nothing or too much.

Each has a defined result and an issue code; nothing is a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from migrator import pipeline
from migrator.extractor.filestore import artifacts
from migrator.issues import Code, Severity
from migrator.model import SpanPlan
from migrator.outcome.summary import Outcome
from migrator.pipeline import Options, PlannedTree
from migrator.transformer.trace_totals import decoded
from tests.support import storekit

RUN = "1" * 32
CALL: Mapping[str, Any] = {"params": {"model": "gpt-4o", "prompt": "Say hello to me"}}
EVALUATION = "eval_results_table.json"


def store(root: Path, files: Mapping[str, Any], **given: Any) -> Path:
    storekit.write_experiment(root, "1", "calls")
    return storekit.write_run(root, "1", RUN, artifacts=files, **{**CALL, **given})


def scanned(root: Path, **options: Any) -> tuple[Outcome, list[PlannedTree]]:
    trees: list[PlannedTree] = []
    outcome = pipeline.scan([str(root)], Options(workers=1, **options), on_tree=trees.append)
    assert outcome.ledger.gaps() == []
    return outcome, trees


def only_span(trees: list[PlannedTree]) -> SpanPlan:
    (tree,) = trees
    (trace,) = tree.plan.traces
    (span,) = trace.spans
    return span


def codes(outcome: Outcome) -> list[str]:
    return [issue.code.value for issue in outcome.ledger.issues]


# ----------------------------------------------------------- artifacts that are not as named


@pytest.mark.parametrize("text", ['{"a": ', "[" * 100_000, '{"a": 1} {"b": 2}', "{'a': None"])
def test_json_that_does_not_parse_is_the_spans_text(tmp_path: Path, text: str) -> None:
    store(tmp_path, {"outputs.json": text})
    outcome, trees = scanned(tmp_path)
    assert decoded(only_span(trees), "mlflow.spanOutputs") == text
    assert codes(outcome) == ["artifact-not-json"]


def test_a_prompt_of_two_gigabytes_stays_an_artifact(tmp_path: Path) -> None:
    run = store(tmp_path, {"prompt.txt": b"", "response.txt": "Hello to you"}, params={})
    os.truncate(run / "artifacts" / "prompt.txt", 2 << 30)  # sparse: it takes no room
    outcome, trees = scanned(tmp_path)
    span = only_span(trees)
    assert decoded(span, "mlflow.spanOutputs") == "Hello to you"
    assert "mlflow.spanInputs" not in span.attributes
    assert decoded(span, "legacy.artifacts") == ["prompt.txt", "response.txt"]
    assert codes(outcome) == ["artifact-not-text"]
    assert "2,147,483,648 bytes" in outcome.ledger.issues[0].message


def test_a_binary_response_stays_an_artifact(tmp_path: Path) -> None:
    store(tmp_path, {"response.txt": bytes(range(256))})
    outcome, trees = scanned(tmp_path)
    span = only_span(trees)
    assert "mlflow.spanOutputs" not in span.attributes
    assert decoded(span, "legacy.artifacts") == ["response.txt"]
    assert codes(outcome) == ["artifact-not-text"]


def test_a_response_that_cant_be_read_stays_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, {"response.txt": "Hello"})

    def refuse(path: str, limit_bytes: int) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(artifacts, "read_bytes", refuse)  # root may read everything
    outcome, trees = scanned(tmp_path)
    assert "mlflow.spanOutputs" not in only_span(trees).attributes
    (issue,) = outcome.ledger.issues
    assert issue.code is Code.ARTIFACT_UNREADABLE
    assert issue.path.endswith("response.txt") and "Permission denied" in issue.message


@pytest.mark.parametrize(
    ("name", "text", "says", "traces"),
    [
        (EVALUATION, '{"columns": 5, "data": [[]]}', 'no lists "columns" and "data"', 0),
        (EVALUATION, '["a", 1]', "2 of its 2 entries are not JSON objects", 0),
        ("qa_eval.csv", "topic,n\na,5\n", "no column with an answer or a score", 0),
        (EVALUATION, '{"columns": ["a", "b"], "data": [["x y", "z"], ["x"]]}', "1 of its 2", 1),
        ("llm_predictions.csv", 'inputs,outputs\nask me,told you\n"x', "not CSV after row 1", 1),
    ],
)
def test_a_table_that_is_none_is_named_and_its_good_rows_count(
    tmp_path: Path, name: str, text: str, says: str, traces: int
) -> None:
    store(tmp_path, {name: text}, params={})
    outcome, trees = scanned(tmp_path, include=frozenset({"tables"}))
    assert len(trees[0].plan.traces) == traces
    (issue,) = outcome.ledger.issues
    assert issue.code is Code.ARTIFACT_NOT_TABLE
    assert says in issue.message and issue.path.endswith(name)
    assert codes(scanned(tmp_path)[0]) == []  # nobody asked for tables


def test_event_files_of_no_sense_leave_one_span_of_the_run(tmp_path: Path) -> None:
    events = {
        "chain_start_1.json": '{"action": ',
        "llm_start_2_prompt_0.json": "[]",
        "tool_start_3.json": '"x"',
        "llm_end_1_generation_0.json": '{"step": "NaN"}',
        "chain_end_1.json": '{"step": 1e400}',
        "table_action_records.html": "<table><tr><td>",
    }
    counters = {key: [(storekit.START_MS, 1, 0)] for key in ("step", "chain_starts", "llm_starts")}
    store(tmp_path, events, params={}, metrics=counters)
    outcome, trees = scanned(tmp_path)
    assert trees[0].plan.profile == "langchain-callback"
    assert set(codes(outcome)) == {"artifact-not-json"}
    assert len(only_span(trees).name) > 0


def test_none_of_these_costs_the_run_anything(tmp_path: Path) -> None:
    """What an artifact holds is never a reason to reject: the file lies where it lay."""
    files: dict[str, Any] = {"inputs.json": "{", "prompt.txt": b"\x00", EVALUATION: "no table"}
    store(tmp_path, files)
    outcome, _ = scanned(tmp_path, include=frozenset({"tables"}))
    assert outcome.ledger.has_rejects is False
    assert {issue.severity for issue in outcome.ledger.issues} == {Severity.NOTE}


# --------------------------------------------------------------------------------- profiles


def profile(path: Path, name: str, how: str) -> str:
    path = path / f"{name}.toml"
    path.write_text(f'name = "{name}"\nextends = "generic"\n[[recognise]]\n{how}\n')
    return str(path)


def test_a_profile_of_ones_own_that_takes_nothing_is_named(tmp_path: Path) -> None:
    store(tmp_path / "mlruns", {})
    mine = profile(tmp_path, "mine", 'root_name = "^nothing_is_called_so$"')
    outcome, trees = scanned(tmp_path / "mlruns", profile_files=(mine,))
    assert trees[0].plan.profile == "generic"
    (issue,) = outcome.ledger.issues
    assert (issue.code, issue.path) == (Code.PROFILE_UNUSED, mine)
    assert "took no tree of runs; the sources have 1." in issue.message


def test_a_profile_that_takes_something_or_is_extended_by_one_that_does_is_not_named(
    tmp_path: Path,
) -> None:
    store(tmp_path / "mlruns", {})
    base = profile(tmp_path, "base", 'root_name = "^nothing_is_called_so$"')
    mine = profile(tmp_path, "mine", 'root_has = ["param:model"]')
    text = Path(mine).read_text().replace('"generic"', '"base"')
    Path(mine).write_text(text)
    outcome, trees = scanned(tmp_path / "mlruns", profile_files=(base, mine))
    assert trees[0].plan.profile == "mine"
    assert codes(outcome) == []


def test_of_two_profiles_that_match_equally_well_the_first_named_takes_it(tmp_path: Path) -> None:
    store(tmp_path / "mlruns", {})
    one = profile(tmp_path, "one", 'root_has = ["param:model"]')
    two = profile(tmp_path, "two", 'root_has = ["param:prompt"]')
    for files, taker in (((one, two), "one"), ((two, one), "two")):
        outcome, trees = scanned(tmp_path / "mlruns", profile_files=files)
        assert trees[0].plan.profile == taker
        ambiguous, idle = sorted(outcome.ledger.issues, key=lambda issue: issue.code.value)
        assert ambiguous.code is Code.PROFILE_AMBIGUOUS and taker in ambiguous.kept
        assert idle.code is Code.PROFILE_UNUSED
