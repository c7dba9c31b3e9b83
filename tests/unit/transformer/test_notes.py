"""Notes in which headings say what was asked and answered, in the forms that people write."""

from __future__ import annotations

import pytest

from migrator.transformer.notes import NotedTurn, noted_turn
from tests.support.planskit import plan, run, trace

ASKED = "How do I reset the password of my account?"
ANSWER = "Open the settings, choose security, and follow the link.\n\nIt is valid for an hour."

NOTES = {
    "Question: {}\nAnswer: {}\n": ("question", "answer"),
    "Q: {}\nA: {}": ("q", "a"),
    "PROMPT:\n{}\n\nRESPONSE:\n{}\n": ("prompt", "response"),
    "# Question\n\n{}\n\n# Answer\n\n{}\n": ("question", "answer"),
    "# Chat of Monday\n\n## User Query\n{}\n\n## Response\n{}\n": ("user_query", "response"),
    "**Question:** {}\n\n**Final answer**: {}\n": ("question", "final_answer"),
    "=== PROMPT ===\n{}\n\n=== RESPONSE ===\n{}\n": ("prompt", "response"),
    "--- Input ---\n{}\n--- Output ---\n{}\n": ("input", "output"),
    "[User]: {}\n[Assistant]: {}\n": ("user", "assistant"),
    "### Instruction:\n{}\n\n### Response:\n{}": ("instruction", "response"),
    "[2025-01-01 10:00]\nQuery: {}\nResponse: {}\nLatency: 2.5s\n": ("query", "response"),
    "User question: {}\nContext: The manual.\nBot answer: {}\n\nSources: a.pdf":
        ("user_question", "bot_answer"),
}  # fmt: skip


@pytest.mark.parametrize("form", NOTES)
def test_headings_say_what_was_asked_and_answered(form: str) -> None:
    asked, answered = NOTES[form]
    expected = NotedTurn({asked: ASKED}, answered, ANSWER)
    assert noted_turn(form.format(ASKED, ANSWER)) == expected


@pytest.mark.parametrize("name", ["interaction.txt", "output.txt", "query_1.txt", "session.md"])
@pytest.mark.parametrize("form", NOTES)
def test_note_is_a_call_whatever_its_file_is_called(form: str, name: str) -> None:
    texts = {name: form.format(ASKED, ANSWER)}
    made = trace(run("r", end=3000, params={"model": "gpt-4o"}, texts=texts))
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)


@pytest.mark.parametrize("form", NOTES)
def test_note_of_an_output_is_a_call_without_the_name_of_an_llm(form: str) -> None:
    made = trace(run("r", end=3000, texts={"output.txt": form.format(ASKED, ANSWER)}))
    assert made.spans[0].origins["outputs"].startswith("artifact output.txt#")


def test_the_last_turn_that_was_answered_counts() -> None:
    turns = (
        f"User: Hello, who are you?\nBot: Your helper.\nUser: {ASKED}\nBot: {ANSWER}\nUser: Thanks!"
    )
    assert noted_turn(turns) == NotedTurn({"user": ASKED}, "bot", ANSWER, turns=2)


@pytest.mark.parametrize(
    "text",
    [
        f"Question: {ASKED}",
        f"Answer: {ANSWER}",
        f"Question: {ASKED}\nAnswer:\n",
        # An answer that speaks of inputs and outputs further down.
        "You can call it so.\nIt takes a text.\nThen it is cut.\nSo it is read.\nThat is all."
        "\n\n## Input\na text\n\n## Output\na number",
        f"This is what we got as the question: {ASKED}\nSo we gave them this answer: {ANSWER}",
        "Note to the user: call us\nThe final answer will come by mail, we said:\nyes",
    ],
)
def test_other_texts_are_no_notes(text: str) -> None:
    assert noted_turn(text) is None


CASES = "".join(
    f"{number}. Question: {asked}\n   Answer: {answer}\n{{judged}}\n"
    for number, (asked, answer) in enumerate((("Who is it?", "It is Ana."), (ASKED, ANSWER)), 1)
)


@pytest.mark.parametrize(
    ("judged", "metrics", "is_call"),
    [
        ("", {"latency_s": 2.0}, True),
        ("Score: 0.8", {"latency_s": 2.0}, False),
        ("Expected answer: Ana", {}, False),
        ("", {"accuracy": 0.8}, False),
        ("", {"avg_score": 0.8}, False),
    ],
)
def test_several_questions_that_were_judged_are_an_evaluation(
    judged: str, metrics: dict[str, float], *, is_call: bool
) -> None:
    texts = {"output.txt": CASES.format(judged=judged)}
    made = plan(run("r", end=3000, params={"model": "gpt-4o"}, texts=texts, metrics=metrics))
    assert bool(made.traces) is is_call


@pytest.mark.parametrize("answer", ["- First this.\n- Then that.", "**Yes**, and it is *free*"])
def test_lines_between_sections_are_no_part_of_them_but_lists_and_bold_words_are(
    answer: str,
) -> None:
    text = f"Question: {ASKED}\n{'-' * 40}\nAnswer:\n{answer}\n{'=' * 40}\nModel: gpt-4o\n"
    assert noted_turn(text) == NotedTurn({"question": ASKED}, "answer", answer)


def test_what_was_expected_is_not_the_answer_and_facts_in_an_answer_do_not_end_it() -> None:
    answer = "Come on Monday.\nStart time: 5 pm\nTotal cost: 3 EUR"
    text = f"Question: {ASKED}\nExpected answer: Monday\nAnswer: {answer}\nRetrieved context: x"
    expected = NotedTurn({"question": ASKED}, "answer", answer, are_judged=True)
    assert noted_turn(text) == expected


def test_choices_are_part_of_the_question() -> None:
    asked = "Where is it?\nA: In Lima\nB: In Cusco"
    expected = NotedTurn({"question": asked}, "answer", "In Lima")
    assert noted_turn(f"Question: {asked}\nAnswer: In Lima") == expected


def test_one_question_that_was_judged_is_a_call() -> None:
    texts = {"output.txt": f"Question: {ASKED}\nAnswer: {ANSWER}\nScore: 0.8"}
    made = trace(run("r", params={"model": "gpt-4o"}, texts=texts, metrics={"accuracy": 0.8}))
    assert (made.request_preview, made.response_preview) == (ASKED, ANSWER)


def test_dialogue_that_another_text_was_made_of_is_what_was_given() -> None:
    dialogue = f"Customer: {ASKED}\nAgent: {ANSWER}"
    texts = {"conversation.txt": dialogue, "summary.txt": "A customer asked for a new password."}
    made = trace(run("r", end=3000, params={"model": "gpt-4o"}, texts=texts))
    assert made.request_preview == dialogue
    assert made.response_preview == texts["summary.txt"]
