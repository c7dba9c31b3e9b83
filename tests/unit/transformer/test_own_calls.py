"""A run with runs below it that called a model itself: its tokens count as a call of its own."""

from __future__ import annotations

from typing import Any

from migrator import conventions as conv
from migrator.model import RunRecord
from tests.support.planskit import T0, run, span, trace, value


def supervisor(
    root: dict[str, Any] | None = None, own: dict[str, Any] | None = None, **worker: Any
) -> list[RunRecord]:
    """A workflow of the legacy tracker: a node that calls a model, above a node that does too."""
    return [
        run(
            "article_20240101_120000", end=4000,
            params={"workflow_name": "article", "schema_version": "1.0", "node_count": "2"},
            metrics={"total_input_tokens": 110, "total_output_tokens": 55, "status": 1},
            **(root or {}),
        ),
        run(
            "node_supervisor", "article_20240101_120000",
            **{
                "start": 10, "end": 3000,
                "params": {"node_id": "supervisor", "node_model": "gpt-4o"},
                "metrics": {
                    "input_tokens": [(2500, 10, 0)], "output_tokens": [(2500, 5, 0)],
                    "node_cost_usd": 0.03,
                },
                "texts": {"prompt.txt": "Who should write it?", "response.txt": "The worker"},
                **(own or {}),
            },
        ),
        run(
            "node_worker", "node_supervisor",
            **{
                "start": 100, "end": 2000, "params": {"node_id": "worker", "node_model": "gpt-4o"},
                "metrics": {"input_tokens": 100, "output_tokens": 50, "node_cost_usd": 0.2},
                "texts": {"prompt.txt": "Write it", "response.txt": "Done"},
                **worker,
            },
        ),
    ]  # fmt: skip


def test_own_tokens_of_a_node_become_a_call_below_it() -> None:
    made = trace(*supervisor())
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (
        110,
        55,
        165,
    )
    node, call = span(made, "supervisor"), span(made, "supervisor call 1")
    assert call.parent_span_id == node.span_id
    assert call.type == "CHAT_MODEL"
    assert value(call, conv.SPAN_INPUTS) == {"prompt": "Who should write it?"}
    assert value(call, conv.SPAN_OUTPUTS) == "The worker"
    assert value(call, conv.SPAN_USAGE) == {
        "input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
    }  # fmt: skip
    assert value(call, conv.SPAN_MODEL) == "gpt-4o"
    assert value(call, conv.SPAN_COST) == {"total_cost": 0.03}
    assert conv.SPAN_USAGE not in node.attributes and conv.SPAN_COST not in node.attributes
    assert value(node, conv.SPAN_OUTPUTS) == "The worker"
    # It ended when its tokens were logged, and began after the worker.
    assert (call.start_ns, call.end_ns) == ((T0 + 2000) * 10**6, (T0 + 2500) * 10**6)
    assert made.metadata["mlflow.trace.cost"] == '{"total_cost": 0.23}'


def test_tokens_that_are_the_sum_of_those_below_are_no_call() -> None:
    doubled = {"metrics": {"input_tokens": 100, "output_tokens": 50, "node_cost_usd": 0.2}}
    made = trace(*supervisor(own=doubled))
    assert made.usage is not None and made.usage.total_tokens == 150
    assert [each.name for each in made.spans] == ["workflow_article", "supervisor", "worker"]


def test_a_total_that_may_hold_an_uncounted_call_is_none_itself() -> None:
    more = {"metrics": {"input_tokens": 400, "output_tokens": 50}}
    uncounted = run(
        "node_other", "node_supervisor", start=2100, end=2200,
        params={"node_id": "other", "node_model": "gpt-4o"},
    )  # fmt: skip
    made = trace(*supervisor(own=more), uncounted)
    assert made.usage is not None and made.usage.total_tokens == 150
    assert "total of 450 is not the sum of its steps, 150" in made.tags["migrator.inferences"]


def test_larger_own_tokens_are_a_call_where_all_below_are_counted() -> None:
    made = trace(*supervisor(own={"metrics": {"input_tokens": 1500, "output_tokens": 150}}))
    assert made.usage is not None and made.usage.total_tokens == 1800


def test_metrics_that_are_called_totals_are_no_call() -> None:
    names = {"metrics": {"total_input_tokens": 10, "total_output_tokens": 5}}
    made = trace(*supervisor(own=names))
    assert made.usage is not None and made.usage.total_tokens == 150


def test_calls_on_three_levels_all_count() -> None:
    runs = supervisor(root={}, own={})
    helper = run(
        "node_helper", "node_worker", start=200, end=300,
        params={"node_id": "helper", "node_model": "gpt-4o"},
        metrics={"input_tokens": 3, "output_tokens": 4},
        texts={"prompt.txt": "Help with it", "response.txt": "Yes"},
    )  # fmt: skip
    made = trace(*runs, helper)
    assert made.usage is not None and made.usage.total_tokens == 15 + 150 + 7
    names = [each.name for each in made.spans]
    assert names.count("worker call 1") == 1 and names.count("supervisor call 1") == 1


def test_steps_that_were_written_in_one_burst_are_still_laid_end_to_end() -> None:
    """The call of the parent has no place among them."""

    def step(name: str, at: int) -> RunRecord:
        return run(
            name, "agent", start=at, end=at + 2, params={"model": "gpt-4o"},
            metrics={"input_tokens": 50, "output_tokens": 5, "latency_ms": 1000},
            texts={"prompt.txt": f"Do part {at} of it", "response.txt": "Done"},
        )  # fmt: skip

    agent = run(
        "agent", start=0, end=20, params={"model": "gpt-4o"},
        metrics={"input_tokens": 7, "output_tokens": 3, "latency_ms": 4000},
        texts={"prompt.txt": "Plan the work", "response.txt": "All done"},
    )  # fmt: skip
    made = trace(agent, step("one", 5), step("two", 10))
    assert made.usage is not None and made.usage.total_tokens == 120
    one, two = span(made, "one"), span(made, "two")
    assert one.end_ns <= two.start_ns
