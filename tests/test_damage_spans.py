"""Damaged spans of a store that was not moved: MLflow can reach the file, and must not stumble."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from tests.storekit import START_MS, write_experiment, write_trace

WHOLE, BROKEN = "tr-" + "1" * 32, "tr-" + "2" * 32
SPAN = {
    "span_id": "1" * 16,
    "name": "ask",
    "start_time_unix_nano": START_MS * 10**6,
    "end_time_unix_nano": START_MS * 10**6 + 5,
}
STATS = '{"total_size_bytes": 9, "num_spans": 3}'


@pytest.mark.parametrize(
    "content",
    [
        bytes(range(256)),
        b"\xff\xfe",
        b"[]",
        b"{",
        b"null",
        b"7",
        b'{"spans": {}}',
        b'{"spans": [7]}',
        b"[" * 99_999,
    ],
)
def test_spans_that_can_not_be_read_break_no_search(content: bytes, tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    write_trace(root, "1", WHOLE, spans=[SPAN])
    broken = write_trace(root, "1", BROKEN, traces_json=content,
                         metadata={"mlflow.trace.sizeStats": STATS})  # fmt: skip
    for path in (root / "1" / "traces" / WHOLE, broken):  # where they lie
        (path / "tags" / "mlflow.artifactLocation").write_text((path / "artifacts").as_uri())
    uri = f"sqlite:///{tmp_path}/m.db"
    outcome = pipeline.convert([str(root)], uri, pipeline.Options())
    assert outcome.ledger.gaps() == []
    client = MlflowClient(uri)
    found = client.search_traces(locations=["1"], include_spans=True)
    assert [trace.info.trace_id for trace in found] == [WHOLE]
    listed = client.search_traces(locations=["1"], include_spans=False)
    info = {trace.info.trace_id: trace.info for trace in listed}[BROKEN]
    old = (broken / "artifacts").as_uri()
    assert info.tags["migrator.source_artifact_location"] == old
    assert info.tags["mlflow.artifactLocation"] == broken.as_uri()
    assert info.trace_metadata["mlflow.trace.sizeStats"] == STATS
