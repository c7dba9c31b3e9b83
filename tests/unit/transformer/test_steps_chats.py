"""Chats, flows and batches whose shape is that of one tool: sessions, LangFlow, promptflow."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from migrator.model import Json, Role, TreePlan
from migrator.transformer import PlanOptions
from tests.support.planskit import T0, plan, run, span, trace, value

MS = 1_000_000
BEGAN = datetime(2024, 3, 4, 9, 0, 0, tzinfo=timezone.utc)
# A chat of two questions as a chat application of 2025 exports it: names, times without a zone.
SAID = [("user", "Hello, who are you?"), ("assistant", "I am Atlas."),
        ("user", "What do whales eat?"), ("assistant", "Krill, mostly.")]  # fmt: skip


def message(number: int, role: str, text: str, **more: Json) -> dict[str, Json]:
    when = datetime.fromtimestamp(T0 / 1000, timezone.utc) + timedelta(seconds=1 + 2 * number)
    return {
        "message_type": role,
        "agent_id": "supervisor",
        "content": text,
        "timestamp": when.replace(tzinfo=None).isoformat(),
        **more,
    }


def chat(messages: Any, file: str = "conversation_history.json/tmpab12.json") -> TreePlan:
    record = run(
        "chat_9f8e7d6c",
        params={"session_id": "9f8e", "user_id": "u7", "last_model_used": "claude-3-5-sonnet"},
        metrics={"message_count": 4, "total_tokens": 100},
        texts={file: json.dumps(messages)},
        end=9000,
    )
    return plan(record)


def export() -> dict[str, Any]:
    answers = {1: 40, 3: 60}
    said = [
        message(n, role, text, tokens_used=answers.get(n, 0), cost_usd=0.001)
        for n, (role, text) in enumerate(SAID)
    ]
    return {"session_id": "9f8e", "message_count": 4, "conversation": said}


def test_a_chat_is_a_trace_for_each_question_in_one_session() -> None:
    made = chat(export())
    assert (made.profile, made.role) == ("chat-sessions", Role.SESSION)
    one, two = made.traces
    assert [t.metadata["mlflow.trace.session"] for t in made.traces] == ["9f8e", "9f8e"]
    assert [t.metadata["mlflow.trace.user"] for t in made.traces] == ["u7", "u7"]
    (asked,) = one.spans
    assert value(asked, "mlflow.spanInputs") == {
        "messages": [{"role": "user", "content": "Hello, who are you?"}]
    }
    assert value(asked, "mlflow.spanOutputs") == "I am Atlas."
    assert (asked.type, value(asked, "model")) == ("CHAT_MODEL", "claude-3-5-sonnet")
    assert (one.request_preview, two.response_preview) == ("Hello, who are you?", "Krill, mostly.")
    assert [t.usage.total_tokens for t in made.traces if t.usage] == [40, 60]
    assert value(asked, "mlflow.llm.cost") == {"total_cost": 0.001}
    assert {t.trace_id for t in made.traces} >= {f"tr-{made.root_run_id}"}


def test_messages_times_are_the_spans_and_a_missing_zone_is_found_from_the_run() -> None:
    for hours in (0, 2, -5):
        data = export()
        for said in data["conversation"]:
            local = datetime.fromisoformat(said["timestamp"]) + timedelta(hours=hours)
            said["timestamp"] = local.isoformat()
        first, second = (t.spans[0] for t in chat(data).traces)
        assert (first.start_ns // MS - T0, first.end_ns // MS - T0) == (1000, 3000)
        assert (second.start_ns // MS - T0, second.end_ns // MS - T0) == (5000, 7000)
        assert "name no zone" in str(value(first, "legacy.inferences"))


def test_a_plain_list_with_a_system_prompt_and_an_open_question() -> None:
    made = chat(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "ai", "content": "Hello."},
            {"role": "user", "content": "Bye"},
        ],
        "chat/chat_history.json",
    )
    first, last = (t.spans[0] for t in made.traces)
    assert value(first, "mlflow.spanInputs") == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]
    }
    assert value(last, "mlflow.spanInputs") == {"messages": [{"role": "user", "content": "Bye"}]}
    assert value(last, "mlflow.spanOutputs") is None


@pytest.mark.parametrize(
    "messages",
    [[], "Hi", {"conversation": 5}, [{"role": "user"}], [{"role": "ai", "content": "Hi"}], [[]]],
)
def test_a_file_that_holds_no_chat_leaves_the_run_one_trace(messages: Json) -> None:
    made = chat(messages)
    assert (made.profile, len(made.traces)) == ("chat-sessions", 1)
    assert made.traces[0].spans[0].name == "chat_9f8e7d6c"


def test_answer_beside_the_messages_belongs_to_the_last_question() -> None:
    said = export()["conversation"][:3]
    made = chat({"messages": said, "response": "Krill, mostly."})
    assert [t.response_preview for t in made.traces] == ["I am Atlas.", "Krill, mostly."]
    answered = chat({"messages": export()["conversation"], "response": "Fish."})
    assert [t.response_preview for t in answered.traces] == ["I am Atlas.", "Krill, mostly."]


def test_what_a_message_says_besides_stays_on_its_span() -> None:
    first = chat(export()).traces[0].spans[0]
    kept = value(first, "legacy.messages")
    assert isinstance(kept, list)
    assert [m["agent_id"] for m in kept if isinstance(m, dict)] == ["supervisor"] * 2


def test_a_flow_that_failed_before_it_said_anything_is_a_failed_call() -> None:
    made = plan(
        run(
            "Agent Run - support - 1b2c",
            texts={"flow_inputs.json": '{"input": "Where is my parcel?"}'},
            tags={"status": "FAILED"},
            params={"error": "KeyError: 'x'"},
        )
    )
    assert (made.profile, made.traces[0].status) == ("langflow", "ERROR")
    assert made.traces[0].spans[0].type == "AGENT"


def test_an_agent_that_says_its_kind_is_an_agent_with_a_call_for_each_transaction() -> None:
    made = trace(
        run("Global_Supervisor_Run", texts={"initial_prompt.txt": "Write a report"}, end=4000),
        run(
            "research_worker_1",
            "Global_Supervisor_Run",
            tags={"atlas.agent_type": "worker"},
            params={"model_name": "claude-3-5-sonnet", "agent_type": "worker"},
            metrics={
                "input_tokens": [(100, 100, 1), (900, 200, 2)],
                "output_tokens": [(100, 50, 1), (900, 60, 2)],
                "cost_per_million_input_tokens": [(100, 3, 1), (900, 3, 2)],  # a price, no cost
                "final_cost_usd": [(100, 0.001, 1), (900, 0.002, 2)],
            },
        ),
    )
    assert [(s.name, s.type) for s in made.spans] == [
        ("Global_Supervisor_Run", "AGENT"),
        ("research_worker_1", "AGENT"),
        ("call_1", "LLM"),
        ("call_2", "LLM"),
    ]
    assert value(span(made, "call_2"), "mlflow.llm.cost") == {"total_cost": 0.002}
    assert made.usage is not None and made.usage.total_tokens == 410


def test_lines_of_a_prompt_flow_are_a_trace_each_when_tables_are_asked_for() -> None:
    lines = [
        {"line_number": 0, "inputs.url": "https://example.org/a", "inputs.groundtruth": "App",
         "outputs.category": "App", "outputs.evidence": "Both"},
        {"line_number": 1, "inputs.url": "https://example.org/b", "inputs.groundtruth": "None",
         "outputs.category": "Movie", "outputs.evidence": "URL"},
    ]  # fmt: skip
    record = run(
        "classification",
        texts={"instance_results.jsonl": "\n".join(json.dumps(line) for line in lines)},
    )
    assert plan(record).left_as_runs == "tables"
    made = plan(record, options=PlanOptions(include=frozenset({"tables"}), version="t"))
    first = made.traces[0].spans[0]
    assert value(first, "mlflow.spanInputs") == {"inputs_url": "https://example.org/a"}
    assert value(first, "mlflow.spanOutputs") == {
        "outputs_category": "App",
        "outputs_evidence": "Both",
    }
    judged = [(a.name, a.value) for t in made.traces for a in t.assessments]
    assert judged == [("inputs.groundtruth", "App"), ("inputs.groundtruth", "None")]
