"""Spans of rebuilt traces: the mapping table, and the facts that break a naive one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from migrator import conventions as conv
from migrator.model import AssessmentRecord, Role, RunRecord, TracePlan
from migrator.transformer import trace_totals as assemble
from tests.support.planskit import LLM, MS, T0, plan, plans, run, run_id, span, trace, value


def p1(
    root: dict[str, Any] | None = None, draft: dict[str, Any] | None = None, **more: dict[str, Any]
) -> list[RunRecord]:
    """A workflow of the configurable-agents tracker with two nodes."""
    return [
        run(
            "article_20240101_120000",
            **{
                "end": 4000,
                "params": {
                    "workflow_name": "article", "schema_version": "1.0", "node_count": "2",
                    "global_provider": "openai", "global_model": "gpt-4o",
                },
                "metrics": {
                    "duration_seconds": 4.0, "total_input_tokens": 30, "total_output_tokens": 12,
                    "total_cost_usd": 0.03, "node_count": 2, "retry_count": 0, "status": 1,
                },
                "texts": {"inputs.json": '{"topic": "sea"}', "outputs.json": '{"text": "Wide."}'},
                **(root or {}),
            },
        ),
        run(
            "node_draft", "article_20240101_120000",
            **{
                "start": 10, "end": 2000,
                "params": {"node_id": "draft", "node_model": "gpt-4o"},
                "metrics": {
                    "node_duration_ms": 1990, "input_tokens": 10, "output_tokens": 4,
                    "node_cost_usd": 0.01, "retries": 2,
                },
                "tags": {"prompt": "Write about the s...", "response": "Wide"},
                "texts": {"prompt.txt": "Write about the sea", "response.txt": '{"draft": "Wide"}'},
                **(draft or {}),
            },
        ),
        run(
            "node_polish", "article_20240101_120000",
            **{
                "start": 2000, "end": 3900,
                "params": {"node_id": "polish", "node_model": "gpt-4o-mini", "tools": '["web"]'},
                "metrics": {"input_tokens": 20, "output_tokens": 8, "node_cost_usd": 0.02},
                "tags": {"prompt": "Polish", "response": "Wide."},
                **more.get("polish", {}),
            },
        ),
    ]  # fmt: skip


def start_ms(of: TracePlan, name: str) -> float:
    return span(of, name).start_ns / MS - T0


def end_ms(of: TracePlan, name: str) -> float:
    return span(of, name).end_ns / MS - T0


# --------------------------------------------------------------- the tracker's workflow, whole


def test_workflow_of_the_legacy_tracker_becomes_one_trace() -> None:
    made_plan = plan(*p1())
    assert (made_plan.profile, made_plan.role) == ("configurable-agents", Role.WORKFLOW)
    (made,) = made_plan.traces
    root_id = run_id("article_20240101_120000")
    assert made.trace_id == f"tr-{root_id}"
    assert (made.name, made.status) == ("workflow_article", "OK")
    assert (made.timestamp_ms, made.execution_ms) == (T0, 4000)
    assert [(s.name, s.type) for s in made.spans] == [
        ("workflow_article", "WORKFLOW"),
        ("draft", "LLM"),
        ("polish", "AGENT"),
    ]
    assert made.run_ids == (root_id, run_id("node_draft"), run_id("node_polish"))
    assert made.metadata["mlflow.sourceRun"] == root_id
    assert made.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert made.tags["mlflow.traceName"] == "workflow_article"
    assert made.tags["migrator.version"] == "test"
    assert made.request_preview == "sea" and made.response_preview == "Wide."
    root = made.spans[0]
    assert value(root, "mlflow.spanInputs") == {"topic": "sea"}
    assert root.origins["inputs"] == "artifact inputs.json"
    assert "mlflow.trace.session" not in made.metadata
    assert "mlflow.trace.user" not in made.metadata  # the OS user is nobody's session


def test_node_holds_prompt_answer_tokens_cost_and_model() -> None:
    draft = span(trace(*p1()), "draft")
    assert value(draft, "mlflow.spanInputs") == {"prompt": "Write about the sea"}
    assert value(draft, "mlflow.spanOutputs") == {"draft": "Wide"}
    assert value(draft, "mlflow.chat.tokenUsage") == {
        "input_tokens": 10, "output_tokens": 4, "total_tokens": 14,
    }  # fmt: skip
    assert value(draft, "mlflow.llm.cost") == {"total_cost": 0.01}
    assert value(draft, "cost_usd") == 0.01
    assert value(draft, "mlflow.llm.model") == value(draft, "model") == "gpt-4o"
    assert value(draft, "mlflow.llm.provider") == value(draft, "provider") == "openai"
    assert value(draft, "legacy.metric.retries") == 2
    assert draft.run_id == run_id("node_draft")


@pytest.mark.parametrize("number", [1e13, 1.7e308])
def test_numbers_that_no_call_can_have_are_not_counted(number: float) -> None:
    tokens = {"input_tokens": 10.0, "output_tokens": 5.0}
    costs = {"input_cost_usd": number, "output_cost_usd": number, "cost_usd": number}
    metrics = {**tokens, **costs, "latency_ms": number}
    made = trace(run("r", params={"model": "gpt-4o"}, metrics=metrics))
    (span,) = made.spans
    assert value(span, "mlflow.chat.tokenUsage") == {**tokens, "total_tokens": 15}
    assert value(span, "mlflow.llm.cost") is None
    assert [each.name for each in made.assessments] == ["total_tokens"]
    assert value(span, "legacy.metric.cost_usd") == number


def test_tokens_and_cost_stand_on_leaves_and_sum_once() -> None:
    made = trace(*p1())
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (
        30,
        12,
        42,
    )
    assert json.loads(made.metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 42
    assert json.loads(made.metadata["mlflow.trace.cost"]) == {"total_cost": 0.03}
    root = made.spans[0]
    assert conv.SPAN_USAGE not in root.attributes and conv.SPAN_COST not in root.attributes
    assert value(root, "legacy.metric.total_input_tokens") == 30


def test_root_total_counts_when_no_step_has_any() -> None:
    runs = p1(draft={"metrics": {}}, polish={"metrics": {"input_tokens": 0, "output_tokens": 0}})
    made = trace(*runs)
    assert made.usage is not None and made.usage.total_tokens == 42
    assert conv.SPAN_USAGE in made.spans[0].attributes
    assert json.loads(made.metadata["mlflow.trace.cost"]) == {"total_cost": 0.03}


def test_total_that_is_not_the_sum_is_said() -> None:
    made = trace(
        *p1(root={"metrics": {"status": 1, "total_input_tokens": 99, "total_output_tokens": 1}})
    )
    assert "total of 100 is not the sum of its steps, 42" in made.tags["migrator.inferences"]
    assert made.usage is not None and made.usage.total_tokens == 42


def test_zero_tokens_are_not_captured_tokens() -> None:
    zero = {"input_tokens": 0, "output_tokens": 0}
    runs = p1(
        root={"metrics": {"status": 1, "total_input_tokens": 0}},
        draft={"metrics": zero},
        polish={"metrics": zero},
    )
    made = trace(*runs)
    assert made.usage is None and "mlflow.trace.tokenUsage" not in made.metadata
    assert value(span(made, "draft"), "legacy.metric.input_tokens") == 0
    assert "not captured" in made.tags["migrator.inferences"]


def test_a_count_that_was_never_captured_is_unknown_in_the_sum_too() -> None:
    got = {"output_tokens": 7}
    made = trace(*p1(root={}, draft={"metrics": got}, polish={"metrics": got}))
    assert made.usage is not None
    counts = (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens)
    assert counts == (None, 14, None)
    assert json.loads(made.metadata["mlflow.trace.tokenUsage"]) == {"output_tokens": 14}


def test_failed_workflow_puts_its_error_on_the_node_it_names() -> None:
    error = {
        "error_type": "NodeExecutionError",
        "error_message": "Node 'polish': LLM call failed: 429",
    }
    runs = p1(
        root={"metrics": {"status": 0}, "texts": {"error.json": json.dumps(error)}},
        polish={"metrics": {}, "tags": {}},
    )
    made = trace(*runs)
    assert made.status == "ERROR"
    assert [s.status for s in made.spans] == ["ERROR", "OK", "ERROR"]
    for failed in (made.spans[0], span(made, "polish")):
        (event,) = failed.events
        assert event.name == "exception" and event.time_ns == failed.end_ns
        assert event.attributes["exception.type"] == "NodeExecutionError"
        assert event.attributes["exception.message"] == error["error_message"]
        assert failed.status_message == f"NodeExecutionError: {error['error_message']}"
    assert made.response_preview == f"NodeExecutionError: {error['error_message']}"


def test_failed_workflow_without_a_name_blames_the_node_that_logged_nothing() -> None:
    runs = p1(root={"metrics": {"status": 0}, "texts": {}}, polish={"metrics": {}, "tags": {}})
    assert [s.status for s in trace(*runs).spans] == ["ERROR", "OK", "ERROR"]


def test_node_without_metrics_is_no_error_when_the_workflow_succeeded() -> None:
    made = trace(*p1(draft={"metrics": {}, "texts": {}, "tags": {}}))
    assert [s.status for s in made.spans] == ["OK", "OK", "OK"]


def test_workflow_without_nodes_is_still_a_workflow() -> None:
    made = plan(p1()[0])
    assert (made.role, made.profile, len(made.traces)) == (Role.WORKFLOW, "configurable-agents", 1)


def test_metrics_of_parallel_nodes_on_one_node_keep_the_right_sum() -> None:
    both = {"input_tokens": [(1, 10, 0), (2, 20, 0)], "output_tokens": [(1, 4, 0), (2, 8, 0)]}
    made = trace(*p1(draft={"metrics": {}}, polish={"metrics": both}))
    assert made.usage is not None and made.usage.total_tokens == 42


def test_node_whose_workflow_is_gone_is_a_call_of_its_own() -> None:
    made = plan(p1()[1])
    assert (made.profile, made.role) == ("configurable-agents-node", Role.CALL)
    (only,) = made.traces
    assert (only.name, only.spans[0].type) == ("draft", "LLM")
    assert only.usage is not None and only.usage.total_tokens == 14


def test_requests_to_the_deployed_server_are_calls() -> None:
    made = plan(
        run(
            "sync_0a1b2c3d",
            params={"topic": "sea", "error": "boom"},
            metrics={"execution_time_ms": 900, "success": 0},
        )
    )
    assert made.profile == "configurable-agents-server"
    (only,) = made.traces
    assert value(only.spans[0], "mlflow.spanInputs") == {"topic": "sea"}
    assert (
        only.status == "ERROR" and only.spans[0].events[0].attributes["exception.message"] == "boom"
    )


def test_request_that_timed_out_is_neither_good_nor_bad() -> None:
    (only,) = plan(run("sync_0a1b2c3d", params={"topic": "sea", "timeout": "True"})).traces
    assert (only.status, only.spans[0].status) == ("STATE_UNSPECIFIED", "UNSET")
    assert value(only.spans[0], "legacy.param.timeout") == "True"
    assert value(only.spans[0], "mlflow.spanInputs") == {"topic": "sea"}


# ----------------------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"metrics": {"status": 0}}, "ERROR"),
        ({"metrics": {"success": 1}, "status": "FAILED"}, "OK"),
        ({"metrics": {"success": 1}, "tags": {"error": "was retried"}}, "OK"),
        ({"params": {"success": "False"}}, "ERROR"),
        ({"metrics": {"error": 1}}, "ERROR"),
        ({"metrics": {"error": 0.03}}, "OK"),  # a rate of a model, not a flag
        ({"texts": {"error.json": '{"error_type": "KeyError", "error_message": "x"}'}}, "ERROR"),
        ({"texts": {"error.txt": ""}}, "OK"),
        ({"params": {"error": "boom"}}, "ERROR"),
        ({"params": {"error": "None"}}, "OK"),
        ({"tags": {"status": "error"}}, "ERROR"),
        ({"tags": {"status": "success"}, "status": "FAILED"}, "OK"),
        ({"params": {"status": "Timeout"}}, "ERROR"),
        ({"tags": {"status": "purple"}, "status": "FAILED"}, "ERROR"),
        ({"status": "KILLED"}, "ERROR"),
        ({"status": "FINISHED"}, "OK"),
        ({"status": "RUNNING", "end": None}, "OK"),  # it has a response
    ],
)
def test_status_is_what_the_evidence_says(given: dict[str, Any], status: str) -> None:
    texts = {"response.txt": "Hello", "prompt.txt": "Say hello", **given.pop("texts", {})}
    made = trace(run("r", texts=texts, **given))
    assert (made.status, made.spans[0].status) == (status, status)
    has_event = any(e.name == "exception" for e in made.spans[0].events)
    assert has_event is (status == "ERROR")
    assert made.spans[0].origins["status"]


def test_open_run_without_evidence_has_no_state_and_an_end() -> None:
    made = trace(run("r", status="RUNNING", end=None, texts={"question.txt": "Say hello"}))
    assert (made.status, made.spans[0].status) == ("STATE_UNSPECIFIED", "UNSET")
    assert made.tags["migrator.unfinished"] == "true"
    assert made.spans[0].end_ns > made.spans[0].start_ns


def test_failure_of_a_step_reaches_a_root_that_says_nothing() -> None:
    failing = [run("root"), run("kid", "root", status="FAILED", **LLM)]
    made = trace(*failing)
    assert [s.status for s in made.spans] == ["ERROR", "ERROR"]
    good = [run("root", tags={"status": "success"}), failing[1]]
    assert [s.status for s in trace(*good).spans] == ["OK", "ERROR"]
    answered = [run("root", texts={"outputs.json": '{"a": 1}'}), failing[1]]
    assert [s.status for s in trace(*answered).spans] == ["OK", "ERROR"]


def test_stack_trace_and_type_come_from_the_text() -> None:
    made = trace(
        run(
            "r",
            texts={"prompt.txt": "Say hello", "error_trace.log": "Traceback\n  x\nValueError: bad"},
        )
    )
    attributes = made.spans[0].events[0].attributes
    assert attributes["exception.type"] == "ValueError"
    assert "Traceback" in str(attributes["exception.stacktrace"])


TRACEBACK = """Traceback (most recent call last):
  File "flow.py", line 3, in <module>
    answer(page)
    ~~~~~~^^^^^^
{said}
"""


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("KeyError: 'page'", "KeyError"),
        ("pydantic.ValidationError: 1 error\nname\n  Field required", "pydantic.ValidationError"),
    ],
)
@pytest.mark.parametrize("place", ["traceback.txt", "error.txt", "error_message"])
def test_message_of_a_stack_trace_is_what_its_last_lines_say(
    place: str, said: str, kind: str
) -> None:
    text = TRACEBACK.format(said=said)
    given: dict[str, Any] = {"texts": {place: text}} if "." in place else {"tags": {place: text}}
    made = trace(run("r", status="FAILED", params={"prompt": "Say hello"}, **given))
    (event,) = made.spans[0].events
    assert event.attributes["exception.type"] == kind
    assert event.attributes["exception.message"] == said
    assert str(event.attributes["exception.stacktrace"]).strip() == text.strip()
    assert made.response_preview == said


def test_a_failure_without_a_stack_trace_has_no_empty_one() -> None:
    made = trace(run("r", status="FAILED", texts={"prompt.txt": "Say hello"}))
    (event,) = made.spans[0].events
    assert set(event.attributes) == {"exception.message", "exception.type"}


def test_mlflows_own_error_is_told_from_the_applications() -> None:
    made = trace(
        run(
            "r",
            texts={"prompt.txt": "Say hello"},
            params={"error_message": "Run with UUID ab is already active. To start a new run, ..."},
        )
    )
    assert "MLflow's own" in made.tags["migrator.inferences"]


# ------------------------------------------------------------------------------ times


def test_unit_is_not_that_of_the_runs_length_where_a_part_takes_less_than_one() -> None:
    """The run was open for 43 ms, which is by chance as much as the call took in seconds."""
    asked = {"model": "gpt-4o", "question": "Why is it so?"}
    metrics = {"total_processing_time": 40.4, "sql_execution_time": 0.9}
    made = trace(run("r", end=43, params=asked, metrics=metrics))
    assert made.execution_ms == 40_400
    alone = {"total_processing_time": 40.4}
    made = trace(run("r", end=43, params=asked, metrics=alone))
    assert made.execution_ms == 43


def test_call_logged_afterwards_is_moved_back_by_its_duration() -> None:
    made = trace(run("r", start=10_000, end=10_050, **LLM | {"metrics": {"latency_ms": 4000}}))
    assert (start_ms(made, "r"), end_ms(made, "r")) == (6000, 10_000)
    assert (made.timestamp_ms, made.execution_ms) == (T0 + 6000, 4000)
    assert "written after the call" in made.tags["migrator.inferences"]


@pytest.mark.parametrize(
    ("metrics", "length", "start"),
    [
        ({"latency_ms": 1000}, 1000, 0),
        ({"latency_ms": 1900}, 1000, 0),  # more than half of it: the run's times stand
        ({"latency_ms": 100}, 1000, 0),
        ({"latency_seconds": 3}, 1000, -3000),
        ({"latency": 1.0}, 1000, 0),  # 1 s fits the run, so the unit is s
        ({"latency": 1000}, 1000, 0),  # 1000 ms fits
        ({"latency": 30}, 100, -30_000),
        ({"latency": 4000}, 100, -4000),
        ({"latency_seconds": 1e9}, 1000, 0),  # nobody waits 30 years
        ({"latency_seconds": float("nan")}, 1000, 0),
    ],
)
def test_duration_is_believed_only_where_it_fits(
    metrics: dict[str, float], length: int, start: float
) -> None:
    made = trace(run("r", start=0, end=length, **LLM | {"metrics": metrics}))
    assert start_ms(made, "r") == start


def test_parent_covers_children_that_were_moved_back() -> None:
    made = trace(
        run("root", start=1000, end=1100),
        run("kid", "root", start=1010, end=1020, **LLM | {"metrics": {"latency_seconds": 9}}),
        run("late", "root", start=1090, end=5000),
    )
    assert start_ms(made, "root") == start_ms(made, "kid") == 1010 - 9000
    assert end_ms(made, "root") == 5000


def test_steps_written_in_one_burst_are_laid_end_to_end() -> None:
    made = trace(
        run("root", start=1000, end=1100, metrics={"latency_seconds": 10}),
        run("a", "root", start=1010, end=1020, **LLM | {"metrics": {"latency_seconds": 4}}),
        run("b", "root", start=1030, end=1040, **LLM | {"metrics": {"latency_seconds": 5}}),
    )
    assert (start_ms(made, "b"), end_ms(made, "b")) == (-3970, 1030)
    assert (start_ms(made, "a"), end_ms(made, "a")) == (-7970, -3970)
    assert start_ms(made, "root") <= -7970


def test_steps_that_together_are_longer_than_their_parent_ran_side_by_side() -> None:
    made = trace(
        run("root", start=1000, end=1100, metrics={"latency_seconds": 10}),
        run("a", "root", start=1010, end=1020, **LLM | {"metrics": {"latency_seconds": 6}}),
        run("b", "root", start=1030, end=1040, **LLM | {"metrics": {"latency_seconds": 7}}),
    )
    assert (start_ms(made, "b"), end_ms(made, "b")) == (-5970, 1030)
    assert (start_ms(made, "a"), end_ms(made, "a")) == (-4990, 1010)


def test_equal_starts_are_told_apart_by_microseconds_in_source_order() -> None:
    names = ["step 2", "step 10", "step 9"]
    made = trace(run("root"), *(run(n, "root", start=5, end=6, **LLM) for n in names))
    assert [s.name for s in made.spans[1:]] == ["step 2", "step 9", "step 10"]
    first = (T0 + 5) * MS
    assert [s.start_ns - first for s in made.spans[1:]] == [0, 1000, 2000]


def test_open_run_ends_at_its_last_metric_or_child() -> None:
    metrics: dict[str, Any] = {"x": [(700, 1, 0)]}
    made = trace(
        run("root", end=None, status="RUNNING", metrics=metrics),
        run("kid", "root", start=10, end=900, **LLM),
    )
    assert end_ms(made, "root") == 900
    assert made.status == "OK"


def test_end_before_start_is_closed_at_the_start_and_reported() -> None:
    made = plan(run("r", start=500, end=100, texts={"question.txt": "Say hello"}))
    only = made.traces[0].spans[0]
    assert (only.start_ns, only.end_ns) == ((T0 + 500) * MS, (T0 + 500) * MS + 1000)
    assert [i.code.value for i in made.issues] == ["span-ends-before-start"]


def test_run_without_any_time_takes_its_parents_or_the_epoch() -> None:
    made = trace(
        run("root", start=50, end=60),
        run("kid", "root", start=None, end=None, **LLM | {"metrics": {}}),
    )
    assert start_ms(made, "kid") == 50
    alone = plan(run("r", start=None, end=None, texts={"question.txt": "Say hello"}))
    assert alone.traces[0].timestamp_ms == 0
    assert [i.code.value for i in alone.issues] == ["run-without-time"]


def test_metric_times_in_seconds_do_not_become_a_start() -> None:
    from dataclasses import replace

    from migrator.model import MetricPoint

    made = trace(
        replace(
            run("r", start=None, end=5000, texts={"question.txt": "Say hello"}),
            metrics={
                "a": (MetricPoint(1_700_000_000, 1.0, 0),),
                "b": (MetricPoint(T0 + 7, 1.0, 0),),
            },
        )
    )
    assert made.timestamp_ms == T0 + 7


# ----------------------------------------------------------------------- several calls in a run


def test_each_point_of_a_resumed_run_is_a_call() -> None:
    made = trace(
        run("root"),
        run(
            "agent", "root", end=900, params={"model": "gpt-4o"},
            metrics={
                "input_tokens": [(100, 10, 1), (500, 20, 2), (900, 30, 3)],
                "output_tokens": [(101, 1, 1), (501, 2, 2), (901, 3, 3)],
                "latency_ms": [(100, 90, 1), (500, 300, 2), (900, 10, 3)],
                "final_cost_usd": [(100, 0.1, 1), (500, 0.2, 2), (900, 0.3, 3)],
            },
        ),
    )  # fmt: skip
    calls = [s for s in made.spans if s.name.startswith("call_")]
    assert [value(c, "mlflow.chat.tokenUsage") for c in calls] == [
        {"input_tokens": 10 * n, "output_tokens": n, "total_tokens": 11 * n} for n in (1, 2, 3)
    ]
    assert [(c.start_ns // MS - T0, c.end_ns // MS - T0) for c in calls] == [
        (10, 100), (200, 500), (890, 900),
    ]  # fmt: skip
    assert {c.type for c in calls} == {"LLM"} and {c.run_id for c in calls} == {run_id("agent")}
    assert made.usage is not None and made.usage.total_tokens == 66
    assert json.loads(made.metadata["mlflow.trace.cost"]) == {"total_cost": pytest.approx(0.6)}
    assert conv.SPAN_USAGE not in span(made, "agent").attributes


def test_running_total_counts_its_last_value_only() -> None:
    grows: dict[str, Any] = {"total_tokens": [(1, 10, 0), (2, 30, 0), (3, 60, 0)]}
    made = trace(run("r", texts={"prompt.txt": "Say hello"}, metrics=grows))
    assert len(made.spans) == 1
    assert made.usage is not None and made.usage.total_tokens == 60
    named: dict[str, Any] = {
        "total_input_tokens": [(1, 10, 0), (2, 30, 0)],
        "total_output_tokens": [(1, 1, 0), (2, 3, 0)],
    }
    made = trace(run("r", texts={"prompt.txt": "Say hello"}, metrics=named))
    assert len(made.spans) == 1 and made.usage is not None and made.usage.total_tokens == 33


def test_files_of_queries_are_the_calls_of_a_long_lived_run() -> None:
    def note(question: str) -> str:
        answer = "Because: yes.\nSo it is."
        return f"Latency: 1s\n\nQuestion:\n{question}\n\nAnswer:\n{answer}\n\nSources:\n - a"

    made = trace(
        run(
            "rag", end=None, status="RUNNING", params={"llm_model": "llama3.2"},
            texts={"queries/query_09.txt": note("Why?"), "queries/query_10.txt": note("How?")},
            metrics={"query_latency_seconds": [(500, 2.0, 17), (900, 0.1, 19)]},
        )
    )  # fmt: skip
    first, second = made.spans[1:]
    assert (first.name, second.name) == ("query_1", "query_2")
    assert value(first, "mlflow.spanInputs") == {"question": "Why?"}
    assert value(second, "mlflow.spanOutputs") == "Because: yes.\nSo it is."
    assert first.start_ns // MS - T0 == -1500 and made.spans[0].start_ns == first.start_ns
    assert made.status == "OK"
    assert made.request_preview == "Why?"


# ------------------------------------------------------------------------------ texts


def test_artifact_beats_tag_and_param_and_both_cut_copies_go() -> None:
    long = "Tell me all about the sea. " * 30
    made = trace(
        run(
            "r",
            texts={"question.txt": long},
            tags={"question": long[:500] + "..."},
            params={"question": long[:250]},
        )
    )
    only = made.spans[0]
    assert value(only, "mlflow.spanInputs") == {"question": long}
    assert value(only, "legacy.tag.question") == long[:500] + "..."


def test_text_cut_by_the_logger_is_marked() -> None:
    cut = "Tell me all about the sea. " * 20
    made = trace(run("r", params={"prompt": cut[:250], "response": "It is wide"}))
    assert value(made.spans[0], "legacy.truncated") == ["param prompt"]


def test_system_and_user_prompt_make_a_chat() -> None:
    made = trace(
        run("r", params={"model": "gpt-4"}, texts={
            "prompts/system_prompt.txt": "Be brief.", "prompts/user_prompt.txt": "  Who are you?  ",
            "responses/raw_llm_response.txt": "```json\n{}```"})
    )  # fmt: skip
    assert value(made.spans[0], "mlflow.spanInputs") == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "  Who are you?  "},
        ]
    }
    assert made.spans[0].type == "CHAT_MODEL"
    assert made.request_preview == "Who are you?"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"context": "Rivers are wide.", "question": "How wide?"}, "How wide?"),
        ({"user_input": "How wide?", "retrieved_contexts": ["Wide."]}, "How wide?"),
        ({"system_prompt": "Be brief.", "style": "dry", "Task-Prompt": "Go on."}, "Go on."),
        ({"question": "How wide?", "input": "the Elbe"}, "How wide?"),
        ({"first_query": "How?", "second_query": "Why?"}, None),
        ({"topic": "sea", "style": "dry"}, None),
        ({"question": "  ", "topic": "sea"}, None),
    ],
)
def test_preview_shows_what_was_asked_and_not_what_stands_beside_it(
    given: dict[str, object], shown: str | None
) -> None:
    inputs = json.dumps(given, ensure_ascii=False)
    made = trace(run("r", params={"model": "gpt-4"}, texts={"inputs.json": inputs}))
    assert made.request_preview == (shown or inputs)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"rationale": "It says so.", "answer": "C"}, "C"),
        ({"sources": ["a"], "final_response": "Wide.", "thought": "hm"}, "Wide."),
        ({"gpt_answer": "Wide.", "claude_answer": "Broad."}, None),
        ({"answer": {"text": "Wide."}, "note": "ok"}, None),
    ],
)
def test_preview_shows_the_answer_and_not_what_stands_beside_it(
    given: dict[str, object], shown: str | None
) -> None:
    outputs = json.dumps(given)
    made = trace(run("r", params={"model": "gpt-4"}, texts={"outputs.json": outputs}))
    assert made.response_preview == (shown or outputs)


def test_recorded_conversation_is_split_into_question_and_answer() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    made = trace(
        run("chat", texts={"chat/chat_history.json": json.dumps(chat)}, params={"model": "gpt-4"})
    )
    assert value(made.spans[0], "mlflow.spanInputs") == {"messages": chat[:1]}
    assert value(made.spans[0], "mlflow.spanOutputs") == "Hello"


def test_question_and_prompt_stand_side_by_side() -> None:
    made = trace(run("r", params={"question": "Who is it?"}, texts={"prompt.txt": "Context: x"}))
    assert value(made.spans[0], "mlflow.spanInputs") == {
        "prompt": "Context: x",
        "question": "Who is it?",
    }


@pytest.mark.parametrize("text", ["{'a': 1}", "{broken", "[" * 100_000, "{" + '"a":' * 3 + "1"])
def test_json_that_does_not_parse_stays_text_with_an_issue(text: str) -> None:
    made = plan(run("r", texts={"inputs.json": text, "response.txt": "Hello"}))
    assert value(made.traces[0].spans[0], "mlflow.spanInputs") == {"inputs": text}
    assert [i.code.value for i in made.issues] == ["artifact-not-json"]


def test_values_that_break_mlflows_api_are_made_harmless() -> None:
    deep: Any = "x"
    for _ in range(60):
        deep = {"a": deep}
    inputs = json.dumps({"big": 2**70, "deep": deep, "nul": "a\x00b", "lone": "\ud800"})
    made = trace(run("r", texts={"inputs.json": inputs, "response.txt": "Hello"}))
    got = value(made.spans[0], "mlflow.spanInputs")
    assert isinstance(got, dict)
    assert got["big"] == str(2**70) and got["nul"] == "ab" and got["lone"] == "?"
    made.spans[0].attributes["mlflow.spanInputs"].encode("utf-8")
    level, here = 0, got["deep"]
    while isinstance(here, dict):
        level, here = level + 1, here["a"]
    assert level < 33 and isinstance(here, str)


def test_nothing_that_a_run_logged_is_dropped() -> None:
    made = trace(
        run(
            "r", params={"question": "Tell me about the sea", "top_k": "3", "mlflow.odd": "1"},
            metrics={"x": [(1, 1, 0), (2, 2, 5), (3, 3, 1)], "bad": float("inf")},
            tags={"team": "blue", "mlflow.source.name": "app.py"}, artifacts=["plot.png"],
        )
    )  # fmt: skip
    only = made.spans[0]
    assert value(only, "legacy.param.top_k") == "3"
    assert value(only, "legacy.param.mlflow.odd") == "1"
    assert value(only, "legacy.metric.x") == 2  # the highest step is the last, as in MLflow
    assert value(only, "legacy.metric.bad") == "inf"
    assert value(only, "legacy.tag.team") == "blue"
    assert value(only, "legacy.tag.mlflow.source.name") == "app.py"
    assert value(only, "legacy.artifacts") == ["plot.png"]
    assert "legacy.param.question" not in only.attributes  # it is the input, word for word
    assert value(only, "mlflow.spanInputs") == {"question": "Tell me about the sea"}


# --------------------------------------------------------------- sessions, users, assessments


@pytest.mark.parametrize(
    "metric", ["score", "correctness_score", "rougeL", "tone_rating", "exact_match", "bleu"]
)
def test_score_of_a_call_is_feedback(metric: str) -> None:
    texts = {"question.txt": "Who is it?", "answer.txt": "It is Ada."}
    made = trace(run("r", texts=texts, metrics={metric: 0.5, "chunks_retrieved": 4}))
    found = [(each.name, each.value, each.source_type) for each in made.assessments]
    assert found == [(metric, 0.5, "CODE")]
    assert made.assessments[0].source_id == f"metric {metric}"


def test_score_that_a_rule_knows_better_is_judged_once() -> None:
    texts = {"question.txt": "Who is it?", "answer.txt": "It is Ada."}
    made = trace(run("r", texts=texts, metrics={"user_score": 4, "judge_score": 3}))
    found = {each.name: each.source_type for each in made.assessments}
    assert found == {"user_score": "HUMAN", "judge_score": "LLM_JUDGE"}


@pytest.mark.parametrize("key", [
    "AnswerRelevancyMetric", "FaithfulnessMetric", "ContextualRecallMetric", "Contextual Precision",
    "ragas.context_precision", "ragas_faithfulness", "context_relevance", "correctness",
])  # fmt: skip
def test_scores_of_libraries_that_judge_are_feedback(key: str) -> None:
    texts = {"question.txt": "Who is it?", "answer.txt": "It is Ada."}
    made = trace(run("r", texts=texts, metrics={key: 0.5, "rerank_score_1": 2.0, "avg_rank": 3.0}))
    found = {each.name: (each.value, each.source_type) for each in made.assessments}
    assert found == {key: (0.5, "LLM_JUDGE")}


def test_session_and_user_ids_are_made_fit_to_open() -> None:
    sessions = set()
    for end in "ab":
        made = plan(
            run(
                "r",
                texts={"question.txt": "Who is it?"},
                params={"session_id": "o'brien" + "x" * 300 + end, "user_id": "ana"},
            )
        )
        metadata = made.traces[0].metadata
        session = metadata["mlflow.trace.session"]
        assert len(session) == 250 and session.startswith("o_brien" + "x" * 200)
        sessions.add(session)
        assert metadata["mlflow.trace.user"] == "ana"
        (issue,) = made.issues
        assert issue.code.value == "session-id-changed"
        assert "brien" not in issue.message + issue.kept and "o'brien" in issue.sample
    assert len(sessions) == 2, "two sessions became one"


def test_wrong_session_keys_that_users_guessed_count() -> None:
    made = trace(
        run("r", texts={"question.txt": "Who is it?"}, tags={"mlflow.trace.sessionId": "s9"})
    )
    assert made.metadata["mlflow.trace.session"] == "s9"


def test_scores_become_assessments_of_their_source_at_the_runs_end() -> None:
    made = trace(
        run(
            "r", texts={"question.txt": "Who is it?", "judge_reason.txt": "All is in the text."},
            params={"judge_model": "gpt-4o", "user_id": "ana", "ground_truth": "It is Bob"},
            metrics={
                "faithfulness": 0.75, "user_rating": 4, "user_satisfied": 1, "quality_score": 0.5,
            },
            tags={"feedback": "👍"},
        )
    )  # fmt: skip
    got = {a.name: (a.type, a.value, a.source_type, a.source_id) for a in made.assessments}
    assert got == {
        "faithfulness": ("feedback", 0.75, "LLM_JUDGE", "gpt-4o"),
        "user_rating": ("feedback", 4, "HUMAN", "ana"),
        "user_satisfied": ("feedback", True, "HUMAN", "ana"),
        "feedback": ("feedback", True, "HUMAN", "ana"),
        "quality_score": ("feedback", 0.5, "CODE", "metric quality_score"),
        "ground_truth": ("expectation", "It is Bob", "HUMAN", "param ground_truth"),
    }
    for assessment in made.assessments:
        assert assessment.created_ms == T0 + 1000
        assert assessment.assessment_id.startswith("a-") and len(assessment.assessment_id) == 34
        assert assessment.span_id is None
        assert "mlflow.assessment.sourceRunId" not in (assessment.metadata or {})
    judged = next(a for a in made.assessments if a.name == "faithfulness")
    assert judged.rationale == "All is in the text."
    assert len({a.assessment_id for a in made.assessments}) == 6


def test_score_of_a_step_belongs_to_its_span() -> None:
    made = trace(run("root"), run("kid", "root", **LLM | {"metrics": {"judge_tone": 0.9}}))
    (only,) = made.assessments
    assert (only.name, only.span_id) == ("judge_tone", made.spans[1].span_id)


def test_totals_are_feedback_of_ours_unless_the_source_gave_them() -> None:
    step = LLM | {"metrics": {"prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.25}}
    made = trace(run("root"), run("a", "root", **step), run("b", "root", **step))
    got = {a.name: (a.value, a.source_type, a.source_id, a.span_id) for a in made.assessments}
    assert got == {
        "total_tokens": (30, "CODE", "mlflow-migrate", None),
        "cost_usd": (0.5, "CODE", "mlflow-migrate", None),
        "cost_usd_micro": (500_000, "CODE", "mlflow-migrate", None),
    }
    end_ms = made.timestamp_ms + (made.execution_ms or 0)
    assert {(a.created_ms, a.last_updated_ms) for a in made.assessments} == {(end_ms, end_ms)}
    again = trace(run("root"), run("a", "root", **step), run("b", "root", **step))
    assert again.assessments == made.assessments  # derived, never drawn

    mine = AssessmentRecord("a-1", "cost_usd", "feedback", 0.7, None, "HUMAN", "ana", T0, T0)
    of_a_span = replace(mine, span_id="s")
    added = assemble.totals("tr-1", None, {"total_cost": 0.5}, T0, [of_a_span])
    assert [(a.name, a.value) for a in added] == [("cost_usd", 0.5), ("cost_usd_micro", 500_000)]
    assert assemble.totals("tr-1", None, {"total_cost": 0.5}, T0, [mine]) == ()
    assert assemble.totals("tr-1", None, None, T0, []) == ()


def test_trace_without_tokens_or_cost_gets_no_totals() -> None:
    step = LLM | {"metrics": {"prompt_tokens": 0, "completion_tokens": 0}}
    assert trace(run("root"), run("a", "root", **step)).assessments == ()


# ------------------------------------------------------------------------- types and names


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("s", {"tags": {"rulesmith.node_kind": "llm"}}, "LLM"),
        ("s", {"tags": {"phase": "critic"}}, "EVALUATOR"),
        ("s", {"params": {"span_type": "tool"}}, "TOOL"),
        ("s", {"params": {"tool_name": "web"}}, "TOOL"),
        ("tool_search", {}, "TOOL"),
        ("rag_101112", {"params": {"query": "what is the sea"}}, "RETRIEVER"),
        ("research_agent", {}, "AGENT"),
        ("s", LLM, "LLM"),
        ("s", {"texts": {"prompt.txt": "Say hello"}}, "LLM"),
        ("s", {"texts": {"inputs.json": "{}", "outputs.json": "{}"}}, "UNKNOWN"),
        ("s", {"texts": {"retrieved_docs.json": '[{"text": "a", "page": 1}]'}}, "RETRIEVER"),
        ("s", {}, "UNKNOWN"),
    ],
)
def test_type_of_a_step(name: str, given: dict[str, Any], expected: str) -> None:
    made = trace(run("root"), run(name, "root", **given))
    assert made.spans[1].type == expected
    assert value(made.spans[1], "mlflow.spanType") == expected


def test_retrieved_documents_have_the_form_of_the_retriever_view() -> None:
    documents = '[{"text": "a", "page": 1}, {"page_content": "b", "metadata": {"x": 2}}]'
    made = trace(run("root"), run("s", "root", texts={"retrieved_docs.json": documents}))
    assert value(made.spans[1], "mlflow.spanOutputs") == [
        {"page_content": "a", "metadata": {"page": 1}},
        {"page_content": "b", "metadata": {"x": 2}},
    ]


def test_names_are_stripped_and_never_empty() -> None:
    made = trace(run("root", run_name=" a workflow "), run("kid", "root", run_name=""))
    assert [s.name for s in made.spans] == ["a workflow", run_id("kid")]
    assert made.spans[0].type == "WORKFLOW"


def test_run_ids_of_other_forms_make_trace_ids_of_the_right_form() -> None:
    made = trace(run("r", id="2fc6fe2a", texts={"question.txt": "Say hello"}))
    assert len(made.trace_id) == 35 and made.trace_id.startswith("tr-")
    assert made.metadata["mlflow.sourceRun"] == "2fc6fe2a"


def test_json_in_metadata_stays_below_what_mlflow_lets_through() -> None:
    big = {"input_tokens": 10**12, "output_tokens": 10**12, "cost_usd": 123456.789012345}
    made = trace(run("r", texts={"prompt.txt": "Say hello"}, metrics=big))
    for key in (conv.TRACE_USAGE, conv.SIZE_STATS, conv.TRACE_COST):
        assert len(made.metadata[key]) < 250


def test_plans_are_the_same_again_and_in_any_order() -> None:
    runs = p1()
    assert plans(*runs) == plans(*reversed(runs))


def test_files_of_tasks_and_tools_are_inputs_and_outputs() -> None:
    made = plan(
        run("crew"),
        run(
            "task",
            "crew",
            metrics={"tokens_used": 500},
            texts={"task_description.txt": "Find news.", "task_output.md": "Three items."},
        ),
    )
    (trace,) = made.traces
    span = trace.spans[1]
    assert "Find news." in span.attributes["mlflow.spanInputs"]
    assert "Three items." in span.attributes["mlflow.spanOutputs"]
    assert span.origins["outputs"] == "artifact task_output.md"


def test_a_trace_of_very_many_spans_is_planned_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = {"inputs.json": '{"topic": ', "outputs.json": '{"text": "Wide."}'}
    runs = [*p1(root={"texts": broken}), run("kid", "node_draft", **LLM | {"texts": broken})]
    ordinary = plan(*runs)
    monkeypatch.setattr("migrator.transformer.traces.MANY_SPANS", 0)
    large = plan(*runs)
    assert len(ordinary.issues) == 2
    assert large == ordinary
    assert tuple(large.traces[0].contents) == ordinary.traces[0].contents


@pytest.mark.parametrize("logged", [
    {"params": {"latency": "1.53"}}, {"params": {"response_time": "1.53"}},
    {"params": {"latency_sec": "1.53"}}, {"tags": {"latency_ms": "1530"}},
])  # fmt: skip
def test_duration_in_a_param_or_tag_is_the_calls(logged: dict[str, Any]) -> None:
    params = {"question": "Who is it?", "answer": "It is Ada.", **logged.get("params", {})}
    made = trace(run("r", end=50, params=params, tags=logged.get("tags", {})))
    assert made.execution_ms == 1530


def test_model_that_was_used_comes_before_those_that_could_have_been() -> None:
    models = {"primary_model": "gpt-4o", "fallback_model": "gpt-4o-mini"}
    params = {"question": "Who is it?", "answer": "It is Ada.", **models}
    (span,) = trace(run("r", params={**params, "model_used": "gpt-4o-mini"})).spans
    assert value(span, conv.SPAN_MODEL) == "gpt-4o-mini"
