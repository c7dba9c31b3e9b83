"""What is said of a trace as a whole: session, user, tags, feedback and expectations."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Assessment
from mlflow.tracing.trace_manager import InMemoryTraceManager

from migrator import conventions as conv
from migrator import encoding
from migrator.tracker.delivery import Parcel
from migrator.tracker.sink import Sink
from migrator.tracker.values import text_of

_numbers = itertools.count()


def label(
    trace_id: str | None, session: str | None, user: str | None, tags: Mapping[str, str]
) -> None:
    """Set what is given on a trace that is open."""
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        if trace is None:
            return
        metadata = trace.info.trace_metadata
        for key, name in ((conv.TRACE_SESSION, session), (conv.TRACE_USER, user)):
            shown = "" if name is None else _cut(name, conv.METADATA_CHARS)
            if shown:
                metadata[key] = shown
        for key, value in tags.items():
            trace.info.tags[text_of(key)] = _cut(value, conv.TRACE_TAG_CHARS)


def _cut(value: Any, limit: int) -> str:
    return encoding.cut(text_of(value), limit)


def assess(sink: Sink, assessment: Assessment) -> None:
    """Add an assessment to its trace, open or written."""
    trace_id, given_by = assessment.trace_id, assessment.source.source_id
    given = (str(time.time_ns()), str(next(_numbers)))  # a clock may be too coarse to tell two
    identity = encoding.assessment_id_of(trace_id, assessment.name, given_by, *given)
    assessment = sink.finisher.assessment(assessment)
    assessment.assessment_id = identity
    with InMemoryTraceManager.get_instance().get_trace(trace_id) as trace:
        if trace is not None and not trace.is_remote_trace:  # it goes along with the open trace
            trace.info.assessments.append(assessment)
            return
    # In the queue it comes behind its trace.
    sink.delivery.put(Parcel(sink.experiment, sink.finisher, assessment=assessment))
