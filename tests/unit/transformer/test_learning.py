"""A profile is proposed from what values look like, whatever their keys are called."""

from __future__ import annotations

import json
from typing import Any

import pytest

from migrator.model import RunRecord
from migrator.transformer import Learner, Proposal, RunTree, load_profiles, proposed_toml
from tests.support.planskit import plan, run, run_id

QUESTIONS = ("Wie kündige ich?", "Wo ist meine Rechnung vom Mai?", "Warum ist das Netz so langsam?")
ANSWERS = (
    "Sie können im Kundenbereich schriftlich kündigen.",
    "Die Rechnung liegt im Kundenbereich unter den Dokumenten, und sie kommt per Mail.",
    "Es gibt eine Störung in der Gegend, wir arbeiten an der Lösung.",
)


def helpdesk(number: int) -> RunRecord:
    """A run of a tracker that no profile knows: every key is made up."""
    question, answer = QUESTIONS[number % 3], ANSWERS[number % 3] + "!" * number
    given, got = len(question) // 4 + number, len(answer) // 4
    has_failed = number % 5 == 4
    tags = {"auskunft": answer, "daumen": "👍" if number % 2 else "👎"}
    if has_failed:
        tags["panne"] = "Timeout: der Dienst hat nicht geantwortet"
    return run(
        f"vorgang-{number}", end=1200 + 37 * number, tags=tags,
        status="FAILED" if has_failed else "FINISHED",
        params={
            "anliegen": question, "motor": ("gpt-4o", "claude-3-haiku")[number % 2],
            "faden": f"f-{number // 3:04d}", "kunde": f"k{number % 4}@example.org", "lauf": "x",
        },
        metrics={
            "zaehler_a": given, "zaehler_b": got, "zaehler_c": given + got,
            "dauer": 1200 + 37 * number, "guete": 0.5 + number % 5 / 10,
        },
    )  # fmt: skip


def learnt(*runs: RunRecord) -> Proposal:
    learner = Learner()
    for each in runs:
        learner.add(RunTree(each.run_id, {each.run_id: each}, {}))
    return learner.proposal()


HELPDESK = tuple(helpdesk(number) for number in range(15))


@pytest.mark.parametrize(
    ("field", "source"),
    [
        ("inputs", "param:anliegen"),
        ("outputs", "tag:auskunft"),
        ("model", "param:motor"),
        ("session", "param:faden"),
        ("user", "param:kunde"),
        ("input_tokens", "metric:zaehler_a"),
        ("output_tokens", "metric:zaehler_b"),
        ("total_tokens", "metric:zaehler_c"),
        ("duration_ms", "metric:dauer"),
        ("error_message", "tag:panne"),
    ],
)
def test_made_up_keys_are_told_by_their_values(field: str, source: str) -> None:
    assert [each.source for each in learnt(*HELPDESK).of(field)] == [source]


def test_scores_and_verdicts_become_feedback_and_the_rest_is_left_alone() -> None:
    proposal = learnt(*HELPDESK)
    found = {each.source: each.is_verdict for each in proposal.of("feedback")}
    assert found == {"metric:guete": False, "tag:daumen": True}
    assert all(each.source != "param:lauf" for each in proposal.suggestions)


def test_the_toml_is_a_profile_that_reads_such_runs() -> None:
    text = proposed_toml("ours", learnt(*HELPDESK), 'help "desk"')
    assert "# param:anliegen: 15 runs; " in text
    profiles = load_profiles(texts=[("ours.toml", text)])
    made = plan(HELPDESK[4], profiles=profiles)
    assert made.profile == "ours"
    (trace,) = made.traces
    assert (trace.request_preview, trace.status) == (QUESTIONS[1], "ERROR")
    assert trace.metadata["mlflow.trace.session"] == "f-0001"
    assert trace.metadata["mlflow.trace.user"] == "k0@example.org"
    assert trace.usage is not None
    assert (trace.usage.input_tokens, trace.usage.output_tokens) == (11, 21)
    assert {each.name for each in trace.assessments} == {"guete", "daumen", "total_tokens"}


def test_order_of_the_trees_does_not_matter() -> None:
    assert learnt(*HELPDESK) == learnt(*HELPDESK[:1], *HELPDESK[1:])
    forth = {each.source for each in learnt(*HELPDESK).suggestions}
    back = {each.source for each in learnt(*reversed(HELPDESK)).suggestions}
    assert forth == back


def test_values_inside_json_files_and_files_with_numbers_in_their_names() -> None:
    runs = [
        run(
            f"r{number}",
            texts={
                "blatt.json": f'{{"f": "{QUESTIONS[number]}", "a": "{ANSWERS[number]}"}}',
                f"notiz_2024010{number}.md": f"{ANSWERS[number]} Alles ist gut gegangen.",
            },
        )
        for number in range(3)
    ]
    proposal = learnt(*runs)
    assert [each.source for each in proposal.of("inputs")] == ["artifact:blatt.json#f"]
    assert [each.source for each in proposal.of("outputs")] == ["artifact:blatt.json#a"]
    assert proposal.recognise == (("artifact:blatt.json",),)
    notes = [
        run(f"n{number}", texts={f"notiz_2024010{number}.md": ANSWERS[number]})
        for number in range(3)
    ]
    assert [each.source for each in learnt(*notes).of("outputs")] == ["artifact:notiz_*.md"]


def test_keys_of_nested_runs_are_looked_for_below_the_root() -> None:
    def tree(number: int) -> RunTree:
        child = run(
            f"c{number}", f"r{number}", params={"anliegen": QUESTIONS[number], "motor": "gpt-4o"},
        )  # fmt: skip
        runs = {each.run_id: each for each in (run(f"r{number}"), child)}
        root = run_id(f"r{number}")
        return RunTree(root, runs, {root: (child.run_id,)})

    learner = Learner()
    for number in range(3):
        learner.add(tree(number))
    proposal = learner.proposal()
    assert proposal.recognise == ()
    assert proposal.recognise_below == (("param:anliegen", "param:motor"),)


def test_training_gives_no_texts_and_no_tokens() -> None:
    def training(number: int) -> RunRecord:
        metrics: dict[str, Any] = {"loss": 0.1 * number, "rows": 100 + number, "epochs": 3}
        return run(f"t{number}", params={"depth": str(number), "kind": "forest"}, metrics=metrics)

    proposal = learnt(*(training(number) for number in range(6)))
    fields = {each.field for each in proposal.suggestions}
    assert fields.isdisjoint({"inputs", "outputs", "input_tokens", "model", "session"})
    assert proposal.recognise == proposal.recognise_below == ()


ASKED_BACK = ("What else do you need?", "Which plan do you have?", "Shall I open a ticket?")


def sources(proposal: Proposal, field: str) -> list[str]:
    return [each.source for each in proposal.of(field)]


def test_what_stands_in_a_chat_tells_who_said_it() -> None:
    """Three letters ask for nothing by their form, and an answer may ask back."""
    asked = ("hi", "rows", "help")
    runs = []
    for number in range(3):
        chat = [
            {"role": "user", "content": asked[number]},
            {"role": "assistant", "content": ASKED_BACK[number]},
        ]
        params = {"a": ASKED_BACK[number], "b": asked[number]}
        runs.append(run(f"r{number}", params=params, texts={"chat.json": json.dumps(chat)}))
    proposal = learnt(*runs)
    assert sources(proposal, "inputs") == ["param:b"]
    assert sources(proposal, "outputs") == ["param:a", "artifact:chat.json"]


def test_of_two_keys_that_ask_one_is_the_answer() -> None:
    runs = []
    for number in range(3):
        params = {"aa_reaction": ASKED_BACK[number], "user_wish": QUESTIONS[number]}
        runs.append(run(f"r{number}", params=params))
    proposal = learnt(*runs)
    assert sources(proposal, "inputs") == ["param:user_wish"]
    assert sources(proposal, "outputs") == ["param:aa_reaction"]


def test_search_terms_are_inputs_beside_an_answer() -> None:
    terms = ("tariff 2024", "router blue", "invoice")
    runs = [
        run(f"r{number}", params={"search_query": terms[number], "zusage": ANSWERS[number]})
        for number in range(3)
    ]
    proposal = learnt(*runs)
    assert sources(proposal, "inputs") == ["param:search_query"]
    assert sources(proposal, "outputs") == ["param:zusage"]


def test_notes_and_texts_that_never_change_come_after_others() -> None:
    runs = []
    for number in range(3):
        params = {
            "anliegen": QUESTIONS[number], "antworten": ANSWERS[number],
            "a_note": f"Is the new index better than run {number}?",
            "auftrag": "Please answer in one short sentence.",
        }  # fmt: skip
        runs.append(run(f"r{number}", params=params))
    proposal = learnt(*runs)
    assert sources(proposal, "inputs") == ["param:anliegen"]
    assert sources(proposal, "outputs") == ["param:antworten"]


def test_the_name_of_a_model_alone_recognises_no_training() -> None:
    params = {"foundation": "gemini-2.0-flash", "hops": "2"}
    runs = [
        run(f"r{number}", params=params, metrics={"compiled": 1, "took_s": 3 + number})
        for number in range(3)
    ]
    proposal = learnt(*runs)
    assert sources(proposal, "model") == ["param:foundation"]
    assert proposal.recognise == ()

    learner = Learner()
    for each in runs:
        learner.add(RunTree(each.run_id, {each.run_id: each}, {}), is_llm_work=True)
    assert learner.proposal().recognise == (("param:foundation", "metric:took_s"),)


def test_ids_sums_and_notes_of_jobs_recognise_nothing() -> None:
    """Rows that were kept and dropped add up, and a batch comes again: that is no LLM work."""
    runs = []
    for number in range(6):
        metrics = {"kept": 90 + number, "dropped": 10 + number, "rows": 100 + 2 * number}
        params = {"batch": f"b-{number // 2}", "remark": f"The load of day {number} went well."}
        runs.append(run(f"r{number}", params=params, metrics=metrics))
    assert learnt(*runs).recognise == ()


def test_sums_beside_a_model_recognise_its_calls() -> None:
    runs = []
    for number in range(6):
        metrics = {"sent": 90 + number, "got": 10 + number, "all": 100 + 2 * number}
        runs.append(run(f"r{number}", params={"motor": "gpt-4o"}, metrics=metrics))
    proposal = learnt(*runs)
    assert sources(proposal, "input_tokens") == ["metric:sent"]
    assert proposal.recognise == (("metric:sent", "metric:got", "metric:all"),)


@pytest.mark.parametrize(
    "again", ["2025-12-12", "2025-12-12T08:00:00", "20251212", "v1.2", "0.3.1-rc1", "a" * 40]
)
def test_dates_versions_and_commits_that_come_again_are_no_sessions(again: str) -> None:
    runs = []
    for number in range(6):
        value = again if number < 3 else again.replace("1", "2").replace("a", "b")
        runs.append(run(f"r{number}", params={"frage": QUESTIONS[number % 3], "x": value}))
    assert sources(learnt(*runs), "session") == []


def test_notes_with_a_question_and_its_answer_are_calls() -> None:
    texts = {"log_1.txt": f"Question: {QUESTIONS[0]}\n\nAnswer: {ANSWERS[0]}\n"}
    proposal = learnt(*(run(f"r{number}", texts=texts) for number in range(3)))
    assert sources(proposal, "calls") == ["artifact:log_1.txt"]
    assert proposal.recognise == (("artifact:log_1.txt",),)


def test_system_prompts_are_no_questions() -> None:
    texts = {
        "system_prompt.txt": "You are a helpful assistant. What does the user need?",
        "user_prompt.txt": "Write an email to the landlord about the heating.",
    }
    proposal = learnt(*(run(f"r{number}", texts=texts) for number in range(2)))
    assert sources(proposal, "inputs") == ["artifact:user_prompt.txt"]


def test_models_that_come_again_are_no_sessions() -> None:
    runs = []
    for number in range(6):
        params = {"encoder": f"bge-small-{number // 3}", "engine": f"own-{number // 3}"}
        runs.append(run(f"r{number}", params={**params, "motor": "gpt-4o"}))
    proposal = learnt(*runs)
    assert sources(proposal, "session") == []
    assert proposal.recognise == ()


def test_texts_of_other_runs_do_not_crowd_out_what_the_root_was_asked() -> None:
    learner = Learner()
    for number in range(3):
        root = run(f"r{number}", params={"wunsch": QUESTIONS[number]})
        texts = {"vor.txt": f"{QUESTIONS[number]} Bitte kurz.", "nach.txt": ANSWERS[number]}
        params = {"suche": f"Was ist {number}?", "motor": "gpt-4o"}
        child = run(f"c{number}", f"r{number}", params=params, texts=texts)
        runs = {each.run_id: each for each in (root, child)}
        learner.add(RunTree(root.run_id, runs, {root.run_id: (child.run_id,)}))
    found = sources(learner.proposal(), "inputs")
    assert sorted(found) == ["artifact:vor.txt", "param:suche", "param:wunsch"]


def test_values_of_objects_inside_json_files_are_looked_at() -> None:
    runs = []
    for number in range(3):
        dump = {
            "rein": {"satz": QUESTIONS[number], "sprache": "de"}, "raus": {"satz": ANSWERS[number]},
            "motor": "gpt-4o", "secs": 1.5 + number, "tief": {"a": {"b": QUESTIONS[number]}},
        }  # fmt: skip
        runs.append(run(f"r{number}", end=60_000, texts={"blatt.json": json.dumps(dump)}))
    proposal = learnt(*runs)
    assert sources(proposal, "inputs") == ["artifact:blatt.json#rein.satz"]
    assert sources(proposal, "outputs") == ["artifact:blatt.json#raus.satz"]
    assert sources(proposal, "model") == ["artifact:blatt.json#motor"]
    assert sources(proposal, "duration_s") == ["artifact:blatt.json#secs"]
    profiles = load_profiles(texts=[("ours.toml", proposed_toml("ours", proposal, "x"))])
    (made,) = plan(runs[0], profiles=profiles).traces
    assert (made.request_preview, made.response_preview) == (QUESTIONS[0], ANSWERS[0])


def test_session_is_what_changes_once_and_for_all() -> None:
    """Short ids, of which one comes and goes: that is a user or a setting."""
    runs = []
    for number in range(8):
        params = {
            "frage": QUESTIONS[number % 3], "motor": "gpt-4o", "akte": f"c-{number // 3}",
            "wer": f"user{number % 2}",
        }  # fmt: skip
        runs.append(run(f"r{number}", start=1000 * number, end=1000 * number + 9, params=params))
    assert sources(learnt(*runs), "session") == ["param:akte"]
    assert sources(learnt(*runs[::-1]), "session") == ["param:akte"]
    mixed = [*runs[::2], *runs[1::2]]
    assert sources(learnt(*mixed), "session") == ["param:akte"]


def test_one_exception_of_a_failed_run_is_the_error() -> None:
    runs = [run(f"r{n}", params={"frage": QUESTIONS[n], "motor": "gpt-4o"}) for n in range(3)]
    tags = {"panne": "TimeoutError: nach 30 s keine Antwort", "ort": "Ulm"}
    failed = run("r3", status="FAILED", params={"frage": QUESTIONS[0]}, tags=tags)
    assert sources(learnt(*runs, failed), "error_message") == ["tag:panne"]


def test_of_two_counts_of_tokens_the_one_tells_the_other() -> None:
    """A count that fits question and answer alike is that of the answer."""
    runs = []
    for number in range(3):
        metrics = {"token_1": 900 + number, "token_2": len(ANSWERS[number]) // 4}
        params = {"frage": QUESTIONS[number], "text": ANSWERS[number], "motor": "gpt-4o"}
        runs.append(run(f"r{number}", params=params, metrics=metrics))
    proposal = learnt(*runs)
    assert sources(proposal, "input_tokens") == ["metric:token_1"]
    assert sources(proposal, "output_tokens") == ["metric:token_2"]


def test_costs_in_another_currency_are_no_scores() -> None:
    runs = [
        run(
            f"r{n}",
            params={"frage": QUESTIONS[n], "motor": "gpt-4o"},
            metrics={"preis_eur": 0.1 * n},
        )
        for n in range(3)
    ]
    proposal = learnt(*runs)
    assert sources(proposal, "feedback") == sources(proposal, "cost_usd") == []


ORDERS = ("reverse abcdef", "word count the quick fox", "What is the weather in Rome?")


def agent_runs() -> list[RunRecord]:
    """Runs of an agent: short orders, a flag, and a number that is always the same."""
    return [
        run(
            f"task-{number}",
            params={"task_input": order, "is_multistep": "False", "was_helpful": "yes"},
            metrics={"step_count": 6.0},
        )
        for number, order in enumerate(ORDERS)
    ]


def test_short_orders_are_inputs_where_one_of_them_is_known_to_be_llm_work() -> None:
    learner = Learner()
    for each in agent_runs():
        is_known = each.params["task_input"].endswith("?")
        learner.add(RunTree(each.run_id, {each.run_id: each}, {}), is_llm_work=is_known)
    proposal = learner.proposal()
    assert sources(proposal, "inputs") == ["param:task_input"]
    assert proposal.recognise == (("param:task_input",),)
    short = learnt(*agent_runs()[:2])
    assert (short.recognise, short.recognise_below) == ((), ())  # an ETL job has such, too


def test_constant_numbers_are_no_tokens_and_switches_no_scores() -> None:
    proposal = learnt(*agent_runs())
    assert not sources(proposal, "input_tokens")
    assert sources(proposal, "feedback") == ["param:was_helpful"]


def test_statistics_on_other_runs_than_the_calls_are_no_scores_and_constants_neither() -> None:
    learner = Learner()
    for number, question in enumerate(QUESTIONS):
        top = run(f"test-{number}", metrics={"control_mean": 0.7, "power": 0.025 + number / 10})
        fit = {"fit": 0.5 + number / 10, "same": 0.25}
        call = run(f"call-{number}", top.run_id, params={"frage": question}, metrics=fit)
        runs = {each.run_id: each for each in (top, call)}
        learner.add(RunTree(top.run_id, runs, {top.run_id: (call.run_id,)}), is_llm_work=True)
    assert sources(learner.proposal(), "feedback") == ["metric:fit"]


def test_answers_of_other_runs_do_not_compete_and_calls_of_tools_are_no_chat() -> None:
    calls = json.dumps([{"type": "function", "function": {"name": "suche", "arguments": "{}"}}])
    learner = Learner()
    for number, question in enumerate(QUESTIONS):
        top = run(f"top-{number}", params={"frage": question, "fazit": ANSWERS[number]})
        texts = {"schritt.txt": f"{ANSWERS[number]} Mehr war nicht da.", "rufe.json": calls}
        step = run(f"step-{number}", top.run_id, texts=texts)
        runs = {each.run_id: each for each in (top, step)}
        learner.add(RunTree(top.run_id, runs, {top.run_id: (step.run_id,)}))
    assert sources(learner.proposal(), "outputs") == ["artifact:schritt.txt", "param:fazit"]


@pytest.mark.parametrize(("given", "got"), [("rein", "raus"), ("abc", "xyz")])
def test_of_two_parts_of_a_sum_the_one_that_grows_with_the_answer_is_its_tokens(
    given: str, got: str
) -> None:
    runs = []
    for number, answer in enumerate(ANSWERS):
        counts = {given: 30 + 2 * number, got: len(answer) // 4}
        metrics = {**counts, "zusammen": sum(counts.values())}
        runs.append(run(f"r{number}", params={"ergebnis": answer}, metrics=metrics))
    proposal = learnt(*runs)
    assert sources(proposal, "input_tokens") == [f"metric:{given}"]
    assert sources(proposal, "output_tokens") == [f"metric:{got}"]
