"""A profile is proposed from what values look like, whatever their keys are called."""

from __future__ import annotations

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
