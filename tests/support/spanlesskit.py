"""Native traces without spans, of every kind, and the root span that is expected of each."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Trace, ViewType

from tests.support.storekit import START_MS, write_experiment, write_trace

WHOLE, BROKEN = "tr-" + "1" * 32, "tr-" + "2" * 32
SPAN = {
    "span_id": "1" * 16,
    "name": "ask",
    "start_time_unix_nano": START_MS * 10**6,
    "end_time_unix_nano": START_MS * 10**6 + 5,
}
STATS = '{"total_size_bytes": 9, "num_spans": 3}'
USAGE = '{"input_tokens": 17, "output_tokens": 186, "total_tokens": 203}'
MADE = "root span: made of what the trace itself says"
DELETED = "2"


@dataclass(frozen=True)
class Case:
    """A trace without spans, and the root span that is expected of it."""

    content: bytes | None  # of traces.json; None: there is none
    location: str | None
    schema: Any = 3
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    experiment: str = "1"
    name: str = "trace"
    inputs: Any = None
    outputs: Any = None
    status: str = "OK"
    state: str = "OK"
    length_ms: int = 5
    start_ms: int = START_MS


SAID = {"mlflow.traceInputs": '{"q": "why?"}', "mlflow.traceOutputs": '"because"'}
CASES = {
    "missing, on a server": Case(
        None, "mlflow-artifacts:/1/traces/x/artifacts", 2,
        metadata={**SAID, "mlflow.trace.tokenUsage": USAGE},
        inputs={"q": "why?"}, outputs="because",
    ),
    "binary, in a bucket": Case(
        bytes(range(256)), "s3://bucket/x", metadata={**SAID, "mlflow.trace.sizeStats": STATS},
        inputs={"q": "why?"}, outputs="because",
    ),
    "empty, on dbfs": Case(
        b"", "dbfs:/x", info={"request_preview": "why?", "response_preview": "[1, 2]"},
        inputs="why?", outputs=[1, 2],
    ),
    "cut off, of an unknown scheme": Case(
        b'{"spans": [{"name": "as', "nowhere://x",
        metadata={"mlflow.traceOutputs": '{"a": "b...', "mlflow.trace.sizeStats": "no JSON"},
        info={"state": "ERROR", "response_preview": '{"a": "broken off la...'},
        inputs={}, outputs='{"a": "broken off la...', status="ERROR", state="ERROR",
    ),
    "an array, without a location": Case(
        b"[]", None, tags=SAID, metadata={"mlflow.trace.sizeStats": "[]"},
        info={"request_preview": ""}, inputs={"q": "why?"}, outputs="because",
    ),
    "without spans, location of another kind": Case(
        b'{"spans": []}', "models:/x/1", info={"execution_duration_ms": -7}, inputs={},
        length_ms=0,
    ),
    "never ended": Case(
        None, "gs://bucket/x", 2, metadata=SAID,
        info={"status": "IN_PROGRESS", "execution_time_ms": None},
        inputs={"q": "why?"}, outputs="because", status="UNSET", state="STATE_UNSPECIFIED",
        length_ms=0,
    ),
    "nameless and timeless": Case(
        None, "wasbs://c@a/x", 2, tags={"mlflow.traceName": ""},
        info={"timestamp_ms": None, "status": None, "execution_time_ms": None},
        status="UNSET", state="STATE_UNSPECIFIED", length_ms=0, start_ms=0,
    ),
    "of a deleted experiment": Case(
        None, "file:///nowhere", 2, metadata={"mlflow.traceInputs": "null", **SAID},
        experiment=DELETED, inputs={"q": "why?"}, outputs="because",
    ),
}  # fmt: skip
IDS = {name: f"tr-{number:032x}" for number, name in enumerate(CASES, 10)}


def write_store(root: Path) -> None:
    """Write every case, and one trace with its span, into two experiments."""
    write_experiment(root, "1", "one")
    write_experiment(root, DELETED, "gone", deleted=True)
    write_trace(root, "1", WHOLE, spans=[SPAN])
    for name, case in CASES.items():
        path = write_trace(
            root, case.experiment, IDS[name], traces_json=case.content or b"", schema=case.schema,
            tags=case.tags, metadata=case.metadata, **case.info,
        )  # fmt: skip
        location = path / "tags" / "mlflow.artifactLocation"
        if case.location is None:
            location.unlink()
        else:
            location.write_text(case.location)
        if case.content is None:
            shutil.rmtree(path / "artifacts")


def handle_of(client: MlflowClient, name: str) -> str:
    (found,) = [e for e in client.search_experiments(ViewType.ALL) if e.name.startswith(name)]
    return str(found.experiment_id)


def check_case(case: Case, trace: Trace) -> None:
    (span,) = trace.data.spans
    assert (span.name, span.inputs, span.outputs) == (case.name, case.inputs, case.outputs)
    assert (span.status.status_code.value, trace.info.state.value) == (case.status, case.state)
    start_ns = max(1, case.start_ms * 10**6)  # MLflow reads 0 as no time
    assert (span.start_time_ns, span.parent_id) == (start_ns, None)
    assert span.end_time_ns == start_ns + case.length_ms * 10**6
    assert span.get_attribute("legacy.inferences") == [MADE]
    assert trace.info.tags["migrator.inferences"] == MADE
    assert json.loads(trace.info.trace_metadata["mlflow.trace.sizeStats"])["num_spans"] == 1
    stats = case.metadata.get("mlflow.trace.sizeStats")
    assert trace.info.trace_metadata.get("migrator.source_size_stats") == stats
    if case.metadata.get("mlflow.trace.tokenUsage") == USAGE:
        assert span.get_attribute("mlflow.chat.tokenUsage") == json.loads(USAGE)
        assert (trace.info.token_usage or {})["total_tokens"] == 203


def found_in(client: MlflowClient, experiment_id: str) -> dict[str, Trace]:
    return {t.info.trace_id: t for t in client.search_traces(locations=[experiment_id])}


def write_one(root: Path, *, with_spans: bool) -> None:
    write_experiment(root, "1", "one")
    path = write_trace(root, "1", BROKEN, spans=[SPAN], metadata=SAID)
    if not with_spans:
        shutil.rmtree(path / "artifacts")
