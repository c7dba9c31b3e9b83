"""A trace that is half there is completed, a whole one stays, and what others added is kept."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import pytest
from mlflow.entities import (
    AssessmentSource,
    Feedback,
    Span,
    TraceInfo,
    TraceLocation,
    TraceState,
)

from migrator import conventions as conv
from migrator.trace_writer import SPANS_A_CALL, Delivered, OutgoingTrace, TraceWriter
from tests.support.fake_server import FakeStore

TRACE_ID = "tr-" + "a" * 32
START_NS = 1_700_000_000_000_000_000


def feedback(name: str, at_ms: int, **fields: Any) -> Feedback:
    given = Feedback(
        name=name, value=True, trace_id=TRACE_ID, create_time_ms=at_ms,
        source=AssessmentSource("HUMAN", "ann"),
    )  # fmt: skip
    given.assessment_id = f"a-{name}"
    for key, value in fields.items():
        setattr(given, key, value)
    return given


def span(number: int, **attributes: Any) -> Span:
    content: dict[str, Any] = {
        "trace_id": "a" * 32, "span_id": f"{number:016x}", "name": f"n{number}",
        "parent_span_id": None if number == 1 else f"{1:016x}", "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 1, "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {
            "mlflow.traceRequestId": json.dumps(TRACE_ID),
            **{key: json.dumps(value) for key, value in attributes.items()},
        },
    }  # fmt: skip
    return Span.from_dict(content)


def info(**fields: Any) -> TraceInfo:
    given: dict[str, Any] = {
        "trace_id": TRACE_ID, "trace_location": TraceLocation.from_experiment_id("7"),
        "request_time": START_NS // 1_000_000, "state": TraceState.OK,
        "tags": {"team": "x"}, "trace_metadata": {"mlflow.trace_schema.version": "3"},
        "assessments": [feedback("good", 1)],
    }  # fmt: skip
    return TraceInfo(**{**given, **fields})


def stored(**fields: Any) -> TraceInfo:
    """The head of a trace that is there whole, or as told."""
    made = info(**fields)
    made.tags[conv.SPANS_LOCATION] = conv.SPANS_IN_DATABASE
    return made


class Answer:
    """What ``get_trace`` returns."""

    def __init__(self, spans: list[Span]) -> None:
        self.data = self
        self.spans = spans


def done(store: FakeStore) -> list[str]:
    return [name for name, _ in store.calls]


def complete(there: Any, spans_there: list[Span], *, wanted: OutgoingTrace) -> tuple[Any, Any]:
    store: Any = FakeStore({"get_trace": Answer(spans_there), "get_trace_info": there})
    return TraceWriter(store).complete(wanted, there), store


def outgoing(number: int = 3, **fields: Any) -> OutgoingTrace:
    return OutgoingTrace(info(**fields), [span(n) for n in range(1, number + 1)])


def test_spans_go_in_batches_and_the_head_last() -> None:
    trace = outgoing(2 * SPANS_A_CALL + 1)
    delivered, store = complete(None, [], wanted=trace)
    assert delivered is Delivered.NEW
    assert done(store) == ["log_spans", "log_spans", "log_spans", "start_trace"]


def test_a_whole_trace_stays_although_its_values_were_changed() -> None:
    there = stored(tags={"team": "changed"}, assessments=[feedback("good", 1)])
    delivered, store = complete(there, [span(n) for n in (1, 2, 3)], wanted=outgoing())
    assert delivered is Delivered.THERE
    assert done(store) == ["get_trace"]


@pytest.mark.parametrize(
    ("there", "spans_there"),
    [
        (stored(), 2),
        (stored(tags={}), 3),
        (stored(trace_metadata={}), 3),
        (stored(state=TraceState.IN_PROGRESS), 3),
    ],
    ids=["spans", "tags", "metadata", "state"],
)
def test_what_was_cut_off_is_written_whole(there: Any, spans_there: int) -> None:
    spans = [span(n) for n in range(1, spans_there + 1)]
    delivered, store = complete(there, spans, wanted=outgoing())
    assert delivered is Delivered.COMPLETED
    [(_, sent)] = store.named("log_spans")
    assert len(sent) == 3
    assert done(store)[-1] == "start_trace"


def test_an_earlier_form_of_a_trace_does_not_replace_its_last_one() -> None:
    wanted = outgoing(1, state=TraceState.IN_PROGRESS)
    delivered, _ = complete(stored(), [span(1), span(2)], wanted=wanted)
    assert delivered is Delivered.THERE


def test_only_the_feedback_that_lacks_is_added() -> None:
    wanted = outgoing(assessments=[feedback("good", 1), feedback("new", 2)])
    delivered, store = complete(stored(), [span(n) for n in (1, 2, 3)], wanted=wanted)
    assert delivered is Delivered.COMPLETED
    [(added,)] = store.named("create_assessment")
    assert added.assessment_id == "a-new"
    assert not store.named("start_trace")


def test_what_others_added_is_sent_again_with_the_head() -> None:
    there = stored(
        tags={"mine": "1"}, trace_metadata={"k": "v"}, assessments=[feedback("other", 3)]
    )
    _, store = complete(there, [], wanted=outgoing())
    [(head,)] = store.named("start_trace")
    assert head.tags == {"mine": "1", "team": "x"}
    assert head.trace_metadata == {"k": "v", "mlflow.trace_schema.version": "3"}
    assert {each.assessment_id for each in head.assessments} == {"a-good", "a-other"}


def test_feedback_that_overrides_is_created_after_the_head_and_the_mark_comes_last() -> None:
    old, new = feedback("old", 1, valid=False), feedback("new", 2, overrides="a-old")
    trace = OutgoingTrace(info(assessments=[new, old]), [span(1)], mark="m")
    store: Any = FakeStore()
    TraceWriter(store).write(trace)
    assert done(store) == ["log_spans", "start_trace", "create_assessment", "set_trace_tag"]
    [(head,)] = store.named("start_trace")
    assert [each.assessment_id for each in head.assessments] == ["a-old"]
    assert conv.MIGRATOR_DIGEST not in head.tags
    assert store.named("set_trace_tag") == [(TRACE_ID, conv.MIGRATOR_DIGEST, "m")]


def test_feedback_whose_override_does_not_count_yet_is_created_anew() -> None:
    old, new = feedback("old", 1), feedback("new", 2, overrides="a-old")
    there = stored(assessments=[old, new])
    wanted = outgoing(1, assessments=[old, new])
    delivered, store = complete(there, [span(1)], wanted=wanted)
    assert delivered is Delivered.COMPLETED
    assert done(store) == ["get_trace", "delete_assessment", "create_assessment"]


def test_metadata_that_mlflow_makes_of_spans_is_sent_again() -> None:
    trace = OutgoingTrace(info(), [span(1, **{"session.id": "s"})])
    store: Any = FakeStore({"get_trace_info": stored(trace_metadata={conv.TRACE_SESSION: "s"})})
    TraceWriter(store).write(trace)
    [(head,)] = store.named("start_trace")
    assert head.trace_metadata[conv.TRACE_SESSION] == "s"


def test_feedback_whose_answer_was_lost_is_there() -> None:
    class Twice(Exception):
        """What the server says to the second request."""

    given = feedback("good", 1)
    answers = {"create_assessment": Twice("UNIQUE constraint failed"), "get_trace_info": stored()}
    TraceWriter(FakeStore(answers), refusals=(Twice,)).create_assessment(given)
    other = feedback("other", 1)
    with pytest.raises(Twice):
        TraceWriter(FakeStore(answers), refusals=(Twice,)).create_assessment(other)


UNKNOWN = "log_spans is not supported: could not identify MLflow server version"


def store_that_asks_the_release(**answers: Any) -> Any:
    store: Any = FakeStore(answers)
    store._get_server_version = lru_cache(lambda: None)  # as MLflow's client remembers it
    return store


def test_a_server_that_goes_away_before_its_spans_gets_no_head() -> None:
    store = store_that_asks_the_release(log_spans=NotImplementedError(UNKNOWN))
    with pytest.raises(ConnectionError):
        TraceWriter(store).write(outgoing())
    assert set(done(store)) == {"log_spans"}


def test_a_server_that_is_slow_to_tell_its_release_is_asked_again() -> None:
    def log_spans(*_: Any) -> None:
        store._get_server_version()
        if store._get_server_version.cache_info().hits:  # it remembers that it got no answer
            raise NotImplementedError(UNKNOWN)

    store = store_that_asks_the_release(log_spans=log_spans)
    store._get_server_version()
    TraceWriter(store).write(outgoing())
    assert done(store) == ["log_spans", "log_spans", "start_trace"]
