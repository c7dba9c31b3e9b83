"""Traces from the tables that a run logged: which files, which rows, and what a column means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from migrator.issues import Code
from migrator.model import Json, Role, RunRecord, TracePlan
from migrator.transformer import PlanOptions, load_profiles
from migrator.transformer.logged_tables import read_rows, read_tables
from tests.support.planskit import plan, run, span, trace, value

TABLES = PlanOptions(include=frozenset({"tables"}), version="test")
PLAIN = PlanOptions(version="test")


def split(columns: Sequence[str], *rows: Sequence[Any]) -> str:
    """Return the text that ``mlflow.log_table`` writes."""
    return json.dumps({"columns": list(columns), "data": [list(row) for row in rows]})


def csv_text(*rows: Sequence[str]) -> str:
    """Return the text of a CSV file without quotes."""
    return "".join(",".join(row) + "\n" for row in rows)


def logged(
    name: str, tables: Mapping[str, str], parent: str | None = None, **given: Any
) -> RunRecord:
    """Build a run that logged the tables by ``mlflow.log_table``."""
    entries = [{"path": path, "type": "table"} for path in tables]
    tags = {"mlflow.loggedArtifacts": json.dumps(entries), **given.pop("tags", {})}
    return run(name, parent, texts={**given.pop("texts", {}), **tables}, tags=tags, **given)


def shown(made: TracePlan) -> tuple[Any, Any]:
    root = made.spans[0]
    return value(root, "mlflow.spanInputs"), value(root, "mlflow.spanOutputs")


def judged(made: TracePlan, kind: str) -> dict[str, Any]:
    found = {a.name: a.value for a in made.assessments if a.type == kind}
    return {name: each for name, each in found.items() if name not in ("total_tokens", "cost_usd")}


QA = split(["question", "response", "grade"], ["Why is it blue?", "It scatters.", 4])


# ----------------------------------------------------------------------------- which tables


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("deep/my_own_name.json", QA),
        ("rows.json", '[{"question": "Why is it blue?", "response": "It scatters.", "grade": 4}]'),
        (
            "run.json",
            '{"meta": {"n": 1}, "cases": [{"question": "Why is it blue?", "response": '
            '"It scatters.", "grade": 4}]}',
        ),
        (
            "frame.json",
            '{"question": {"0": "Why is it blue?"}, "response": {"0": "It scatters."}, '
            '"grade": {"0": 4}}',
        ),
        (
            "lines.jsonl",
            '{"question": "Why is it blue?", "response": "It scatters.", "grade": 4}\n',
        ),
        ("sheet.csv", "question,response,grade\nWhy is it blue?,It scatters.,4\n"),
        ("excel.csv", "\ufeffquestion,response,grade\nWhy is it blue?,It scatters.,4\n"),
        ("pipes.csv", "question|response|grade\nWhy is it blue?|It scatters.|4\n"),
        ("quotes.csv", '"question";"response";"grade";"n, m"\nWhy is it blue?;It scatters.;4;12\n'),
        ("sheet.tsv", "question\tresponse\tgrade\nWhy is it blue?\tIt scatters.\t4\n"),
    ],
)
def test_table_is_known_by_its_shape_in_any_file(path: str, text: str) -> None:
    (made,) = plan(run("r", texts={path: text}), options=TABLES).traces
    assert shown(made) == ({"question": "Why is it blue?"}, "It scatters.")
    assert judged(made, "feedback") == {"grade": 4}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("loss.json", split(["epoch", "loss"], [1, 0.5], [2, 0.25])),
        (
            "predictions.csv",
            "sepal_length,target,prediction\n5.1,setosa,setosa\n4.9,setosa,virginica\n",
        ),
        ("model/input_example.json", split(["question"], ["Why is it blue?"])),
        ("importance.csv", "feature,weight\nage,0.5\nincome,0.25\n"),
        ("params.json", '{"model": "gpt-4o", "temperature": 0.5}'),
        ("classes.json", '["cat", "dog"]'),
    ],
)
def test_other_files_make_no_traces(path: str, text: str) -> None:
    made = plan(run("r", texts={path: text}), options=TABLES)
    assert (made.traces, made.left_as_runs) == ((), "flat")


@pytest.mark.parametrize(
    "rows",
    [
        '{"0": {"question": "Why?", "response": "So."}, '
        '"1": {"question": "Who?", "response": "I."}}',
        '{"question": "Why?", "response": "So."}\n{"question": "Who?", "response": "I."}\n',
        '{"dev": [{"question": "Why?", "response": "So."}], "test": [{"question": "Who?", '
        '"response": "I."}], "n": 2}',
    ],
)
def test_rows_of_json_in_the_forms_that_people_write(rows: str) -> None:
    made = plan(run("r", texts={"mine.json": rows}), options=TABLES).traces
    assert [shown(each) for each in made] == [
        ({"question": "Why?"}, "So."),
        ({"question": "Who?"}, "I."),
    ]


def test_names_of_rows_that_are_models_name_them() -> None:
    rows = {
        "gpt-4o": {"question": "Why?", "response": "So."},
        "claude-3-haiku": {"question": "Why?", "response": "Because."},
    }
    made = plan(run("r", texts={"mine.json": json.dumps(rows)}), options=TABLES).traces
    assert [value(each.spans[0], "mlflow.llm.model") for each in made] == list(rows)


def test_nested_evaluations_make_a_trace_for_each_row_though_a_model_is_named() -> None:
    tree = [
        run("compare"),
        logged("a", {"t.json": QA}, "compare", params={"model": "gpt-4o"}),
        logged("b", {"t.json": QA}, "compare", params={"model": "claude-3-opus"}),
    ]
    made = plan(*tree, options=TABLES)
    assert made.role is Role.BATCH
    models = [value(t.spans[0], "mlflow.llm.model") for t in made.traces]
    assert models == ["gpt-4o", "claude-3-opus"]
    assert [shown(t)[1] for t in made.traces] == ["It scatters."] * 2
    without = plan(*tree, options=PLAIN)
    assert (without.traces, without.left_as_runs) == ((), "tables")


@pytest.mark.parametrize("key", ["model", "model_name", "llm", "model_id", "llm_model"])
def test_name_of_the_model_stands_on_each_trace(key: str) -> None:
    (made,) = plan(logged("r", {"t.json": QA}, params={key: "gpt-4o"}), options=TABLES).traces
    assert value(made.spans[0], "mlflow.llm.model") == "gpt-4o"
    assert made.spans[0].type == "LLM"


def test_model_of_the_parent_is_that_of_its_tables() -> None:
    tree = [run("top", params={"model": "gpt-4o"}), logged("a", {"t.json": QA}, "top")]
    (made,) = plan(*tree, options=TABLES).traces
    assert value(made.spans[0], "mlflow.llm.model") == "gpt-4o"


def test_call_keeps_its_trace_and_its_table_makes_others() -> None:
    texts = {"prompt.txt": "What is the sea made of?", "response.txt": "Water and salt."}
    record = logged("r", {"t.json": QA}, texts=texts)
    own, row = plan(record, options=TABLES).traces
    assert shown(own) == ({"prompt": "What is the sea made of?"}, "Water and salt.")
    assert shown(row) == ({"question": "Why is it blue?"}, "It scatters.")
    alone = plan(record, options=PLAIN)
    assert len(alone.traces) == 1
    (issue,) = [i for i in alone.issues if i.code is Code.TABLES_UNUSED]
    assert "1 table" in issue.message and "t.json" in issue.message
    assert not plan(record, options=TABLES).issues


def test_logged_table_is_nobodys_prompt() -> None:
    record = logged("r", {"messages.json": split(["role", "content"], ["user", "Hi there"])})
    made = plan(record, options=PLAIN)
    assert made.traces == ()


def test_profile_that_extends_the_built_in_one_makes_rows_too() -> None:
    text = """
name = "ours"
extends = "evaluation-tables"
[[recognise]]
root_has = ["param:suite"]
[fields]
tables = ["artifact:qa.csv"]
outputs = ["param:verdict_text"]
"""
    profiles = load_profiles(texts=[("ours.toml", text)])
    csv = "question,verdict_text,faithfulness\nWhy is it blue?,It is the air.,0.75\n"
    record = run("r", texts={"qa.csv": csv}, params={"suite": "s", "model": "gpt-4o"})
    made = plan(record, profiles=profiles, options=TABLES)
    assert made.profile == "ours"
    (only,) = made.traces
    assert shown(only) == ({"question": "Why is it blue?"}, "It is the air.")
    assert judged(only, "feedback") == {"faithfulness": 0.75}


# -------------------------------------------------------------------------------- the columns


def columns(names: Sequence[str], *rows: Sequence[Any]) -> TracePlan:
    record = logged("r", {"t.json": split(names, *rows)})
    return plan(record, options=TABLES).traces[0]


def test_scores_of_ragas_are_feedback_and_its_reference_is_expected() -> None:
    text = (
        "user_input,retrieved_contexts,response,reference,faithfulness,factual_correctness(mode=f1)\n"
        "Who won the cup?,\"['Green Bay won']\",Green Bay,The Packers,0.5,0.25\n"
        "Who lost it?,[],Kansas,The Chiefs,,1\n"
    )
    first, second = plan(run("r", texts={"ragas_results.csv": text}), options=TABLES).traces
    assert shown(first) == (
        {"user_input": "Who won the cup?", "retrieved_contexts": ["Green Bay won"]},
        "Green Bay",
    )
    assert judged(first, "feedback") == {"faithfulness": 0.5, "factual_correctness(mode=f1)": 0.25}
    assert judged(first, "expectation") == {"reference": "The Packers"}
    assert judged(second, "feedback") == {"factual_correctness(mode=f1)": 1}


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        (["B", "C"], "expectation", "B"),
        ([True, False], "feedback", True),
        ([1, 0], "feedback", 1),
        (["yes", "no"], "feedback", True),
    ],
)
def test_correct_is_the_right_letter_or_a_score_by_its_cells(
    cells: list[Any], kind: str, expected: Any
) -> None:
    rows = [["Which one is it?", "A", cell, "It said so."] for cell in cells]
    made = columns(["question", "prediction", "correct", "reason"], *rows)
    assert judged(made, kind) == {"correct": expected}
    assert shown(made)[1] == {"prediction": "A", "reason": "It said so."}


def test_answer_is_expected_when_a_response_stands_beside_it() -> None:
    alone = columns(["question", "answer"], ["Where is it?", "In the north."])
    assert shown(alone)[1] == "In the north."
    beside = columns(
        ["question", "answer", "response"], ["Where is it?", "North.", "In the north."]
    )
    assert shown(beside)[1] == "In the north."
    assert judged(beside, "expectation") == {"answer": "North."}


@pytest.mark.parametrize(
    ("score", "reason", "name"),
    [
        ("score", "reason", "score"),
        ("tone", "tone_reason", "tone"),
        ("tone/v1/score", "tone/v1/justification", "tone"),
        ("tone/value", "tone/rationale", "tone"),
        ("response/llm_judged/tone/rating", "response/llm_judged/tone/rationale", "tone"),
    ],
)
def test_score_has_the_reason_that_stands_beside_it(score: str, reason: str, name: str) -> None:
    row = ["What is it?", "It is that.", 4, "It is polite enough."]
    made = columns(["request", "response", score, reason], row)
    found = [(a.name, a.value, a.rationale, a.source_type) for a in made.assessments]
    assert found == [(name, 4, "It is polite enough.", "LLM_JUDGE")]
    assert shown(made) == ({"request": "What is it?"}, "It is that.")


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("metrics", [{"name": "tone", "score": 0.5, "reason": "It is polite."}]),
        ("scores", {"tone": {"value": 0.5, "rationale": "It is polite."}}),
        ("scores", '{"tone": 0.5}'),
        (
            "assessments",
            [{"assessment_name": "tone", "feedback": {"value": 0.5}, "rationale": "It is polite."}],
        ),
    ],
)
def test_cell_with_several_scores_gives_each(column: str, cell: Any) -> None:
    made = columns(["question", "response", column], ["Where is it?", "There.", cell])
    assert judged(made, "feedback") == {"tone": 0.5}
    assert shown(made) == ({"question": "Where is it?"}, "There.")


def test_scores_of_a_prompt_flow_are_feedback() -> None:
    line = {
        "inputs.question": "Where is it?",
        "outputs.answer": "There.",
        "outputs.groundedness": 5,
    }
    record = run("r", texts={"instance_results.jsonl": json.dumps(line)})
    (made,) = plan(record, options=TABLES).traces
    assert judged(made, "feedback") == {"groundedness": 5}
    assert shown(made)[1] == "There."


def test_counts_times_and_names_are_facts_not_scores() -> None:
    names = ["question", "response", "latency_ms", "prompt_tokens", "n_chunks", "category", "top_p"]
    made = columns(names, ["Where is it?", "There.", 250, 12, 1, "geo", 0.5])
    assert judged(made, "feedback") == {}
    assert shown(made) == ({"question": "Where is it?"}, "There.")
    assert made.execution_ms == 250
    assert value(made.spans[0], "legacy.column.category") == "geo"


@pytest.mark.parametrize(
    ("asked", "answered", "rows"),
    [
        ("질문", "답변", [["하늘은 왜 파란가요?", "산란 때문입니다."]]),
        ("frage", "antwort", [["Wie spät ist es?", "Kurz nach acht."]]),
        ("col_a", "col_b", [["What is a river?", "Flowing water."], ["Why so?", "It is low."]]),
    ],
)
def test_text_beside_a_question_is_the_answer_in_any_language(
    asked: str, answered: str, rows: list[list[str]]
) -> None:
    record = run("r", texts={"any.json": split([asked, answered], *rows)})
    made = plan(record, options=TABLES).traces
    assert [shown(each) for each in made] == [({asked: row[0]}, row[1]) for row in rows]


def test_two_texts_beside_a_question_are_both_given() -> None:
    made = columns(
        ["frage", "a", "b", "grade"], ["Wie spät ist es?", "Kurz nach acht.", "Um 8.", 4]
    )
    expected = {"frage": "Wie spät ist es?", "a": "Kurz nach acht.", "b": "Um 8."}
    assert shown(made) == (expected, None)


@pytest.mark.parametrize("name", ["comments", "grader_comment", "Remarks", "judge_reasoning"])
def test_words_of_a_grader_explain_the_one_score_beside_them(name: str) -> None:
    names = ["question", "prediction", "correct", name]
    rows = [["Who?", "Ada", False, "It should say Bea."], ["Where?", "Here", True, "ok"]]
    record = run("r", texts={"t.json": split(names, *rows)})
    made = plan(record, options=TABLES).traces
    found = [(a.name, a.value, a.source_type, a.rationale) for m in made for a in m.assessments]
    assert found == [
        ("correct", False, "LLM_JUDGE", "It should say Bea."),
        ("correct", True, "LLM_JUDGE", "ok"),
    ]
    assert [shown(each)[1] for each in made] == ["Ada", "Here"]


def test_words_of_a_grader_beside_two_scores_are_a_fact() -> None:
    names = ["question", "response", "tone_score", "style_score", "comments"]
    made = columns(names, ["Who?", "Ada", 4, 5, "It is fine."])
    assert [each.rationale for each in made.assessments] == [None, None]
    assert value(made.spans[0], "legacy.column.comments") == "It is fine."
    assert shown(made) == ({"question": "Who?"}, "Ada")


def test_comment_without_a_question_is_what_was_classified() -> None:
    made = columns(["comment", "prediction", "label"], ["It came late again.", "bad", "bad"])
    assert shown(made) == ({"comment": "It came late again."}, "bad")


def test_object_with_a_score_is_feedback_under_any_name() -> None:
    cell = {"score": 4, "reason": "It is polite."}
    made = columns(["question", "response", "my_check"], ["Where is it?", "There.", cell])
    (only,) = made.assessments
    assert (only.name, only.value, only.rationale) == ("my_check", 4, "It is polite.")


def test_counts_and_times_among_scores_are_none() -> None:
    cell = {"tone": 0.5, "latency": 0.3, "total_tokens": 12}
    made = columns(["question", "response", "metrics"], ["Where is it?", "There.", cell])
    assert judged(made, "feedback") == {"tone": 0.5}
    assert value(made.spans[0], "legacy.column.metrics") == cell


def test_object_of_expectations_gives_each() -> None:
    cell = {"expected_response": "There.", "facts": ["a", "b"]}
    made = columns(["question", "response", "expectations"], ["Where is it?", "There.", cell])
    assert judged(made, "expectation") == cell
    reference = {"city": "Rome"}
    made = columns(["question", "response", "reference"], ["Where is it?", "There.", reference])
    assert judged(made, "expectation") == {"reference": reference}


def test_models_side_by_side_in_a_row_are_a_trace_each() -> None:
    names = ["question", "gold", "gpt-4o_answer", "gpt-4o_score", "llama3_answer", "llama3_score"]
    rows = [
        ["What is 2+2?", "4", "It is 4.", 0.75, "It is four.", 0.5],
        ["What is 3+3?", "6", "It is 6.", 1, "", ""],
    ]
    made = plan(run("r", texts={"t.json": split(names, *rows)}), options=TABLES).traces
    assert [value(each.spans[0], "mlflow.llm.model") for each in made] == [
        "gpt-4o",
        "llama3",
        "gpt-4o",
    ]
    assert shown(made[1]) == ({"question": "What is 2+2?"}, "It is four.")
    assert [judged(each, "feedback") for each in made] == [
        {"score": 0.75},
        {"score": 0.5},
        {"score": 1},
    ]
    assert [judged(each, "expectation") for each in made][:2] == [{"gold": "4"}] * 2


def test_columns_named_as_models_hold_their_answers() -> None:
    names = ["question", "gpt-4o", "claude-3-haiku", "gpt-4o_notes"]
    rows = [["What is 2+2?", "It is 4.", "It is four.", "short"]]
    first, second = rows_in(split(names, *rows))
    assert models_of([first, second]) == ["gpt-4o", "claude-3-haiku"]
    assert (shown(first)[1], shown(second)[1]) == ("It is 4.", "It is four.")
    (alone,) = rows_in(split(["question", "gold", "gpt-4o"], ["What is 2+2?", "4", "It is 4."]))
    assert (models_of([alone]), shown(alone)[1]) == (["gpt-4o"], "It is 4.")


@pytest.mark.parametrize(
    ("names", "models"),
    [
        (["prompt", "response_a", "response_b", "model_a", "model_b", "winner"], ["m-1", "m-2"]),
        (["prompt", "base_output", "tuned_output", "x", "y", "winner"], [None, None]),
    ],
)
def test_two_systems_side_by_side_are_a_trace_each(names: list[str], models: list[Any]) -> None:
    row = ["Why is it blue?", "It scatters.", "The sea.", "m-1", "m-2", "a"]
    record = run("r", texts={"t.json": split(names, row)})
    first, second = plan(record, options=TABLES).traces
    assert (shown(first)[1], shown(second)[1]) == ("It scatters.", "The sea.")
    assert judged(second, "feedback") == {"winner": "a"}
    keys = [each.spans[0].attributes.get("mlflow.llm.model") for each in (first, second)]
    assert keys == [json.dumps(each) if each else None for each in models]


def test_drafts_and_context_beside_an_answer_are_no_other_models() -> None:
    names = ["question", "draft_answer", "final_answer", "gpt_context"]
    made = columns(names, ["Why is it blue?", "The sea.", "It scatters.", "Air."])
    assert shown(made)[1] == {"draft_answer": "The sea.", "final_answer": "It scatters."}


def test_column_of_models_names_them_and_one_with_other_words_does_not() -> None:
    def of(name: str, cells: Sequence[str]) -> list[Any]:
        rows = [["Where is it?", "There.", cell] for cell in cells]
        record = run("r", texts={"t.json": split(["question", "response", name], *rows)})
        made = plan(record, options=TABLES).traces
        keys = [each.spans[0].attributes for each in made]
        return [json.loads(each.get("mlflow.llm.model", "null")) for each in keys]

    assert of("system_used", ["gpt-4o", "claude-3-haiku"]) == ["gpt-4o", "claude-3-haiku"]
    assert of("seen_in", ["gpt-4o", "paper"]) == [None, None]


def test_many_numbered_columns_are_features_and_few_are_scores() -> None:
    names = ["question", "response", *(f"f_{number}" for number in range(12))]
    made = columns(names, ["Where is it?", "There.", *[0.5] * 12])
    assert judged(made, "feedback") == {}
    made = columns(names[:4], ["Where is it?", "There.", 0.5, 0.25])
    assert judged(made, "feedback") == {"f_0": 0.5, "f_1": 0.25}
    made = columns(names[:4], ["Where is it?", "There.", 0.5, 25])
    assert judged(made, "feedback") == {}


def test_column_without_a_name_is_the_index_as_pandas_names_it() -> None:
    text = ",question,response\n0,Where is it?,There.\n"
    (made,) = plan(run("r", texts={"t.csv": text}), options=TABLES).traces
    assert value(made.spans[0], "legacy.column.Unnamed: 0") == "0"
    assert shown(made) == ({"question": "Where is it?"}, "There.")


def test_decimal_commas_of_a_file_with_semicolons_are_numbers() -> None:
    text = "question;response;score\nWhere is it?;There, I think.;1,5\nWho?;Ada;2\n"
    made = plan(run("r", texts={"t.csv": text}), options=TABLES).traces
    assert [judged(each, "feedback") for each in made] == [{"score": 1.5}, {"score": 2.0}]
    assert shown(made[0])[1] == "There, I think."


@pytest.mark.parametrize(("name", "ms"), [("secs", 1500), ("time_s", 1500), ("time_ms", 2)])
def test_seconds_and_milliseconds_of_a_row_are_its_duration(name: str, ms: int) -> None:
    made = columns(["question", "response", name], ["Where is it?", "There.", 1.5])
    assert made.execution_ms == ms


@pytest.mark.parametrize("seconds", [8 * 86_400, 1e300, 1e306])  # 1e309 ms: no float has so many
def test_duration_above_a_week_is_not_believed(seconds: float) -> None:
    names = ["question", "response", "latency_s"]
    made = columns(names, ["Where is it?", "There.", seconds])
    without = columns(names[:2], ["Where is it?", "There."])
    assert made.execution_ms == without.execution_ms
    assert shown(made) == ({"question": "Where is it?"}, "There.")


def test_source_of_an_assessment_is_the_column() -> None:
    names = ["question", "response", "target", "faithfulness"]
    made = columns(names, ["Where is it?", "There.", "There!", 0.5])
    sources = {each.name: each.source_id for each in made.assessments}
    assert sources == {"target": "column target", "faithfulness": "column faithfulness"}


@pytest.mark.parametrize(
    ("name", "cells", "values"),
    [
        ("Passed?", ["Yes", "No"], [True, False]),
        ("my check", ["pass", "fail"], [True, False]),
        ("user_feedback", ["positive", "negative"], [True, False]),
        ("verdict", ["yes", "maybe"], ["yes", "maybe"]),
    ],
)
def test_words_for_yes_and_no_are_verdicts(name: str, cells: list[str], values: list[Any]) -> None:
    rows = [["Where is it?", "There.", cell] for cell in cells]
    record = run("r", texts={"t.csv": csv_text(["question", "response", name], *rows)})
    made = plan(record, options=TABLES).traces
    assert [judged(each, "feedback") for each in made] == [{name: each} for each in values]


def test_words_that_may_be_classes_are_no_verdicts() -> None:
    made = columns(["text", "prediction", "mood"], ["It came late.", "bad", "negative"])
    assert judged(made, "feedback") == {}


@pytest.mark.parametrize(
    ("name", "cell"), [("Reviewer", "ana"), ("annotator_id", "x7"), ("judge", "gpt-4o")]
)
def test_who_judged_is_a_fact(name: str, cell: str) -> None:
    made = columns(["question", "response", name, "grade"], ["Who?", "Ada", cell, 4])
    assert judged(made, "feedback") == {"grade": 4}
    assert shown(made) == ({"question": "Who?"}, "Ada")
    assert value(made.spans[0], f"legacy.column.{name}") == cell


def test_turns_of_a_conversation_are_what_user_and_assistant_said() -> None:
    rows = [["c1", 1, "Can I pay by card?", "Yes, by card."], ["c1", 2, "And cash?", "No, sorry."]]
    table = split(["conversation_id", "turn", "user", "assistant"], *rows)
    made = plan(run("r", texts={"turns.json": table}), options=TABLES).traces
    assert [shown(each) for each in made] == [({"user": row[2]}, row[3]) for row in rows]
    assert {each.metadata["mlflow.trace.session"] for each in made} == {"c1"}


def test_row_with_an_error_failed() -> None:
    made = columns(["question", "response", "error"], ["Where is it?", None, "ValueError: boom"])
    assert made.status == "ERROR"


# ----------------------------------------------------------------------------- joined tables


def test_tables_with_the_same_ids_are_one_sample_each() -> None:
    tables = {
        "out/samples.json": split(
            ["run_id", "sample_id", "input", "output"],
            ["x", "q1", "One and one?", "2"],
            ["x", "q2", "Two and two?", "5"],
        ),
        "out/scores.json": split(
            ["sample_id", "scorer", "value", "explanation"],
            ["q1", "match", 1, "it is equal"],
            ["q1", "style", 3, ""],
            ["q2", "match", 0, ""],
        ),
        "out/usage.json": split(["sample_id", "input_tokens", "output_tokens"], ["q2", 7, 3]),
        "out/messages.json": split(
            ["sample_id", "role", "content"],
            ["q1", "user", "One and one?"],
            ["q1", "assistant", "2"],
        ),
        "out/tasks.json": split(["task", "dataset"], ["sums", "tiny"]),
    }
    records = json.dumps([{"id": "q2", "epoch": 1, "target": "4", "output": "5"}])
    record = logged("r", tables, texts={"results.json": records}, params={"model": "mock/model"})
    made = plan(record, options=TABLES).traces
    assert [shown(t) for t in made] == [
        ({"input": "One and one?"}, "2"),
        ({"input": "Two and two?"}, "5"),
    ]
    first, second = made
    assert judged(first, "feedback") == {"match": 1, "style": 3}
    assert judged(second, "feedback") == {"match": 0}
    assert judged(second, "expectation") == {"target": "4"}
    assert second.usage is not None
    assert (second.usage.input_tokens, second.usage.output_tokens) == (7, 3)
    said: Any = value(first.spans[0], "legacy.table.out/messages.json")
    assert [each["role"] for each in said] == ["user", "assistant"]


def test_epochs_of_a_sample_are_samples() -> None:
    tables = {
        "a.json": split(
            ["id", "epoch", "input", "output"],
            ["q", 1, "One and one?", "is two"],
            ["q", 2, "One and one?", "is three"],
        ),
        "b.json": split(["sample_id", "epoch", "score"], ["q", 1, 1], ["q", 2, 0]),
    }
    made = plan(logged("r", tables), options=TABLES).traces
    assert [judged(t, "feedback") for t in made] == [{"score": 1}, {"score": 0}]


def test_other_answers_to_the_same_questions_are_traces_of_their_own() -> None:
    tables = {
        name: split(["id", "question", "answer"], [1, "Who is it?", f"It is {name}."])
        for name in ("anna.json", "bert.json")
    }
    made = plan(logged("r", tables), options=TABLES).traces
    assert [shown(t)[1] for t in made] == ["It is anna.json.", "It is bert.json."]


def test_one_table_in_two_forms_is_taken_once() -> None:
    texts = {"results.csv": "question,response\nWho is it?,It is me.\n"}
    record = logged("r", {"t.json": split(["question", "response"], ["Who is it?", "It is me."])})
    twice = run("r", texts={**texts, **record.texts}, tags=record.tags)
    assert len(plan(twice, options=TABLES).traces) == 1


def test_rows_that_fit_no_columns_are_counted() -> None:
    read = read_rows("t.csv", "a,b\n1,2\n3\n")
    assert (len(read.rows), read.wrong) == (2, "1 of its 2 rows does not fit its columns")


# --------------------------------------------------------------------------- profile language


def profile(text: str) -> Any:
    return load_profiles(texts=[("p.toml", f'name = "p"\nextends = "generic"\n{text}')])


TAKE = '[[recognise]]\nroot_name = "^r$"\n'


def test_output_of_the_profile_is_no_input() -> None:
    own = profile(
        f'role = "call"\n{TAKE}[fields]\ninputs = ["param:*"]\noutputs = ["param:response"]'
    )
    made = trace(run("r", params={"ask": "Who is it?", "response": "Me."}), profiles=own)
    assert shown(made) == ({"ask": "Who is it?"}, "Me.")


def test_key_may_be_the_model_and_no_input() -> None:
    own = profile(
        f'role = "call"\n{TAKE}[fields]\ninputs = ["param:*"]\n'
        'not_inputs = ["param:model", "param:engine_no"]\nmodel = ["param:engine_no"]'
    )
    params = {"ask": "Who is it?", "engine_no": "gpt-4o"}
    made = trace(run("r", params=params), profiles=own)
    assert shown(made)[0] == {"ask": "Who is it?"}
    assert value(made.spans[0], "mlflow.llm.model") == "gpt-4o"
    params = {"ask": "Who is it?", "model": "gpt-4o-mini"}
    made = trace(run("r", params=params), profiles=own)
    assert value(made.spans[0], "mlflow.llm.model") == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("field", "logged_as", "expected_ms"),
    [
        ("duration_ns", 250_000_000, 250),
        ("duration_us", 250_000, 250),
        ("duration_ms", 250, 250),
        ("duration_s", 0.25, 250),
        ("duration_min", 0.5, 30_000),
        ("duration_h", 0.25, 900_000),
    ],
)
def test_durations_in_all_units(field: str, logged_as: float, expected_ms: int) -> None:
    own = profile(f'role = "call"\n{TAKE}[fields]\n{field} = ["metric:took"]')
    record = run(
        "r", start=1000, end=1001, params={"prompt": "Who is it?"}, metrics={"took": logged_as}
    )
    assert trace(record, profiles=own).execution_ms == expected_ms


@pytest.mark.parametrize(
    ("hit", "thought", "cached", "reasoning"),
    [(4, 2, {"cache_read_input_tokens": 4}, 2), (1e13, 1e300, {}, None)],
)
def test_cached_and_reasoning_tokens_stand_on_the_span_if_a_call_can_have_them(
    hit: float, thought: float, cached: dict[str, int], reasoning: int | None
) -> None:
    own = profile(
        f'role = "call"\n{TAKE}[fields]\ncached_tokens = ["metric:hit"]\n'
        'reasoning_tokens = ["metric:thought"]'
    )
    metrics = {"prompt_tokens": 9, "completion_tokens": 5, "hit": hit, "thought": thought}
    made = trace(run("r", params={"prompt": "Who is it?"}, metrics=metrics), profiles=own)
    counted = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14, **cached}
    assert value(made.spans[0], "mlflow.chat.tokenUsage") == counted
    assert value(made.spans[0], "reasoning_tokens") == reasoning


@pytest.mark.parametrize(("usd", "cost"), [(0.25, {"total_cost": 0.25}), (1e10, None)])
def test_cost_of_a_row_is_one_that_a_call_can_have(
    usd: float, cost: dict[str, float] | None
) -> None:
    made = columns(["question", "response", "cost_usd"], ["Where is it?", "There.", usd])
    assert value(made.spans[0], "mlflow.llm.cost") == cost


def test_attributes_and_tags_of_the_users_own() -> None:
    own = profile(
        f'role = "call"\n{TAKE}[attributes]\nregion = ["tag:zone", "param:region"]\n'
        '[tags]\nteam = ["tag:team"]'
    )
    record = run("r", params={"prompt": "Who?", "region": "eu"}, tags={"team": "blue"})
    made = trace(record, profiles=own)
    assert value(made.spans[0], "region") == "eu"
    assert made.tags["team"] == "blue"


@pytest.mark.parametrize("kind", ["RETRIEVER", "RERANKER"])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("docs.jsonl", '{"text": "one", "score": 1}\n{"text": "two", "score": 2}\n'),
        ("docs.csv", "text,score\none,1\ntwo,2\n"),
        ("docs.json", split(["text", "score"], ["one", 1], ["two", 2])),
    ],
)
def test_documents_are_read_from_lines_csv_and_tables(path: str, text: str, kind: str) -> None:
    own = profile(
        'role = "workflow"\n[[recognise]]\nroot_name = "^r$"\n[fields]\n'
        f'documents = ["artifact:{path}"]\n[[spans]]\nrun_name = "^find$"\ntype = "{kind}"'
    )
    made = trace(run("r"), run("find", "r", texts={path: text}), profiles=own)
    found: Any = value(span(made, "find"), "mlflow.spanOutputs")
    assert [each["page_content"] for each in found] == ["one", "two"]
    assert [int(each["metadata"]["score"]) for each in found] == [1, 2]


def test_failed_root_has_the_error_of_the_step_that_failed() -> None:
    made = trace(
        run("flow", status="FAILED", params={"prompt": "Who is it?"}),
        run("step", "flow", status="FAILED", params={"error_message": "ValueError: no such index"}),
    )
    root = span(made, "flow")
    assert root.status == "ERROR"
    assert root.status_message == "ValueError: no such index"


# ------------------------------------------------------------------ rows inside other JSON


def rows_in(text: Any, path: str = "mine.json") -> list[TracePlan]:
    record = run("r", texts={path: text if isinstance(text, str) else json.dumps(text)})
    return list(plan(record, options=TABLES).traces)


def models_of(made: Sequence[TracePlan]) -> list[Any]:
    found = [each.spans[0].attributes.get("mlflow.llm.model") for each in made]
    return [json.loads(each) if each else None for each in found]


CASE = {"question": "Why is it blue?", "response": "It scatters.", "score": 4}


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ({"a": {"b": {"c": [CASE]}}, "n": 1}, [None]),
        ({"llm": "gpt-4o-mini", "averages": {"score": 4}, "per_question": [CASE]}, ["gpt-4o-mini"]),
        ({"config": {"model": "gpt-4o"}, "details": {"cases": [CASE]}}, ["gpt-4o"]),
        ([{"model": "gpt-4o", "accuracy": 0.5, "results": [CASE]}], ["gpt-4o"]),
        ({"gpt-4o": [CASE], "claude-3-opus": [CASE]}, ["gpt-4o", "claude-3-opus"]),
        ({"gpt-4o": {"cases": [CASE], "mean": 4}}, ["gpt-4o"]),
        ({"cases": [CASE], "errors": [{"code": 1, "path": "x"}]}, [None]),
    ],
)
def test_rows_are_found_on_any_level_with_the_model_beside_them(
    text: Any, models: list[Any]
) -> None:
    made = rows_in(text)
    assert models_of(made) == models
    assert shown(made[0]) == ({"question": "Why is it blue?"}, "It scatters.")
    assert judged(made[0], "feedback") == {"score": 4}


@pytest.mark.parametrize(
    "text",
    [
        {"config": {"cases": [CASE]}},  # what was asked for
        {"results": {"sums": {"alias": "sums of two numbers", "acc": 0.5}}},
        [{"configuration": "two agents", "success_rate": 1.0, "meets_target": True}],
        [
            {
                "title": "A long text about machines",
                "abstract": "It is shown that it is so.",
                "open": True,
            }
        ],
        [{"summary": "There is much of it in them.", "explanation": "It was found in each."}],
        [{"task": "What is it?", "expected_output": "It is a tree.", "expected_score": 8.0}],
    ],
)
def test_settings_totals_and_data_sets_are_no_samples(text: Any) -> None:
    assert rows_in(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "name,fare,predicted_class\nBraund Mr. Owen Harris,7.25,0\nCumings Mrs. John Brad,71.3,1\n",
        "job,amount,is_fraud,predicted_fraud\n260,1.5,0,0\n17,2.5,1,1\n",
        "task,accuracy\nsums,0.5\nwords,0.25\n",
        "review,rating\nThis is very good and I like it.,5\nThis is not what I have ordered.,1\n",
    ],
)
def test_predictions_of_ordinary_models_and_totals_make_no_traces(text: str) -> None:
    assert rows_in(text, "test_predictions.csv") == []


def test_questions_answers_and_scores_in_lists_of_one_file_are_joined_by_id() -> None:
    text = {
        "questions": [
            {"id": 1, "question": "Why is it blue?"},
            {"id": 2, "question": "Who is it?"},
        ],
        "answers": [{"id": 2, "answer": "It is Tom."}, {"id": 1, "answer": "It scatters."}],
        "scores": [{"id": 1, "faithfulness": 0.5}],
    }
    first, second = rows_in(text)
    assert shown(first) == ({"question": "Why is it blue?"}, "It scatters.")
    assert judged(first, "feedback") == {"faithfulness": 0.5}
    assert shown(second)[1] == "It is Tom."


def test_lists_of_all_questions_and_answers_in_one_row_are_samples() -> None:
    names = ["question", "rationale", "correct_answer", "answer"]
    row = [["What is it?", "Who is he?"], ["As seen.", "As said."], ["A", "B"], ["A", "C"]]
    first, second = rows_in(split(names, row))
    assert shown(second)[0] == {"question": "Who is he?"}
    assert judged(first, "expectation") == {"correct_answer": "A"}
    assert (
        judged(rows_in(split(names, [*row[:2], ["A", "B", "C"], row[3]]))[1], "expectation") == {}
    )
    one = {"question": "What is it?", "contexts": ["a", "b"], "answers": ["c", "d"]}
    assert len(rows_in([one])) == 1


# ------------------------------------------------------------------------- nested rows


def test_promptfoo_gives_answer_tokens_model_and_grade_of_each_result() -> None:
    def result(provider: str, output: str, passed: bool) -> dict[str, Any]:
        said = "All passed" if passed else "It is too short"
        return {
            "promptIdx": 0,
            "testIdx": 0,
            "provider": {"id": provider, "label": ""},
            "prompt": {"raw": "Say in short: Why is it blue?", "label": "short"},
            "vars": {"topic": "Why is it blue?"},
            "response": {
                "output": output,
                "cached": False,
                "tokenUsage": {"total": 12, "prompt": 11, "completion": 1},
            },
            "success": passed,
            "score": int(passed),
            "latencyMs": 300,
            "gradingResult": {"pass": passed, "score": int(passed), "reason": said, "tokens": {}},
            "error": None if passed else said,
        }

    results = [
        result("openai:chat:gpt-4o-mini", "It scatters.", True),
        result("anthropic:messages:claude-3-haiku", "No.", False),
    ]
    totals = [{"raw": "Say in short: {{topic}}", "provider": "x", "metrics": {"score": 0.5}}]
    tests = [{"vars": {"topic": "Why is it blue?"}, "assert": [{"type": "icontains"}]}]
    text = {
        "evalId": "e",
        "results": {"version": 3, "prompts": totals, "results": results, "stats": {"n": 2}},
        "config": {"tests": tests},
    }
    good, bad = rows_in(text)
    assert models_of([good, bad]) == ["gpt-4o-mini", "claude-3-haiku"]
    assert (good.request_preview, good.response_preview) == (
        "Say in short: Why is it blue?",
        "It scatters.",
    )
    assert good.usage is not None
    assert (good.usage.input_tokens, good.usage.output_tokens) == (11, 1)
    assert judged(good, "feedback") == {"success": True, "score": 1, "gradingResult": 1}
    assert bad.spans[0].status == "OK"  # it answered, if badly
    assert {a.rationale for a in bad.assessments if a.name == "gradingResult"} == {
        "It is too short"
    }


def test_samples_of_lm_eval_have_question_answer_target_and_score() -> None:
    def sample(number: int, question: str, said: str, right: float) -> str:
        return json.dumps(
            {
                "doc_id": number,
                "doc": {"question": question, "answer": "2 of them"},
                "target": "2 of them",
                "arguments": {"gen_args_0": {"arg_0": f"Q: {question}", "arg_1": {"until": ["Q"]}}},
                "resps": [[f"I think it is {said}"]],
                "filtered_resps": [said],
                "filter": "strict-match",
                "metrics": ["exact_match"],
                "doc_hash": "ab",
                "exact_match": right,
            }
        )

    files = {
        f"samples_{task}_2024.jsonl": "\n".join(
            [sample(0, f"How many {task}?", "2", 1.0), sample(1, f"Which {task}?", "5", 0.0)]
        )
        for task in ("sums", "words")
    }
    made = plan(run("r", texts=files), options=TABLES).traces
    assert [each.request_preview for each in made] == [
        "How many sums?",
        "Which sums?",
        "How many words?",
        "Which words?",
    ]
    assert shown(made[0]) == (
        {"question": "How many sums?", "arguments": "Q: How many sums?"},
        {"response": "I think it is 2", "filtered_resps": "2"},
    )
    assert made[0].response_preview == "I think it is 2"
    assert judged(made[1], "feedback") == {"exact_match": 0.0}
    assert judged(made[1], "expectation")["target"] == "2 of them"


# ------------------------------------------------------------------- what a score is


def test_outcome_of_a_test_is_feedback_and_the_state_of_a_run_is_not() -> None:
    names = ["question", "response", "status"]
    made = rows_in(
        [
            dict(zip(names, ["What is it?", "A tree.", s], strict=True))
            for s in ("pass", "partial", "fail")
        ]
    )
    assert [judged(each, "feedback") for each in made] == [
        {"status": "pass"},
        {"status": "partial"},
        {"status": "fail"},
    ]
    assert judged(columns(names, ["What is it?", "A tree.", "ok"]), "feedback") == {}


def test_object_of_yes_and_no_is_a_score_each() -> None:
    cell = {"view_match": True, "filter_present": None, "sql_valid": False}
    made = columns(["question", "generated_sql", "checks"], ["What is it?", "SELECT 1", cell])
    assert judged(made, "feedback") == {"view_match": True, "sql_valid": False}


def test_reason_that_follows_several_scores_is_the_graders() -> None:
    names = ["prompt", "prediction", "coherence", "relevance", "rationale"]
    made = columns(names, ["Why is it blue?", "It scatters.", 0.5, 1.0, "It is to the point."])
    assert shown(made)[1] == "It scatters."
    assert {a.name: a.rationale for a in made.assessments} == {
        "coherence": "It is to the point.",
        "relevance": "It is to the point.",
    }


def test_predicted_label_is_the_answer_and_the_actual_one_was_right() -> None:
    names = ["subject", "first_message", "actual_label", "predicted_label", "match"]
    made = columns(names, ["Order 12", "It is late, where is it?", "Delay", "Refund", False])
    assert shown(made)[1] == "Refund"
    assert judged(made, "expectation") == {"actual_label": "Delay"}
    assert judged(made, "feedback") == {"match": False}
    other = columns(["text", "actual", "predicted"], ["It came late again.", "bad", "good"])
    assert (shown(other)[1], judged(other, "expectation")) == ("good", {"actual": "bad"})


def test_counts_of_tests_are_no_scores() -> None:
    names = ["problem", "code_solution", "passed_tests", "unit_test_status"]
    made = columns(names, ["Add two numbers.", "a + b", 13, "PASSED"])
    assert judged(made, "feedback") == {"unit_test_status": True}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("config.yaml", "seed: 1\nllm:\n  provider: openai\n  model: gpt-4o-mini\n"),
        ("run_params.yml", "embedding_model: text-embedding-3-small\nmodel: gpt-4o-mini\n"),
        ("eval_config.json", '{"judge_model": "gpt-4o", "model": {"name": "gpt-4o-mini"}}'),
    ],
)
def test_model_that_only_a_file_of_settings_names_is_that_of_the_rows(path: str, text: str) -> None:
    rows = json.dumps([CASE])
    record = run("r", texts={"cases.json": rows, path: text})
    assert models_of(plan(record, options=TABLES).traces) == ["gpt-4o-mini"]
    named = run("r", texts={"cases.json": rows, path: text}, params={"model": "claude-3-opus"})
    assert models_of(plan(named, options=TABLES).traces) == ["claude-3-opus"]
    broken = run("r", texts={"cases.json": rows, "config.yaml": "a: [1\nb"})
    assert models_of(plan(broken, options=TABLES).traces) == [None]


def test_reasons_beside_scores_in_an_object_are_theirs() -> None:
    cell = {
        "answer_correctness": 0.5,
        "correctness_reason": "It is half right.",
        "recall_at_k": 0.25,
        "tone": 4,
        "tone_reason": "It is polite.",
    }
    made = columns(["question", "response", "metrics"], ["Where is it?", "There.", cell])
    assert judged(made, "feedback") == {"answer_correctness": 0.5, "recall_at_k": 0.25, "tone": 4}
    assert {a.name: a.rationale for a in made.assessments} == {
        "answer_correctness": "It is half right.",
        "recall_at_k": None,
        "tone": "It is polite.",
    }


def test_columns_explain_the_only_score_that_ends_with_their_name() -> None:
    names = ["question", "response", "answer_relevancy", "relevancy_reason", "precision_at_k"]
    made = columns(names, ["Where is it?", "There.", 0.5, "It is short.", 0.25])
    assert shown(made)[1] == "There."
    assert judged(made, "feedback") == {"answer_relevancy": 0.5, "precision_at_k": 0.25}
    assert [a.rationale for a in made.assessments if a.name == "answer_relevancy"] == [
        "It is short."
    ]


def test_inputs_that_pandas_wrote_as_a_dict_are_read() -> None:
    text = "request,response,state\n\"{'question': 'What is it?'}\",It is a tree.,OK\n"
    (made,) = rows_in(text, "evaluated.csv")
    assert shown(made) == ({"question": "What is it?"}, "It is a tree.")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "finish_reason": "stop", "text": "The sea is wide."}]},
        {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Wide."}}]},
        {"candidates": [{"content": {"parts": [{"text": "Wide."}]}, "finishReason": "STOP"}]},
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "How is the sea today?"}]},
    ],
)
def test_the_body_of_a_request_or_response_holds_no_rows(body: dict[str, Json]) -> None:
    assert [table.rows for table in read_tables("output.json", body)] == [()]
