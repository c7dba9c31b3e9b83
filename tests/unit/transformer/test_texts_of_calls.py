"""What is shown as question and answer of trackers that nobody has seen, by kinds of keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import SpanType
from migrator.transformer import load_profiles, wanted_artifacts
from tests.support.planskit import PROFILES, plan, run, trace, value

ASKED = "When do I get my deposit back?"
ANSWER = "The deposit comes back within two months after the contract ends."
CONTEXT = "Section 4. The deposit is paid back within two months after the contract ends. " * 20
LLM = {"model": "gpt-4o"}
GENERIC = [each for each in PROFILES if each.name == "generic"]


def shown(**given: Any) -> tuple[Any, Any]:
    """The inputs and outputs of the one span that a run becomes."""
    (span,) = trace(run("r", **given)).spans
    return value(span, conv.SPAN_INPUTS), value(span, conv.SPAN_OUTPUTS)


@pytest.mark.parametrize(
    ("given", "asked", "answer"),
    [
        # A text that was logged without the ending of a file.
        ({"params": {"query": ASKED}, "texts": {"generated_response": ANSWER}},
         {"query": ASKED}, ANSWER),
        # Roles that are the names of LangChain's classes.
        ({"texts": {"conversation.json": json.dumps([
            {"role": "HumanMessage", "content": ASKED},
            {"role": "AIMessage", "content": ANSWER}])}},
         {"messages": [{"role": "user", "content": ASKED}]}, ANSWER),
        # A history whose speakers nobody knows, beside the run's own answer.
        ({"params": {"user_input": ASKED, "assistant_output": ANSWER},
          "texts": {"conversation_before.json": json.dumps([
              {"role": "student", "content": "Hi"}, {"role": "teacher", "content": "Hi."}])}},
         {"user_input": ASKED}, ANSWER),
        # The bare texts of a chat: question, call of a tool, answer.
        ({"params": {**LLM, "user_query": ASKED, "agent_response": json.dumps(
            [ASKED, "", '[{"id": 1}]', ANSWER])}}, {"user_query": ASKED}, ANSWER),
        # A param that was cut at 50 characters, and the whole text under another name.
        ({"params": {**LLM, "user_request": CONTEXT[:50]},
          "texts": {"user_message.txt": CONTEXT, "answer.txt": ANSWER}},
         {"user_message": CONTEXT}, ANSWER),
        # The same name twice: the longer text.
        ({"params": {**LLM, "user_request": CONTEXT[:33]},
          "texts": {"user_request.txt": CONTEXT.strip(), "answer.txt": ANSWER}},
         {"user_request": CONTEXT.strip()}, ANSWER),
        # A few words beside an answer are what was asked.
        ({"texts": {"merchant_message.txt": "yes please start", "bot_response.txt": ANSWER}},
         {"merchant_message": "yes please start"}, ANSWER),
        # Retrieved documents beside an answer.
        ({"texts": {"query.txt": ASKED, "answer.txt": ANSWER,
                    "retrieved_docs.json": json.dumps([{"text": CONTEXT}])}},
         {"query": ASKED}, ANSWER),
        # A text that was worked on.
        ({"texts": {"transcript.txt": CONTEXT.strip(), "summary.txt": ANSWER}},
         {"transcript": CONTEXT.strip()}, ANSWER),
        ({"params": LLM, "texts": {"source_text.txt": ASKED, "translated_text.txt": ANSWER}},
         {"source_text": ASKED}, ANSWER),
        # Code that the model wrote, under an ending of code.
        ({"params": {"question": ASKED}, "texts": {"generated.sql": "SELECT a FROM b WHERE c = 1"}},
         {"question": ASKED}, "SELECT a FROM b WHERE c = 1"),
        # {"text": …} is an answer where the name of the file says so.
        ({"texts": {"request_payload.json": json.dumps({"task": ASKED}),
                    "response_payload.json": json.dumps({"text": ANSWER, "model": "gpt-4o-mini"})}},
         {"task": ASKED}, ANSWER),
        # The last of several texts, whatever comes first in the order of their names.
        ({"params": {**LLM, "question": ASKED},
          "texts": {"draft_report.txt": CONTEXT, "final_report.txt": ANSWER}},
         {"question": ASKED}, ANSWER),
        ({"params": {**LLM, "question": ASKED},
          "texts": {"draft_report.txt": CONTEXT, "report.txt": ANSWER}},
         {"question": ASKED}, ANSWER),
        # One word is an answer beside a question and the name of an LLM.
        ({"params": {**LLM, "chat_input": ASKED, "chat_output": "Never."}},
         {"chat_input": ASKED}, "Never."),
        ({"params": {**LLM, "incoming_message": "open again tomorrow", "reply": "Yes, at nine."}},
         {"incoming_message": "open again tomorrow"}, "Yes, at nine."),
        ({"params": {**LLM, "tweet_idea": ASKED}, "texts": {"generated_tweet.txt": "Two months #"}},
         {"tweet_idea": ASKED}, "Two months #"),
        # A file with a word of training in its name, which says that an LLM wrote it.
        ({"params": {"question": ASKED}, "texts": {"llm_generated_test_cases.txt": ANSWER}},
         {"question": ASKED}, ANSWER),
        # A system prompt and what was asked are a chat.
        ({"params": {**LLM, "system_prompt": "Be brief.", "question": ASKED, "answer": ANSWER}},
         {"messages": [{"role": "system", "content": "Be brief."},
                       {"role": "user", "content": ASKED}]}, ANSWER),
        # A system prompt apart from the chat that it stands before.
        ({"texts": {"system_prompt.txt": "Be brief.", "session.json": json.dumps({"turns": [
            {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWER}]})}},
         {"messages": [{"role": "system", "content": "Be brief."},
                       {"role": "user", "content": ASKED}]}, ANSWER),
        # What went in and came out, in another language.
        ({"params": LLM, "texts": {"eingabe.txt": CONTEXT.strip(), "ausgabe.txt": ANSWER}},
         {"eingabe": CONTEXT.strip()}, ANSWER),
        # A request, and the only text that a model wrote by its name, without the model's.
        ({"texts": {"entrada.txt": "Explique em uma frase o que é a maré.", "saida.txt": ANSWER}},
         {"entrada": "Explique em uma frase o que é a maré."}, ANSWER),
        # The class that an LLM put a text into.
        ({"tags": {"llm": "gpt-4.1-nano", "predicted_category": "deposits"},
          "texts": {"ticket_text.txt": ASKED}}, {"ticket_text": ASKED}, "deposits"),
        # A few words, and what a model made of them.
        ({"params": LLM, "texts": {"input_text.txt": "bon dia", "translated_text.txt": "good day"}},
         {"input_text": "bon dia"}, "good day"),
        # Question and answer under the names of who wrote them.
        ({"texts": {"turn.json": json.dumps({
            "session": 7, "user_messages": ASKED, "assistant_messages": ANSWER})}},
         {"messages": [{"role": "user", "content": ASKED}]}, ANSWER),
        # An image, and what it shows.
        ({"params": {"model": "llava:7b", "image_path": "in/7.jpg", "meal_description": ANSWER}},
         {"image_path": "in/7.jpg"}, ANSWER),
        ({"params": {"model": "gpt-4o-audio-preview", "recording": "https://a.b/7.mp3?x=1"},
          "texts": {"out/caption.txt": ANSWER}},
         {"recording": "https://a.b/7.mp3?x=1"}, ANSWER),
    ],
)  # fmt: skip
def test_question_and_answer(given: dict[str, Any], asked: Any, answer: str) -> None:
    assert shown(**given) == (asked, answer)


def test_prompt_that_was_made_of_the_question_is_an_attribute() -> None:
    prompt = f"Answer with the context.\n\nContext: {CONTEXT}\n\nQuestion: {ASKED}"
    texts = {"prompt.txt": prompt, "answer.txt": ANSWER}
    (span,) = trace(run("r", params={"question": ASKED}, texts=texts)).spans
    assert value(span, conv.SPAN_INPUTS) == {"question": ASKED}
    assert value(span, "legacy.prompt") == prompt
    assert value(span, conv.SPAN_TYPE) == SpanType.LLM


def test_prompt_that_holds_the_system_prompt_is_what_was_asked() -> None:
    prompt = f"You are a lawyer. {ASKED}"
    params = {**LLM, "system_prompt": "You are a lawyer.", "full_prompt": prompt}
    inputs, _ = shown(params=params, texts={"answer.txt": ANSWER})
    assert inputs["messages"][-1] == {"role": "user", "content": prompt}


@pytest.mark.parametrize(
    "body", [{"text": ANSWER, "model": "gpt-4o-mini"}, {"model": "gpt-4o-mini"}]
)
def test_model_that_a_logged_object_names(body: dict[str, str]) -> None:
    texts = {"request.json": json.dumps({"prompt": ASKED}), "response.json": json.dumps(body)}
    (span,) = trace(run("r", params={"question": ASKED}, texts=texts)).spans
    assert value(span, conv.SPAN_MODEL) == "gpt-4o-mini"


def test_file_with_many_answers_is_an_evaluation() -> None:
    rows = [{"answer": "Lima"}, {"answer": "Santiago"}]
    texts = {"outputs.json": json.dumps(rows)}
    params = {**LLM, "max_tokens": "8"}
    assert plan(run("r", params=params, metrics={"latency": 0.2}, texts=texts)).traces == ()
    one = {"outputs.json": json.dumps({"answer": ANSWER})}
    assert len(plan(run("r", params=params, metrics={"latency": 0.2}, texts=one)).traces) == 1


def test_object_is_the_answer_where_its_tokens_were_counted() -> None:
    labels = {"shot": "close-up", "angle": "low"}
    texts = {"user_message.txt": ASKED, "classification.json": json.dumps(labels)}
    metrics = {"prompt_tokens": 1900, "completion_tokens": 41}
    assert shown(params=LLM, metrics=metrics, texts=texts) == ({"user_message": ASKED}, labels)
    plain = {"user_message.txt": ASKED, "shot.json": json.dumps(labels)}
    assert shown(params=LLM, metrics=metrics, texts=plain) == ({"user_message": ASKED}, labels)
    more = {**plain, "angle.json": json.dumps(labels)}
    assert shown(params=LLM, metrics=metrics, texts=more) == ({"user_message": ASKED}, None)
    assert shown(params=LLM, texts=plain) == ({"user_message": ASKED}, None)


TASKS = {"tasks": [{"title": "Write the release notes until Friday", "owner": "Anna"}]}
TOLD = "Anna: I will write the release notes. Ben: I fix the login test."


@pytest.mark.parametrize(
    "given",
    [
        # An object with the name of an action, beside the name of an LLM.
        {"params": LLM, "texts": {"email.txt": TOLD, "extraction.json": json.dumps(TASKS)}},
        # The last of several.
        {"params": LLM, "texts": {
            "email.txt": TOLD, "extraction.json": json.dumps({"title": "notes"}),
            "final_extraction.json": json.dumps(TASKS)}},
        # Without a model: it says more than the text that it was made of.
        {"texts": {"artifacts/transcript.txt": TOLD, "extraction.json": json.dumps(TASKS)}},
    ],
)  # fmt: skip
def test_object_that_is_named_after_an_action_is_the_answer(given: dict[str, Any]) -> None:
    inputs, outputs = shown(**given)
    assert list(inputs.values()) == [TOLD]
    assert outputs == TASKS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("segments", TASKS),  # no action
        ("configuration", TASKS),  # a noun that only ends like one
        ("extraction", {"lines": [TOLD]}),  # it says no more than the text
        ("extraction", {"pages": 3}),
    ],
)
def test_object_beside_a_text_without_a_model_is_not_a_call(name: str, value: Any) -> None:
    texts = {"transcript.txt": TOLD, f"{name}.json": json.dumps(value)}
    assert plan(run("r", texts=texts)).traces == ()


BY_AGENT = {
    "games": "Play a treasure hunt and musical chairs.",
    "food": "Bake a cake and offer fruit.",
}


@pytest.mark.parametrize("name", ["results.json", "blackboard.json"])
def test_texts_of_several_agents_in_one_object(name: str) -> None:
    texts = {"prompt.txt": ASKED, name: json.dumps(BY_AGENT)}
    assert shown(params=LLM, texts=texts) == ({"prompt": ASKED}, BY_AGENT)
    mixed = {"prompt.txt": ASKED, name: json.dumps({**BY_AGENT, "score": 0.9})}
    assert shown(params=LLM, texts=mixed) == ({"prompt": ASKED}, None)


def test_last_text_of_a_record_that_begins_with_the_task() -> None:
    record = {"task": ASKED, "writer": CONTEXT.strip(), "critic": ANSWER}
    texts = {"artifacts/transcript.json": json.dumps(record)}
    assert shown(params=LLM, texts=texts) == ({"task": ASKED}, ANSWER)
    known = {"task": ASKED, "context": CONTEXT.strip(), "source": ANSWER}
    assert shown(params=LLM, texts={"record.json": json.dumps(known)})[1] is None


@pytest.mark.parametrize("key", ["sql_query", "statement", "cypher"])
def test_statement_beside_a_question_is_the_answer(key: str) -> None:
    statement = "SELECT city FROM orders WHERE day > 3"
    assert shown(params={"question": ASKED, key: statement}) == ({"question": ASKED}, statement)


@pytest.mark.parametrize("key", ["expected_sql", "gold_query", "reference_sql"])
def test_statement_that_was_expected_is_not_the_answer(key: str) -> None:
    params = {**LLM, "question": ASKED, key: "SELECT city FROM orders WHERE day > 3"}
    assert shown(params=params)[1] is None


def test_question_that_was_translated_is_not_the_answer() -> None:
    params = {"question": ASKED, "translated_input": ASKED}
    assert shown(params=params) == ({"question": ASKED}, None)
    params["translated_input"] = "Wann bekomme ich meine Kaution zurück?"
    params["sql_query"] = "SELECT a FROM b WHERE c = 1"
    assert shown(params=params)[1] == "SELECT a FROM b WHERE c = 1"


@pytest.mark.parametrize("name", ["error_output.json", "expected_output.txt"])
def test_file_of_an_error_or_of_what_was_expected_is_not_the_answer(name: str) -> None:
    texts = {"input.txt": ASKED, name: json.dumps({"error_type": "ReadTimeout", "error": "late"})}
    assert shown(params=LLM, texts=texts)[1] is None


def test_chat_in_a_file_of_an_uncertain_name() -> None:
    messages = [
        {"type": "human", "content": ASKED},
        {"type": "ai", "content": "", "tool_calls": [{"name": "find"}]},
        {"type": "tool", "content": "two months"},
        {"type": "ai", "content": ANSWER},
    ]
    texts = {"workflow_response.json": json.dumps({"messages": messages, "next": None})}
    expected = {"messages": [{"role": "user", "content": ASKED}]}
    assert shown(params=LLM, texts=texts) == (expected, ANSWER)


def test_note_of_a_run_that_speaks_of_the_question_is_the_answer() -> None:
    params = {**LLM, "question": ASKED}
    assert shown(params=params, tags={"mlflow.note.content": ANSWER})[1] == ANSWER
    other = {"mlflow.note.content": "Baseline of the bot with the prompts of the first week."}
    assert shown(params=params, tags=other)[1] is None


def test_input_and_output_of_a_few_words_in_one_object() -> None:
    texts = {"chat.json": json.dumps({"input": "Say hello in Finnish", "output": "Hei!"})}
    assert shown(params=LLM, texts=texts) == ({"input": "Say hello in Finnish"}, "Hei!")
    apart = {**LLM, "input": "words of the page", "output": "json"}
    assert shown(params=apart, texts={"answer.txt": ANSWER})[1] == ANSWER


def test_conversation_of_a_user_and_an_agent_in_a_note() -> None:
    note = f"User : {ASKED}\nAgent: {ANSWER}\nTime : 3.20s"
    assert shown(texts={"conversation.txt": note}) == ({"user": ASKED}, ANSWER)


def test_code_under_a_name_of_tests_that_the_model_wrote() -> None:
    code = "def test_add():\n    assert add(1, 2) == 3"
    params = {**LLM, "user_message": ASKED}
    assert shown(params=params, texts={"generated_test.py": code})[1] == code


def test_text_in_a_file_with_the_ending_of_json() -> None:
    texts = {"damage_description.json": ANSWER}
    assert shown(params={"question": ASKED, **LLM}, texts={"alignment.json": ANSWER})[1] == ANSWER
    assert shown(params={"question": ASKED, **LLM}, texts=texts)[1] is None


def test_code_of_a_loop_is_the_answer_to_its_task() -> None:
    code = "def prime(n):\n    return n"
    given = {"params": {**LLM, "task": "Write a function that returns a prime"}}
    assert shown(**given, texts={"final_code.py": code})[1] == code


@pytest.mark.parametrize(
    ("name", "is_asked"),
    [("email_body", True), ("transcript", True), ("essay", False), ("email_draft", False)],
)
def test_text_alone_beside_the_name_of_an_llm(name: str, is_asked: bool) -> None:
    inputs, outputs = shown(params=LLM, texts={f"{name}.txt": ANSWER})
    expected = ({name: ANSWER}, None) if is_asked else (None, ANSWER)
    assert (inputs, outputs) == expected


def test_param_alone_whose_name_asks_was_asked() -> None:
    given = {**LLM, "request_4f2ab1cc": "a flight to New York on 1 May, my name is Adam"}
    inputs, outputs = shown(params=given)
    assert (inputs, outputs) == ({"request_4f2ab1cc": given["request_4f2ab1cc"]}, None)


def test_text_alone_that_a_model_wrote_is_an_answer_even_if_it_requests_something() -> None:
    review = "学習率が高すぎるため、損失が振動しています。次は学習率を半分にしてください。"
    assert shown(params=LLM, texts={"ai_analysis.md": review}) == (None, review)


@pytest.mark.parametrize("word", ["preview", "snippet", "excerpt"])
def test_name_of_a_text_that_was_cut_is_read_like_that_of_the_whole(word: str) -> None:
    params = {**LLM, f"query_{word}": ASKED, f"answer_{word}": ANSWER}
    assert shown(params=params) == ({f"query_{word}": ASKED}, ANSWER)


def test_param_of_a_call_that_failed_is_not_its_answer() -> None:
    params = {
        **LLM,
        "situation": "The printer on the second floor has been out of paper since May.",
    }
    assert shown(params=params) == (None, params["situation"])
    asked = ({"situation": params["situation"]}, None)
    assert shown(params=params, status="FAILED") == asked
    written = {**LLM, "generated_verse": ANSWER}
    assert shown(params=written, status="FAILED") == (None, ANSWER)


def test_label_of_a_call_that_failed_is_not_its_answer() -> None:
    labelled = {"params": LLM, "tags": {"confidence_label": "low"}}
    assert shown(**labelled, metrics={"latency_ms": 900.0, "total_tokens": 9.0}) == (None, "low")
    failed = {**labelled, "texts": {"error.txt": "Rate limit reached"}, "status": "FAILED"}
    assert shown(**failed) == (None, None)


def test_object_that_was_given_is_not_the_answer() -> None:
    given = {"text": "Eva Lind has been a nurse in Uppsala since May.", "timeout_s": 45}
    metrics = {"prompt_tokens": 900.0, "completion_tokens": 210.0}
    _, answer = shown(texts={"agent_task_payload.json": json.dumps(given)}, metrics=metrics)
    assert answer is None


def test_object_whose_answer_is_empty_was_only_asked() -> None:
    told = {"thread": "t-8", "input": "price of the boat", "output": "", "messages": []}
    texts = {"conversation.json": json.dumps(told), "error.txt": "Error code: 429"}
    asked = {"input": "price of the boat"}
    assert shown(params=LLM, tags={"status": "error"}, texts=texts) == (asked, None)


def test_notation_under_the_name_of_an_answer() -> None:
    tune = "X:1\nL:1/8\nK:D\n|: DFA d2 f | e2 c A2 c :|"
    params = {"prompt": "Play a slow waltz in D major, please.", "output": tune}
    asked, answer = shown(params=params, metrics={"latency_seconds": 41.0})
    assert (asked, answer) == ({"prompt": params["prompt"]}, tune)


def test_code_that_a_model_wrote_comes_before_an_object() -> None:
    code = "from sklearn.linear_model import Ridge\nmodel = Ridge().fit(train, target)"
    texts = {"generated_solution.py": code, "summary.json": json.dumps({"data": "houses"})}
    metrics = {"prompt_tokens": 2100.0, "completion_tokens": 610.0}
    assert shown(params=LLM, texts=texts, metrics=metrics)[1] == code


def test_param_alone_beside_an_answer_and_an_llm_was_asked() -> None:
    case = "The customer was charged twice in May and wants the money back."
    texts = {"answer.txt": ANSWER}
    assert shown(params={**LLM, "case": case}, texts=texts) == ({"case": case}, ANSWER)
    assert shown(params={"case": case}, texts=texts) == (None, ANSWER)
    several = {**LLM, "case": case, "matter": case.replace("May", "June")}
    assert shown(params=several, texts=texts) == (None, ANSWER)


def test_answer_beside_the_messages_of_one_object() -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    record = {"messages": said, "response": ANSWER, "model": "llama3.1"}
    expected = {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    }
    assert shown(params=LLM, texts={"record.json": json.dumps(record)}) == (expected, ANSWER)
    two = {**record, "answer": ASKED}
    assert shown(params=LLM, texts={"record.json": json.dumps(two)})[1] is None


@pytest.mark.parametrize("name", ["description.txt", "abstract.md", "script.txt"])
def test_only_note_beside_a_question_and_an_llm_is_the_answer(name: str) -> None:
    asked = {**LLM, "question": ASKED}
    assert shown(params=asked, texts={name: ANSWER})[1] == ANSWER
    assert shown(params=asked, texts={name: ANSWER, "answer.txt": CONTEXT})[1] == CONTEXT
    assert shown(params=asked, texts={f"expected_{name}": ANSWER})[1] is None
    assert shown(params=asked, texts={"license.txt": ANSWER})[1] is None
    assert shown(params=asked, texts={name: ANSWER, "comment.txt": CONTEXT})[1] is None


@pytest.mark.parametrize(
    "given",
    [
        {"params": {"question": ASKED, "status": "Error during retrieval"}},
        {"params": {"question": ASKED}, "texts": {"error_message.txt": "503 overloaded"}},
        {"params": {"question": ASKED}, "texts": {"llm_error.json": '{"message": "boom"}'}},
        {"params": {"question": ASKED, "request_status": "failed"}},
        {"params": {"question": ASKED, "failure_reason": "Timeout after 30 s"}},
        {"params": {"question": ASKED}, "tags": {"is_success": "false"}},
        {"params": {"question": ASKED}, "metrics": {"is_error": 1}},
        {"params": {"question": ASKED, "traceback": "Traceback (most recent call last):\n boom"}},
    ],
)
def test_error_in_words_or_a_file(given: dict[str, Any]) -> None:
    assert trace(run("r", **given)).status == "ERROR"


def test_tree_of_totals_is_an_evaluation() -> None:
    def child(name: str, **given: Any) -> Any:
        return run(name, "r", params={"condition": name, **LLM, "n_questions": "25"}, **given)

    totals = {"faithfulness": 0.7, "avg_latency_s": 4.0}
    tree = (run("r", params=LLM), child("rag", metrics=totals), child("plain", metrics=totals))
    assert plan(*tree).traces == ()
    answer = {"answer.txt": ANSWER}
    asked = child("rag", metrics=totals, texts=answer), child("plain", metrics=totals, texts=answer)
    assert len(plan(run("r", params=LLM), *asked).traces) == 1


def test_tree_of_prompts_and_their_averages_is_a_search() -> None:
    def candidate(number: int, **given: Any) -> Any:
        params = {"candidate": str(number), **LLM}
        metrics = {"mean_judge": 0.6 + number / 10, **given.pop("metrics", {})}
        texts = {"prompt.txt": "Answer {question} in one sentence.", **given.pop("texts", {})}
        return run(f"candidate {number}", "r", params=params, metrics=metrics, texts=texts)

    root = run("r", params=LLM)
    assert plan(root, *map(candidate, range(4))).traces == ()
    answered = [candidate(number, texts={"answer.txt": ANSWER}) for number in range(4)]
    assert len(plan(root, *answered).traces) == 1


def test_report_over_many_cases_is_not_a_call() -> None:
    report = {"report.md": "The candidate wins most of the games and is weak in math."}
    assert plan(run("r", params=LLM, metrics={"win_rate": 0.6}, texts=report)).traces == ()
    assert len(plan(run("r", params=LLM, metrics={"latency": 0.6}, texts=report)).traces) == 1
    counted = {"win_rate": 0.6, "prompt_tokens": 30, "completion_tokens": 12}
    assert len(plan(run("r", params=LLM, metrics=counted, texts=report)).traces) == 1


def test_text_that_a_classifier_labelled_is_not_a_call() -> None:
    params = {"input_text": "my laptop does not start since the update", "predicted_label": "IT"}
    assert plan(run("r", params={**params, "text_length": "42"})).traces == ()
    assert len(plan(run("r", params={**params, **LLM})).traces) == 1
    assert len(plan(run("r", params={**params, "answer": ANSWER})).traces) == 1


def test_tokens_by_the_last_words_of_a_metric() -> None:
    metrics = {"llm_prompt_tokens": 300, "llm_completion_tokens": 90, "judge_prompt_tokens": 5}
    (span,) = trace(run("r", params=LLM, metrics=metrics)).spans
    assert value(span, conv.SPAN_USAGE) == {
        "input_tokens": 300, "output_tokens": 90, "total_tokens": 390,
    }  # fmt: skip


def test_subject_of_a_call_whose_answer_was_not_logged() -> None:
    made = trace(run("r", params={**LLM, "topic": "error correction"}, metrics={"tokens": 90}))
    assert value(made.spans[0], conv.SPAN_INPUTS) == {"topic": "error correction"}
    assert value(made.spans[0], conv.SPAN_USAGE) == {"total_tokens": 90}


def test_tokens_of_parts_are_not_those_of_the_run() -> None:
    metrics = {"planner_prompt_tokens": 30, "writer_prompt_tokens": 9}
    made = trace(run("r", params={**LLM, "question": ASKED}, metrics=metrics))
    assert conv.SPAN_USAGE not in made.spans[0].attributes


@pytest.mark.parametrize(
    ("path", "is_read"),
    [
        ("generated_response", True),
        ("out/final_answer", True),
        ("questions.csv", False),
        ("response.png", False),
        ("generated.sql", True),
        ("train.py", False),
        ("classification.json", True),
        ("classification_scores.json", False),
        ("class_names.json", False),
        ("artifacts/transcript.json", True),
    ],
)
def test_files_that_are_read(path: str, is_read: bool) -> None:
    assert wanted_artifacts(GENERIC)(path) is is_read


def test_alternatives_in_the_name_of_a_file() -> None:
    text = 'name = "mine"\n[fields]\noutputs = ["artifact:reply.{py,sql}"]\n'
    (mine,) = [each for each in load_profiles(texts=[("mine.toml", text)]) if each.name == "mine"]
    wanted = wanted_artifacts([mine])
    assert wanted("reply.sql") and wanted("a/reply.py") and not wanted("reply.js")


def test_prompt_and_its_own_length_are_not_a_call() -> None:
    texts = {"prompt_formal.txt": "You answer mails in a formal tone. Be brief."}
    params = {"prompt_name": "formal", "prompt_tokens": "61"}
    assert plan(run("r", params=params, texts=texts)).traces == ()
    measured = {"prompt_tokens": 61, "completion_tokens": 9}
    assert len(plan(run("r", params=params, metrics=measured, texts=texts)).traces) == 1


@pytest.mark.parametrize("name", ["prompt_output.txt", "response.txt"])
def test_prompt_and_answer_in_one_file(name: str) -> None:
    text = f"PROMPT:\n{ASKED}\n\nOUTPUT:\n{ANSWER}"
    assert shown(params=LLM, texts={name: text}) == ({"prompt": ASKED}, ANSWER)


def test_file_of_questions_is_not_the_answer() -> None:
    questions = {"question_1": ASKED, "question_2": "Who pays for the repair of the window?"}
    texts = {"user_prompt.txt": CONTEXT + ASKED, "questions.json": json.dumps(questions)}
    assert shown(params=LLM, texts=texts)[1] is None


def test_answer_in_a_note_that_repeats_the_question() -> None:
    note = f"Question:\n{ASKED}\n\nAnswer:\n{ANSWER}\n\nSources:\n  - lease.pdf\n"
    assert shown(params={"question": ASKED}, texts={"answer.txt": note})[1] == ANSWER
    other = note.replace(ASKED, "Who wrote it?")
    assert shown(params={"question": ASKED}, texts={"answer.txt": other})[1] == other


def test_texts_in_the_objects_of_a_state() -> None:
    state = {"question": ASKED, "kind": "lease", "documents": [CONTEXT], "final_answer": ANSWER}
    both = {"input": {"question": ASKED, "final_answer": ""}, "output": state}
    for texts in ({"input_output.json": json.dumps(both)}, {"final_state.json": json.dumps(state)}):
        inputs, outputs = shown(params=LLM, texts=texts)
        assert list(inputs.values()) == [ASKED]
        assert outputs == ANSWER


def test_question_in_a_listed_object_beside_inputs_stays_in_it() -> None:
    output = {"question": ASKED, "answer": ANSWER, "pages": [3]}
    texts = {"inputs.json": json.dumps({"text": CONTEXT}), "outputs.json": json.dumps(output)}
    assert shown(params=LLM, texts=texts)[1] == output
    assert shown(params=LLM, texts={"outputs.json": json.dumps(output)})[1] == ANSWER


def test_few_words_are_the_subject_of_an_answer() -> None:
    params = {**LLM, "topic": "deposits of tenants", "task": "write report"}
    assert shown(params=params, texts={"result_snippet.txt": ANSWER}) == (
        {"topic": "deposits of tenants"}, ANSWER,
    )  # fmt: skip


@pytest.mark.parametrize(
    "texts",
    [
        {"step_1_research.txt": CONTEXT, "step_2_plan.txt": CONTEXT, "step_10_article.txt": ANSWER},
        {"poem_v1.md": CONTEXT, "poem_v2.md": ANSWER},
        {"poem_v1.md": CONTEXT, "poem_v2.md": ANSWER, "critique.md": CONTEXT},
        {"agents/planner/output.md": CONTEXT, "agents/writer/output.md": CONTEXT,
         "final/report.md": ANSWER},
    ],
)  # fmt: skip
@pytest.mark.parametrize("asked", [ASKED, "Write about deposits for students"])
def test_text_of_the_last_step_is_the_answer(texts: dict[str, str], asked: str) -> None:
    assert shown(params={**LLM, "request": asked}, texts=texts) == ({"request": asked}, ANSWER)


def test_numbered_chunks_are_no_steps() -> None:
    texts = {"chunk_1.txt": CONTEXT, "chunk_2.txt": ANSWER}
    assert shown(params={**LLM, "question": ASKED}, texts=texts)[1] is None


def test_param_was_given_and_file_is_the_answer() -> None:
    points = "Sales rose by four percent, and the new shop opens in May."
    inputs, outputs = shown(params={**LLM, "key_points": points}, texts={"draft.txt": ANSWER})
    assert (inputs, outputs) == ({"key_points": points}, ANSWER)


def test_checks_of_what_was_made_are_not_the_answer() -> None:
    checked = {"valid": True, "reason": "All fields are in the text."}
    texts = {"extraction.json": json.dumps(TASKS), "verification.json": json.dumps(checked)}
    assert shown(params={**LLM, "user_message": TOLD}, texts=texts)[1] == TASKS


def test_sentences_that_an_algorithm_picked_are_no_call() -> None:
    article = "The bridge was built in 1931. It carries trams. Today only cyclists use it."
    picked = {
        "article.txt": article,
        "summary.txt": "The bridge was built in 1931. It carries trams.",
    }
    assert plan(run("r", texts=picked)).traces == ()
    written = {"article.txt": article, "summary.txt": "Only cyclists use the bridge of 1931."}
    assert len(plan(run("r", texts=written)).traces) == 1


def test_question_of_a_survey_is_not_a_call() -> None:
    params = {"question": "How satisfied are you with the bridge?"}
    assert plan(run("r", params=params, metrics={"responses": 412.0})).traces == ()
    assert len(plan(run("r", params=params, metrics={"responses": 3.0})).traces) == 1


@pytest.mark.parametrize(
    ("texts", "answered"),
    [
        ({"original.txt": CONTEXT.strip(), "simplified.txt": ANSWER}, "simplified.txt"),
        ({"transcript.txt": CONTEXT.strip(), "minutes.md": ANSWER}, "minutes.md"),
    ],
)
def test_text_that_was_made_of_another_is_the_answer(texts: dict[str, str], answered: str) -> None:
    inputs, outputs = shown(params=LLM, texts=texts)
    assert (list(inputs.values()), outputs) == ([CONTEXT.strip()], texts[answered])


@pytest.mark.parametrize(
    "body",
    [
        {"answers": [{"question": 1, "answer": "Yes, twice a day."}]},
        [{"id": 1, "text": "Twice a day."}],
    ],
)
def test_data_in_the_file_of_a_response_is_the_answer(body: Any) -> None:
    texts = {"user_prompt.txt": ASKED, "llm_response.json": json.dumps(body)}
    assert shown(params=LLM, texts=texts) == ({"user_prompt": ASKED}, body)
    assert shown(params={}, texts=texts) == ({"user_prompt": ASKED}, None)


def test_object_named_after_an_action_that_holds_what_it_was_made_of() -> None:
    pair = {"source_text": ASKED, "translated_text": ANSWER, "error": None}
    texts = {"translation_event.json": json.dumps(pair)}
    assert shown(texts=texts, metrics={"latency_ms": 812.0}) == ({"source_text": ASKED}, ANSWER)


def test_prompt_that_was_cut_is_what_was_asked() -> None:
    cut = {"params": {**LLM, "top_p": "1"}, "tags": {"prompt_snippet": ASKED}}
    assert shown(**cut, metrics={"latency_ms": 900.0}) == ({"prompt_snippet": ASKED}, None)


def test_few_words_are_not_the_answer_of_many_tokens() -> None:
    intent = "quick delivery of the maps and a substitute for each"
    counted = {"prompt_tokens": 2044.0, "completion_tokens": 794.0}
    assert shown(params={**LLM, "intent": intent}, metrics=counted) == ({"intent": intent}, None)
    short = {"prompt_tokens": 2044.0, "completion_tokens": 11.0}
    assert shown(params={**LLM, "intent": intent}, metrics=short) == (None, intent)
    thought = {**LLM, "final_verdict_of_model_reply": intent}
    assert shown(params=thought, metrics=counted)[1] == intent


def test_yes_and_no_are_not_asked() -> None:
    given = {"params": {"off_topic": "False"}, "texts": {"response.txt": ANSWER}}
    assert shown(**given, metrics={"total_tokens": 210.0}) == (None, ANSWER)


def test_text_alone_by_its_tokens() -> None:
    text = {"docstring.txt": "Compute the flour that a grain gives in some hours."}
    as_answer = {"prompt_tokens": 90, "completion_tokens": 13}
    assert shown(params=LLM, texts=text, metrics=as_answer) == (None, text["docstring.txt"])
    as_prompt = {"prompt_tokens": 13, "completion_tokens": 90}
    assert shown(params=LLM, texts=text, metrics=as_prompt)[0] == {
        "docstring": text["docstring.txt"]
    }


def test_few_words_of_a_user_are_what_was_asked() -> None:
    params = {**LLM, "user_request": "Order flour for the bakery"}
    assert shown(params=params)[0] == {"user_request": "Order flour for the bakery"}


def test_file_of_a_configuration_is_not_a_call() -> None:
    kept: dict[str, Any] = {
        "params": LLM,
        "texts": {"rails.txt": "Never talk of the election with a guest."},
    }
    assert plan(run("r", end=40, **kept)).traces == ()
    assert len(plan(run("r", end=900, **kept)).traces) == 1
    measured = run("r", end=40, metrics={"score": 0.7}, **kept)
    assert len(plan(measured).traces) == 1


def test_text_that_was_read_from_a_scan_is_not_a_call() -> None:
    texts = {"output.txt": "The ferry comes at noon, except on Sundays."}
    given: dict[str, Any] = {"texts": texts, "metrics": {"latency_ms": 900.0}}
    assert plan(run("r", params={"model": "microsoft/trocr-base"}, **given)).traces == ()
    assert len(plan(run("r", params={"model": "acme/own-model"}, **given)).traces) == 1


def test_report_of_a_months_tokens_is_not_a_call() -> None:
    texts = {"report.md": "The chat costs most, and the summaries came second."}
    metrics = {"total_tokens": 9_100_000.0, "num_requests": 41_000.0}
    assert plan(run("r", params={"provider": "openai"}, metrics=metrics, texts=texts)).traces == ()


def test_response_that_only_tells_of_an_error_is_not_the_answer() -> None:
    told = {"error": "upstream model is overloaded", "code": 529}
    texts = {"request.json": json.dumps({"question": ASKED}), "response.json": json.dumps(told)}
    assert shown(params=LLM, texts=texts)[1] is None
    fine = {**texts, "response.json": json.dumps({"error": None, "text": ANSWER})}
    assert shown(params=LLM, texts=fine)[1] == {"error": None, "text": ANSWER}


def test_what_was_found_in_a_text_is_not_what_was_asked() -> None:
    found = {"customer": "Mrs Berg", "request": "She would like to rent a boat for one week."}
    texts = {"document.txt": TOLD, "extracted.json": json.dumps(found)}
    assert shown(texts=texts) == ({"document": TOLD}, found)


def test_query_and_what_a_model_made_of_it() -> None:
    params = {**LLM, "original_query": "deposit back when", "rewritten_query": ASKED}
    assert shown(params=params) == ({"original_query": "deposit back when"}, ASKED)


@pytest.mark.parametrize("blank", ["{text}", "{{ text }}"])
def test_template_is_not_asked_beside_the_prompt_that_was_made_of_it(blank: str) -> None:
    texts = {
        "prompt_template_basic.txt": f"Translate into Korean: {blank}.\n",
        "full_prompt_basic.txt": "Translate into Korean: The sea is calm today.",
    }
    made = trace(run("r", params={"model": "gpt-4o"}, texts=texts))
    (root,) = made.spans
    inputs = {"full_prompt_basic": texts["full_prompt_basic.txt"]}
    assert value(root, "mlflow.spanInputs") == inputs
    assert made.request_preview == texts["full_prompt_basic.txt"]
    other = {**texts, "full_prompt_basic.txt": "Write about the sea."}
    both = value(
        trace(run("r", params={"model": "gpt-4o"}, texts=other)).spans[0], "mlflow.spanInputs"
    )
    assert isinstance(both, dict)
    assert set(both) == {"prompt_template_basic", "full_prompt_basic"}


def test_message_of_success_is_not_what_was_asked() -> None:
    params = {**LLM, "message": "ok", "prompt": ASKED, "answer": ANSWER}
    assert shown(params=params) == ({"prompt": ASKED}, ANSWER)
    assert shown(params={**LLM, "message": "ok", "answer": ANSWER}) == ({"message": "ok"}, ANSWER)


def test_outcome_of_a_job_is_not_a_call() -> None:
    outcome = {"success": True, "message": "All expectations are met by the table of orders."}
    given: dict[str, Any] = {
        "params": {"status": "success"},
        "metrics": {"duration_seconds": 31.0},
        "texts": {"output.json": json.dumps(outcome)},
    }
    assert plan(run("r", **given)).traces == ()
    told = {"output.json": json.dumps({"message": ANSWER})}
    assert len(plan(run("r", **{**given, "texts": told})).traces) == 1


def test_error_under_a_name_that_ends_so() -> None:
    params = {"user_question": ASKED, "server_error": "ResourceExhausted: 429 quota exceeded"}
    made = trace(run("r", params=params))
    assert made.status == "ERROR"
    assert "429 quota exceeded" in (made.spans[0].status_message or "")
    measured = {"user_question": ASKED, "mean_squared_error": "0.1 of 2", "max_error": "0.2"}
    assert trace(run("r", params=measured)).status == "OK"


def test_prompts_in_a_folder_of_prompts_are_not_a_call() -> None:
    texts = {"prompts/planner.txt": "You plan the steps for a task. Answer as JSON.",
             "prompts/writer.txt": "You write the report. Be brief."}  # fmt: skip
    params = {**LLM, "temperature": "0.2", "max_iterations": "5"}
    assert plan(run("r", params=params, texts=texts)).traces == ()


def test_message_and_result_of_a_job_are_not_a_call() -> None:
    done = "All boxes were moved to the new shelf without a loss."
    given: dict[str, Any] = {
        "params": {"message": "Move the boxes of letters to the new shelf"},
        "metrics": {"duration_s": 61.0},
    }
    assert plan(run("r", **given, texts={"result.txt": done})).traces == ()
    assert len(plan(run("r", **given, texts={"final_result.txt": done})).traces) == 1


def test_mail_that_a_model_wrote_beside_what_it_was_told() -> None:
    params = {**LLM, "context": "We found the poem of 1893 in box four."}
    assert shown(params=params, texts={"email_body.txt": ANSWER})[1] == ANSWER
