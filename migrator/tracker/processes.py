"""One trace over several processes: its context in HTTP headers (W3C ``traceparent``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow.tracing.distributed import (
    get_tracing_context_headers_for_http_request,
    set_tracing_context_from_http_request_headers,
)

from migrator.tracker.exporter import router
from migrator.tracker.sink import Sink
from migrator.tracker.spans import innermost


def headers_of(sink: Sink) -> dict[str, str]:
    """Make the headers for the span around the caller; its trace gets spans of others then."""
    around = innermost(sink)
    if around is None or around.trace_id is None:
        return {}
    sink.shared.add(around.trace_id)
    return dict(get_tracing_context_headers_for_http_request())


@contextmanager
def continued(sink: Sink, headers: Mapping[str, str]) -> Iterator[None]:
    """Work below the span that another process sent in ``headers``, with lower-case names."""
    carrier = set_tracing_context_from_http_request_headers(dict(headers))
    entered = False
    with sink.guard.during("take over the context"):
        router.take(sink)
        carrier.__enter__()
        entered = True
    try:
        yield
    finally:
        if entered:
            with sink.guard.during("give back the context"):
                carrier.__exit__(None, None, None)
