"""Values that become assessments: a verdict is a whole value, and one name has one type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.model import Json
from migrator.pipeline import lots
from migrator.transformer.profiles import load_profiles
from migrator.transformer.verdicts import NO, YES, verdict
from tests.support.planskit import run, trace
from tests.support.storekit import START_MS, write_experiment, write_run, write_trace

ASKED: dict[str, Any] = {"texts": {"question.txt": "Who is it?", "response.txt": "Bob"}}


def judged(**given: Any) -> tuple[Json, str | None]:
    """Value and recorded text of the one assessment of a run."""
    (only,) = trace(run("r", **{**ASKED, **given})).assessments
    return only.value, (only.metadata or {}).get("migrator.value")


@pytest.mark.parametrize(
    "text",
    [
        "yes", "Y", " True ", "1", "1.0", "thumbs up", "thumbs_up", "Thumbs-Up!", "THUMBS  UP.",
        "👍", "👍🏽", "👍\ufe0f", "positive", "like", "Liked", "helpful", "useful", "good",
        "correct", "pass", "passed", "👍 Yes", "Helpful 👍🏽", "👍 👍", "thumbs up 👍!",
    ],
)  # fmt: skip
def test_a_positive_verdict(text: str) -> None:
    assert judged(tags={"user_feedback": text}) == (True, text)


@pytest.mark.parametrize(
    "text",
    [
        "no", "N", "FALSE", "0", "0.0", "thumbs down", "thumbs_down", "thumbs-down.", "👎", "👎🏿",
        "negative", "dislike", "disliked", "not helpful", "not_helpful", "unhelpful", "Not useful!",
        "not good", "bad", "incorrect", "not correct", "wrong", "fail", "failed", "👎 No",
        "wrong 👎", "👎👎",
    ],
)  # fmt: skip
def test_a_negative_verdict(text: str) -> None:
    assert judged(tags={"user_feedback": text}) == (False, text)


@pytest.mark.parametrize(
    "text",
    [
        "that is not true", "no good", "not good at all", "not bad", "no idea", "yes and no",
        "yes, but slow", "no, not helpful", "true positive", "false positive", "a true story",
        "The answer looks up the wrong file", "I would like a refund, wrong answer",
        "👎 good grief", "👍👎", "👍 No", "👎 good", "👍 Yes, but slow",
        "good try, wrong file", "yes?", "neutral", "N/A", "null", "none",
        "4/5", "5", "0.5", "-1", "- 1", "+1", "2", "10", "1,0", "upset", "nope", "goodness", "{}",
    ],
)  # fmt: skip
def test_anything_else_stays_text_as_it_was_recorded(text: str) -> None:
    assert judged(tags={"user_feedback": text}) == (text, None)


@pytest.mark.parametrize(
    ("number", "value", "recorded"),
    [(1, True, "1"), (0, False, "0"), (0.5, 0.5, None), (4, 4.0, None), (-1, -1.0, None)],
)
def test_numbers_other_than_0_and_1_are_no_verdict(
    number: float, value: Json, recorded: str | None
) -> None:
    got = judged(metrics={"user_feedback": number})
    assert got == (value, recorded) and type(got[0]) is type(value)


def test_nothing_is_no_assessment() -> None:
    for given in ({"tags": {"user_feedback": ""}}, {"metrics": {"user_feedback": float("nan")}}):
        assert trace(run("r", **{**ASKED, **given})).assessments == ()


def test_values_of_json_keep_their_types() -> None:
    text = 'name = "mine"\nextends = "generic"\n[[assessments]]\nfrom = ["artifact:r.json#ok"]\n'
    profile = load_profiles(texts=[("mine.toml", f'{text}value = "yes-no"\n')])
    cases = {"true": True, "0": False, "3": 3, '"not true"': "not true", '{"a": 1}': {"a": 1}}
    for written, value in cases.items():
        texts = {**ASKED["texts"], "r.json": f'{{"ok": {written}}}'}
        (only,) = trace(run("r", texts=texts), profiles=profile).assessments
        assert only.value == value and type(only.value) is type(value)


def test_values_as_they_are_stay_what_they_were() -> None:
    text = 'name = "mine"\nextends = "generic"\n[[assessments]]\nfrom = ["tag:mood"]\n'
    profile = load_profiles(texts=[("mine.toml", text)])
    for written in ("yes", "1", "👍"):
        (only,) = trace(run("r", **ASKED, tags={"mood": written}), profiles=profile).assessments
        assert only.value == written


def test_no_word_is_both_and_each_is_read_as_it_is_listed() -> None:
    assert not YES & NO
    assert all(verdict(word) is True for word in YES)
    assert all(verdict(word) is False for word in NO)


# -------------------------------------------------------------------------- how a run ended


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"params": {"success": "no"}}, "ERROR"),
        ({"params": {"success": "Failed"}}, "ERROR"),
        ({"params": {"success": "yes"}, "status": "FAILED"}, "OK"),
        ({"params": {"success": "not sure"}}, "OK"),  # the run's own status says so
        ({"metrics": {"success": 0.5}}, "OK"),
        ({"params": {"has_error": "yes"}}, "ERROR"),
        ({"params": {"has_error": "no"}}, "OK"),
        ({"params": {"error": "No error"}}, "OK"),
        ({"tags": {"error_message": "no errors."}}, "OK"),
        ({"tags": {"error": "N/A"}}, "OK"),
        ({"tags": {"error": "no space left on device"}}, "ERROR"),
        ({"texts": {"error.txt": "None"}}, "OK"),
        ({"texts": {"error.json": '{"error": null, "error_type": ""}'}}, "OK"),
        ({"texts": {"error.json": '{"error_type": "ValueError"}'}}, "ERROR"),
    ],
)
def test_a_status_is_read_from_whole_values_too(given: dict[str, Any], status: str) -> None:
    texts = {**ASKED["texts"], **given.pop("texts", {})}
    assert trace(run("r", texts=texts, **given)).status == status


# ------------------------------------------------------------- one name, several types


def write_asked(root: Path, exp: str, number: int, **given: Any) -> None:
    metrics = {"input_tokens": [(START_MS, 5, 0)], **given.pop("metrics", {})}
    write_run(
        root, exp, f"{number:032x}", metrics=metrics,
        params={"model": "m"}, artifacts={"prompt.txt": "Who?", "response.txt": "Bob"}, **given,
    )  # fmt: skip


def mixed(*sources: Path, **options: Any) -> list[tuple[str, str]]:
    outcome = pipeline.scan([str(source) for source in sources], pipeline.Options(**options))
    issues = [i for i in outcome.ledger.issues if i.code.value == "assessment-types-mixed"]
    return [(issue.entity_id, issue.message) for issue in issues]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_name_with_values_of_several_types_is_an_issue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(lots, "FEW_RUNS", 0)
    monkeypatch.setattr("migrator.pipeline.sinks.Discard.lot_runs", 1)
    monkeypatch.setattr("migrator.loader.Writer.lot_runs", 1)
    root = tmp_path / "mlruns"
    for exp in ("7", "8", "9"):
        write_experiment(root, exp, f"exp {exp}")
    for number, text in enumerate(("thumbs_up", "no", "slow answer", "4/5")):
        write_asked(root, "7", number, tags={"user_feedback": text})
    write_asked(root, "7", 90, metrics={"user_feedback": [(START_MS, 0.5, 0)]})
    for number, text in enumerate(("yes", "👎"), 100):
        write_asked(root, "8", number, tags={"user_feedback": text})
    write_asked(root, "9", 200, tags={"user_feedback": "slow answer"})
    assert mixed(root, workers=workers) == [
        ("7", 'The feedback "user_feedback" of experiment 7 has values of 3 types: 1 × number, '
              "2 × text, 2 × true or false."),
    ]  # fmt: skip


def test_the_values_of_native_traces_count_too(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "7", "agents")
    write_asked(root, "7", 1, tags={"user_feedback": "yes"})
    given = {
        "assessment_id": "a-1", "assessment_name": "user_feedback", "trace_id": "tr-" + "a" * 32,
        "source": {"source_type": "HUMAN", "source_id": "ana"}, "feedback": {"value": "great"},
        "create_time": "2024-05-01T00:00:00Z", "last_update_time": "2024-05-01T00:00:00Z",
    }  # fmt: skip
    write_trace(root, "7", "tr-" + "a" * 32, assessments={"a-1": given})
    ((experiment, message),) = mixed(root)
    assert experiment == "7" and "1 × text, 1 × true or false" in message


def test_mlflow_serves_the_verdicts(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "7", "agents")
    texts = ("thumbs up", "thumbs_up", "not helpful", "that is not true")
    for number, text in enumerate(texts):
        write_asked(root, "7", number, tags={"user_feedback": text})
    target = f"sqlite:///{tmp_path}/mlflow.db"
    pipeline.convert([str(root)], target, pipeline.Options(), schema="latest")
    served = MlflowClient(target).search_traces(locations=["7"])
    values: dict[str, object] = {}
    for made in served:
        (feedback,) = [a for a in made.info.assessments if a.name == "user_feedback"]
        assert feedback.feedback is not None
        source = (feedback.metadata or {}).get("migrator.value") or feedback.feedback.value
        values[str(source)] = feedback.feedback.value
    assert values == {
        "thumbs up": True, "thumbs_up": True, "not helpful": False,
        "that is not true": "that is not true",
    }  # fmt: skip
