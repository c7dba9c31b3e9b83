"""Native traces whose spans are damaged or nowhere: MLflow's default search must show them all."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from migrator import pipeline
from migrator.issues import Code, Kind
from migrator.verification import verify
from tests.support.spanlesskit import (
    BROKEN,
    CASES,
    DELETED,
    IDS,
    SPAN,
    STATS,
    WHOLE,
    check_case,
    found_in,
    write_one,
    write_store,
)
from tests.support.storekit import write_experiment, write_trace

NO_SPANS = {
    Code.SPANS_MISSING,
    Code.SPANS_DAMAGED,
    Code.TRACE_WITHOUT_SPANS,
    Code.TRACE_NEVER_ENDED,
}


def trace_of(path: str) -> str:
    """The id of the trace that a path leads into."""
    parts = Path(path).parts
    return parts[parts.index("traces") + 1]


def test_a_trace_without_spans_gets_a_root_and_hides_no_other(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_store(root)
    uri = f"sqlite:///{tmp_path}/m.db"
    options = pipeline.Options()
    outcome = pipeline.convert([str(root)], uri, options)
    assert outcome.ledger.gaps() == []
    named = [trace_of(issue.path) for issue in outcome.ledger.issues if issue.code in NO_SPANS]
    assert sorted(named) == sorted(IDS.values())  # each trace once
    client = MlflowClient(uri)
    found = found_in(client, "1") | found_in(client, DELETED)
    assert found.keys() == {WHOLE, *IDS.values()}
    for name, case in CASES.items():
        check_case(case, found[IDS[name]])
    result = verify([str(root)], uri, options)
    assert result.differences == ()
    assert result.recounted == 3
    assert "mlflow.trace.sizeStats of 3 traces has another number of spans" in result.as_text()


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
    found = found_in(MlflowClient(uri), "1")
    assert found.keys() == {WHOLE, BROKEN}
    info = found[BROKEN].info
    assert info.tags["mlflow.artifactLocation"] == (broken / "artifacts").as_uri()
    assert json.loads(info.trace_metadata["mlflow.trace.sizeStats"]) == {
        "total_size_bytes": 9,
        "num_spans": 1,
    }
    assert info.trace_metadata["migrator.source_size_stats"] == STATS


@pytest.mark.parametrize("found_first", [False, True])
def test_spans_found_once_are_kept_and_replace_an_inferred_root(
    found_first: bool, tmp_path: Path
) -> None:
    stores = {True: tmp_path / "whole", False: tmp_path / "bare"}
    for with_spans, root in stores.items():
        write_one(root, with_spans=with_spans)
    uri = f"sqlite:///{tmp_path}/m.db"
    for with_spans in (found_first, not found_first):
        outcome = pipeline.convert([str(stores[with_spans])], uri, pipeline.Options())
        assert outcome.ledger.gaps() == []
    trace = found_in(MlflowClient(uri), "1")[BROKEN]
    assert [(span.name, span.span_id) for span in trace.data.spans] == [("ask", "1" * 16)]
    assert "migrator.inferences" not in trace.info.tags
    differences = verify([str(stores[True])], uri, pipeline.Options()).differences
    assert [item for item in differences if item.kind in (Kind.TRACE, Kind.SPAN)] == []


def test_a_search_that_raises_is_a_difference(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_one(root, with_spans=True)
    uri = f"sqlite:///{tmp_path}/m.db"
    pipeline.convert([str(root)], uri, pipeline.Options())
    own = MlflowClient(uri)  # somebody adds a trace whose spans can't be opened
    location = tmp_path / "binary"
    location.mkdir()
    (location / "traces.json").write_bytes(bytes(range(256)))
    info = found_in(own, "1")[BROKEN].info
    info.trace_id, info.tags = WHOLE, {}
    own._tracing_client.store.start_trace(info)
    with sqlite3.connect(tmp_path / "m.db") as database:
        database.execute(
            "UPDATE trace_tags SET value = ? WHERE request_id = ? AND key = ?",
            (location.as_uri(), WHOLE, "mlflow.artifactLocation"),
        )
    with pytest.raises(UnicodeDecodeError):
        own.search_traces(locations=["1"])
    (found,) = verify([str(root)], uri, pipeline.Options()).differences
    assert (found.kind, found.entity_id, found.field) == (Kind.EXPERIMENT, "1", "search_traces")
    assert found.expected == "an answer" and found.found.startswith("(raises: UnicodeDecodeError: ")
