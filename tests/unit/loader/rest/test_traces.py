"""A trace goes to a server spans first, then links, and last what is known of the whole."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

from migrator import conventions
from migrator.issues import Code, Kind
from migrator.loader.rest import traces
from migrator.loader.rest.connection import Refused
from migrator.loader.rest.experiment_index import TargetExperiment
from migrator.loader.rest.limits import TRACE_TAG_CHARS
from migrator.model import TokenUsage, TracePlan
from tests.support.fake_server import FakeConnection
from tests.support.loaderkit import experiment, hex_id, trace

RUNS = {hex_id("run"): "new-run"}


def job_of(plan: TracePlan) -> traces.TraceJob:
    target = TargetExperiment("7", experiment(), True, True, {}, False)
    return traces.TraceJob(plan, target, traces.mark_of(plan, RUNS))


def empty_server() -> Any:
    server = FakeConnection()
    server.store.answers["get_trace_info"] = Refused("Trace was not found")
    return server


def sent_info(server: Any) -> Any:
    [(info,)] = server.store.named("start_trace")
    return info


def test_spans_go_first_and_the_whole_last() -> None:
    server = empty_server()
    job = job_of(trace())
    traces.write(server, job, RUNS)
    order = [name for name, _ in server.store.calls]
    assert order == ["get_trace_info", "log_spans", "link_traces_to_run", "start_trace"]
    [(experiment_id, spans)] = server.store.named("log_spans")
    assert experiment_id == "7"
    assert [span.span_id for span in spans] == [span.span_id for span in job.plan.spans]
    assert server.store.named("link_traces_to_run") == [([job.plan.trace_id], "new-run")]
    info = sent_info(server)
    assert info.trace_metadata[conventions.SOURCE_RUN] == "new-run"
    assert info.tags[conventions.MIGRATOR_DIGEST] == job.mark
    assert conventions.SPANS_LOCATION not in info.tags
    assert [each.assessment_id for each in info.assessments] == [f"a-{hex_id('run')}"]
    assert job.written.rebuilt[Kind.SPAN] == 4
    assert not job.written.converted


def test_prompts_are_linked_by_name_and_version() -> None:
    server = empty_server()
    traces.write(server, job_of(trace(prompts=("team/greeting/2",))), RUNS)
    [(_, [prompt])] = server.store.named("link_prompts_to_trace")
    assert (prompt.name, prompt.version) == ("team/greeting", "2")


def test_many_spans_are_sent_in_several_calls() -> None:
    plan = trace()
    root = plan.spans[0]
    more = tuple(
        dataclasses.replace(root, span_id=f"{n:016x}", parent_span_id=root.span_id)
        for n in range(1, 450)
    )
    server = empty_server()
    traces.write(server, job_of(dataclasses.replace(plan, spans=(root, *more))), RUNS)
    assert [len(spans) for _, spans in server.store.named("log_spans")] == [200, 200, 50]


def test_a_refused_trace_that_we_made_rejects_nothing_of_the_source() -> None:
    for native in (False, True):
        server = empty_server()
        server.store.answers["log_spans"] = Refused("no")
        job = job_of(trace(native=native))
        traces.write(server, job, RUNS)
        assert server.store.named("start_trace") == []
        assert {issue.code for issue in job.written.issues} == {Code.SERVER_REFUSED}
        kinds = {issue.kind for issue in job.written.issues}
        assert (Kind.SPAN in kinds) is native
        assert (None in kinds) is not native


def test_a_trace_of_another_experiment_is_left_as_it_is() -> None:
    server: Any = FakeConnection()
    server.store.answers["get_trace_info"] = SimpleNamespace(experiment_id="8", tags={})
    job = job_of(trace())
    traces.write(server, job, RUNS)
    assert [name for name, _ in server.store.calls] == ["get_trace_info"]
    assert [issue.code for issue in job.written.issues] == [Code.TARGET_DIFFERS]


def test_a_long_tag_is_cut_and_named() -> None:
    server = empty_server()
    job = job_of(trace(tags={"long": "x" * (TRACE_TAG_CHARS + 1)}))
    traces.write(server, job, RUNS)
    assert len(sent_info(server).tags["long"]) == TRACE_TAG_CHARS
    assert [issue.code for issue in job.written.issues] == [Code.SERVER_VALUE_CUT]


def test_a_count_that_is_not_known_is_said_again_to_mlflow_3_9_and_null_to_newer_ones() -> None:
    usage = json.dumps({"input_tokens": 10})
    metadata = {conventions.TRACE_USAGE: usage}
    plan = trace(metadata=metadata, usage=TokenUsage(10, None, None))
    there = SimpleNamespace(
        experiment_id="7",
        tags={},
        trace_metadata={conventions.TRACE_USAGE: '{"input_tokens": 10, "output_tokens": 0}'},
        assessments=[],
        request_time=0,
        state="OK",
    )
    answers = iter([Refused("not found"), there])
    server: Any = FakeConnection()
    server.store.answers["get_trace_info"] = lambda trace_id: next(answers)
    traces.write(server, job_of(plan), RUNS)
    said = json.loads(sent_info(server).trace_metadata[conventions.TRACE_USAGE])
    assert said == {"input_tokens": 10, "output_tokens": 0}

    newer = empty_server()
    newer.release = (3, 17)
    newer.store.answers["get_trace_info"] = lambda trace_id: there
    traces.write(newer, job_of(plan), RUNS)
    said = json.loads(sent_info(newer).trace_metadata[conventions.TRACE_USAGE])
    assert (said["input_tokens"], said["output_tokens"]) == (10, None)


def test_the_mark_ignores_our_version_and_where_spans_lie() -> None:
    plan = trace()
    newer = dataclasses.replace(plan, tags={**plan.tags, conventions.MIGRATOR_VERSION: "9.9"})
    other = dataclasses.replace(plan, tags={**plan.tags, "team": "red"})
    assert traces.mark_of(newer, RUNS) == traces.mark_of(plan, RUNS)
    assert traces.mark_of(other, RUNS) != traces.mark_of(plan, RUNS)
