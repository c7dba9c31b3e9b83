"""A server or database that takes traces: whether it answers, and how it is written to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mlflow.entities import LifecycleStage, TraceLocation, TraceState
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient
from mlflow.tracing.export.utils import try_link_prompts_to_trace
from mlflow.tracing.utils import add_size_stats_to_trace_metadata
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from migrator import addresses, encoding
from migrator import conventions as conv
from migrator.http_client import OWN_CONNECTION
from migrator.trace_writer import Delivered, OutgoingTrace, Send, TraceWriter, send_at_once
from migrator.tracker import local_database
from migrator.tracker.costs import totals
from migrator.tracker.finishing import Finisher, write_totals

T = TypeVar("T")
PROBE = "/api/2.0/mlflow/experiments/search"


class ServerTimeout(Exception):
    """A server that doesn't do what it is asked within its time."""


class Abandoned(Exception):
    """Nobody waits for this work any more; its next request is not made."""


# How a place says that it can't take something. Anything else is a defect of ours.
REFUSALS = (MlflowException, OSError, SQLAlchemyError, ServerTimeout)


class BackgroundCall(Generic[T]):
    """A call in a daemon thread: one that may never come back must not keep anybody waiting.

    ``work`` makes its requests through the function that it is given.
    """

    def __init__(self, work: Callable[[Send], T]) -> None:
        self._done = threading.Event()
        self._is_abandoned = threading.Event()
        self._result: T
        self._error: Exception | None = None
        threading.Thread(target=self._run, args=(work,), name="tracker-call", daemon=True).start()

    def _run(self, work: Callable[[Send], T]) -> None:
        try:
            self._result = work(self._send)
        except Exception as error:  # noqa: BLE001  carried to the caller's thread and raised there
            self._error = error
        finally:
            self._done.set()

    def _send(self, ask: Callable[..., Any], *values: Any, **named: Any) -> Any:
        if self._is_abandoned.is_set():
            raise Abandoned
        return ask(*values, **named)

    def wait(self, seconds: float) -> bool:
        """Wait. True if the call is over."""
        return self._done.wait(seconds)

    @property
    def is_over(self) -> bool:
        """Whether it has come back."""
        return self._done.is_set()

    def abandon(self) -> None:
        """Stop it before its next request."""
        self._is_abandoned.set()

    def result(self) -> T:
        """Get the call's result, or raise the error that it raised."""
        if self._error is not None:
            raise self._error
        return self._result


@dataclass(slots=True)
class Place:
    """A server or database, and the experiments found or made in it, by name."""

    uri: str
    experiments: dict[str, str] = field(default_factory=dict)

    @property
    def is_server(self) -> bool:
        """Whether it is reached over a network."""
        return addresses.is_http(self.uri)

    def experiment_id(self, name: str, send: Send = send_at_once) -> str:
        """Get the id of the experiment, which is made if it isn't there.

        Raises MlflowException for one that is deleted there, among others.
        """
        if name not in self.experiments:
            local_database.ensure(self.uri)
            client = MlflowClient(self.uri)
            found = send(client.get_experiment_by_name, name)
            if found is None:
                self.experiments[name] = send(client.create_experiment, name)
            elif found.lifecycle_stage != LifecycleStage.ACTIVE:
                raise MlflowException(f"its experiment {name!r} is deleted")
            else:
                self.experiments[name] = found.experiment_id
        return self.experiments[name]

    def has(self, trace_id: str, send: Send = send_at_once) -> bool:
        """Whether a trace is there, whole or in part."""
        return self._writer(send).find(trace_id) is not None

    def write(
        self,
        experiment: str | None,
        trace: Any,
        prompts: Sequence[Any] = (),
        *,
        is_there: bool = False,
        shared_by: Finisher | None = None,
        send: Send = send_at_once,
    ) -> None:
        """Write a whole trace, to the experiment of that name; without one it stays in its own.

        A trace that ``is_there`` already is written over. With ``shared_by`` other processes have
        written spans of it: their tokens and dollars count as well.
        """
        client = TracingClient(self.uri)
        outgoing = self._outgoing(experiment, trace, send)
        writer = self._writer(send)
        writer.write_spans(trace.info.experiment_id, trace.data.spans)
        if shared_by is not None:
            self._count_stored(trace.info, shared_by, send)
        head = writer.write_head(outgoing, is_there=is_there or shared_by is not None)
        if head.tags.get(conv.SPANS_LOCATION) != conv.SPANS_IN_DATABASE:
            send(client._upload_trace_data, head, trace.data)
        if prompts:
            try_link_prompts_to_trace(
                client=client, trace_id=head.trace_id, prompts=prompts, synchronous=True
            )

    def send_on(self, experiment: str, trace_id: str, to: Place, send: Send) -> Delivered:
        """Send a trace of this database on to another place, or what that lacks of it."""
        trace = TracingClient(self.uri).store.get_trace(trace_id, allow_partial=True)
        for key in (conv.ARTIFACT_LOCATION, conv.SPANS_LOCATION):
            trace.info.tags.pop(key, None)
        return to.complete(experiment, trace, send)

    def complete(self, experiment: str, trace: Any, send: Send = send_at_once) -> Delivered:
        """Write a whole trace, or what this place lacks of it."""
        outgoing = self._outgoing(experiment, trace, send)
        writer = self._writer(send)
        return writer.complete(outgoing, writer.find(outgoing.trace_id))

    def _outgoing(self, experiment: str | None, trace: Any, send: Send) -> OutgoingTrace:
        location = trace.info.experiment_id
        if experiment is not None:
            location = self.experiment_id(experiment, send)
        trace.info.trace_location = TraceLocation.from_experiment_id(location)
        add_size_stats_to_trace_metadata(trace)
        return OutgoingTrace(trace.info, trace.data.spans)

    def _writer(self, send: Send = send_at_once) -> TraceWriter:
        return TraceWriter(TracingClient(self.uri).store, send, (MlflowException,))

    def _count_stored(self, info: Any, finisher: Finisher, send: Send) -> None:
        """Set a trace's totals to those of all its spans that are stored by now."""
        client = TracingClient(self.uri)
        spans = send(client.get_trace, info.trace_id).data.spans
        separated = finisher.separated(spans)
        if separated:
            self._writer(send).write_spans(info.experiment_id, separated)
            by_id = {span.span_id: span for span in [*spans, *separated]}
            spans = list(by_id.values())
        write_totals(info, totals(spans))
        sizes = json.loads(info.trace_metadata.get(conv.SIZE_STATS, "{}"))
        info.trace_metadata[conv.SIZE_STATS] = encoding.encode({**sizes, "num_spans": len(spans)})

    def write_spans(
        self,
        experiment: str,
        spans: Sequence[Any],
        finisher: Finisher,
        send: Send = send_at_once,
    ) -> None:
        """Write spans of a trace whose root is in another process.

        Where the root is written already, the tokens and dollars of these spans are counted in.
        """
        writer = self._writer(send)
        writer.write_spans(self.experiment_id(experiment, send), spans)
        info = send(TracingClient(self.uri).store.get_trace_info, spans[0].trace_id)
        if info.state in (TraceState.OK, TraceState.ERROR):
            self._count_stored(info, finisher, send)
            writer.write_head(OutgoingTrace(info, spans), is_there=True)

    def add_late_spans(
        self, spans: Sequence[Any], finisher: Finisher, send: Send = send_at_once
    ) -> None:
        """Write spans that ended after their trace was written, and count them in."""
        store = TracingClient(self.uri).store
        info = send(store.get_trace_info, spans[0].trace_id)
        self._writer(send).write_spans(info.experiment_id, spans)
        self._count_stored(info, finisher, send)
        self._writer(send).write_head(OutgoingTrace(info, spans), is_there=True)

    def add_assessment(self, assessment: Any, send: Send = send_at_once) -> None:
        """Write feedback, or an expectation, on a trace that is there."""
        self._writer(send).create_assessment(assessment)


def why_silent(uri: str, limit_s: float) -> str | None:
    """Ask a server for one experiment. Says why it can't take traces; None if it answers.

    The question needs a login where the server wants one, and a database that works. No retries;
    at most ``limit_s``, name resolution included.
    """

    def ask(send: Send) -> str | None:
        response = http_request(
            get_default_host_creds(uri), PROBE, "POST", max_retries=0, timeout=limit_s,
            raise_on_status=False, extra_headers=OWN_CONNECTION, json={"max_results": 1},
        )  # fmt: skip
        code = int(response.status_code)
        if code in (401, 403):
            return f"it refuses the login ({code})"
        if code >= 400:
            return f"it answers {code}"
        try:
            return (
                None
                if isinstance(response.json(), dict)
                else "it answers, but is not an MLflow server"
            )
        except ValueError:
            return "it answers, but is not an MLflow server"

    call = BackgroundCall(ask)
    if not call.wait(limit_s):
        return f"it doesn't answer within {limit_s:g} s"
    try:
        return call.result()
    except (MlflowException, OSError) as error:  # requests' errors are OSErrors
        text = str(error).lower()
        if "refused" in text:
            return "nothing listens there (connection refused)"
        if "timed out" in text or "timeout" in text:
            return f"it doesn't answer within {limit_s:g} s"
        return f"it can't be reached ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
