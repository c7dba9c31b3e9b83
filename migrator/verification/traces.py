"""What is compared of traces in every kind of target: assessments, and MLflow's default search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence, Set
from types import SimpleNamespace
from typing import Any

from migrator import encoding
from migrator.errors import TargetError
from migrator.issues import Kind
from migrator.model import AssessmentRecord
from migrator.verification.findings import MISSING, Entity, Findings
from migrator.verification.reading import Unreadable
from migrator.verification.values import canonical, without_none

_TRACES_PER_PAGE = 500  # what MLflow allows


class ReadOnce:
    """MLflow's tracking store, which gives the spans of each trace only once.

    A trace that ``batch_get_traces`` has given whole is not read again: the second time it is given
    without its spans. So ``search_traces`` costs little for traces that were compared before, and
    still runs into every trace that MLflow can't load.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._given: set[str] = set()
        self._lock = threading.Lock()  # MLflow's search asks from several threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def take_given(self) -> Set[str]:
        """Return the ids of the traces that were given whole, and forget them."""
        given, self._given = self._given, set()
        return given

    def add_given(self, trace_ids: Set[str]) -> None:
        """Take traces for given that were given by a store in another process."""
        self._given |= trace_ids

    def batch_get_traces(self, trace_ids: Sequence[str], location: str | None = None) -> list[Any]:
        """Get traces as MLflow does, without those of which something is missing."""
        wanted = [trace_id for trace_id in trace_ids if trace_id not in self._given]
        again = [trace_id for trace_id in trace_ids if trace_id in self._given]
        traces = self._store.batch_get_traces(wanted, location) if wanted else []
        with self._lock:
            self._given.update(trace.info.trace_id for trace in traces)
        known = [SimpleNamespace(info=SimpleNamespace(trace_id=trace_id)) for trace_id in again]
        return [*traces, *known]


def client_of(store: Any, uri: str) -> Any:
    """Make MLflow's client of traces on a store that is open."""
    from mlflow.tracing.client import TracingClient

    class Client(TracingClient):  # type: ignore[misc]
        @property
        def store(self) -> Any:
            return store

    return Client(uri)


def compare_search(
    findings: Findings, search: Callable[..., Any], experiment_id: str, trace_ids: set[str]
) -> None:
    """Search an experiment's traces as MLflow does by default: it must answer, with all of them.

    ``search`` is MLflow's ``search_traces`` for the experiment, which may answer ``Unreadable``;
    ``trace_ids`` are those that the database has and that are expected. Raises TargetError.
    """
    found: set[str] = set()
    token = None
    while True:
        try:
            page = search(max_results=_TRACES_PER_PAGE, page_token=token)
        except TargetError:
            raise
        except Exception as error:  # noqa: BLE001  # of any library that opens a trace's location
            page = Unreadable(f"{type(error).__name__}: {error}")
        if isinstance(page, Unreadable):
            why = (page.why.splitlines() or [""])[0]
            findings.differs(
                Kind.EXPERIMENT,
                experiment_id,
                "search_traces",
                "an answer",
                f"(raises: {why:.200})",
            )
            return
        found.update(trace.info.trace_id for trace in page)
        token = page.token
        if not token:
            break
    for trace_id in sorted(trace_ids - found):
        findings.differs(Kind.TRACE, trace_id, "search_traces", "the trace", MISSING)


def compare_assessment(of: Entity | None, record: AssessmentRecord, found: Any) -> None:
    """Compare an assessment with what MLflow says of it; ``of`` is None where there is none."""
    if of is None:
        return
    body = getattr(found, record.type, None)  # .feedback or .expectation
    if body is None:
        of.differs("type", record.type, type(found).__name__.lower())
        return
    of.check("name", record.name, found.name)
    value = encoding.sanitize(record.value)
    of.check("value", canonical(value), canonical(body.value))
    error = getattr(body, "error", None)
    of.check(
        "error",
        canonical(without_none(encoding.sanitize(record.error))),
        canonical(None if error is None else without_none(error.to_dictionary())),
    )
    of.check("source_type", record.source_type, found.source.source_type)
    of.check("source_id", record.source_id or "", found.source.source_id or "")
    of.check("create_time_ms", record.created_ms, found.create_time_ms)
    of.check("last_update_time_ms", record.last_updated_ms, found.last_update_time_ms)
    of.check("run_id", record.run_id, found.run_id)
    of.check("span_id", record.span_id, found.span_id)
    of.check("rationale", record.rationale or "", found.rationale or "")
    of.check("overrides", record.overrides, found.overrides)
    of.check("valid", record.valid, found.valid)
    of.check("metadata", dict(record.metadata or {}), dict(found.metadata or {}))
