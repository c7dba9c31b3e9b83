"""A nightly conversion by the command line: what has gone on since is taken over, what people did
in MLflow meanwhile stays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Feedback
from mlflow.tracing.client import TracingClient

from migrator.cli import main
from tests.support.loaderkit import tables
from tests.support.storekit import START_MS, write_experiment, write_run, write_trace

FLOW, PLAN, WRITE, LATE = "a" * 32, "b" * 32, "c" * 32, "d" * 32
TRAIN, GONE, FAILED, RUNNING, HIDDEN = "e" * 32, "f" * 32, "9" * 32, "8" * 32, "7" * 32
NATIVE = "tr-" + "6" * 32
MODEL = {"model": "gpt-4o"}


def write(root: Path, morning: bool) -> None:
    """Write the store as it was in the first night, or as it is now."""
    if root.exists():
        shutil.rmtree(root)
    s = START_MS
    status, none = (3, None) if morning else (1, None)

    def later(value: Any) -> dict[str, Any]:
        return value if morning else {}

    write_experiment(root, "1", "agents", tags={"team": "blue"})
    write_run(
        root, "1", FLOW, name="flow", status=status, end_ms=s + 9000 if morning else none,
        params={"q": "x", **later({"late": "1"})}, tags={"phase": "done" if morning else "begun"},
        metrics={"score": [(s + 1, 1, 0), *later([(s + 8000, 2, 1)])]},
        artifacts={"inputs.json": '{"topic": "bees"}', **later({"outputs.json": '{"t": "B"}'})},
    )  # fmt: skip
    write_run(
        root, "1", PLAN, name="plan", parent=FLOW, start_ms=s + 10, end_ms=s + 100, params=MODEL,
        artifacts={"prompt.txt": "P", "response.txt": "R"},
    )  # fmt: skip
    tokens = {"input_tokens": [(s + 300, 5, 0)], **later({"output_tokens": [(s + 800, 7, 0)]})}
    write_run(
        root, "1", WRITE, name="write", parent=FLOW, start_ms=s + 200, status=status, params=MODEL,
        end_ms=s + 900 if morning else none, metrics=tokens,
        artifacts={"prompt.txt": "P2", **later({"response.txt": "R2"})},
    )  # fmt: skip
    write_run(root, "1", TRAIN, name="train", tags={"stage": "prod" if morning else "dev"})
    write_run(
        root, "1", FAILED, status=4 if morning else 1, end_ms=s + 77 if morning else none,
        deleted=morning, tags=later({"mlflow.note.content": "it broke"}),
    )  # fmt: skip
    for run_id in (RUNNING, HIDDEN):
        points = [(s + n, n, n) for n in range(5 if morning else 2)]
        write_run(root, "1", run_id, status=1, end_ms=none, metrics={"loss": points})
    span = {
        "span_id": "1" * 16,
        "name": "ask",
        "start_time_unix_nano": s * 10**6,
        "end_time_unix_nano": s * 10**6 + 5,
    }
    native = write_trace(
        root, "1", NATIVE, spans=[span], state="OK" if morning else "IN_PROGRESS",
        tags={"k": "2" if morning else "1"},
    )  # fmt: skip
    if morning:
        write_run(
            root, "1", LATE, name="late", parent=WRITE, start_ms=s + 500, end_ms=s + 800,
            params=MODEL, artifacts={"prompt.txt": "P3", "response.txt": "R3"},
        )  # fmt: skip
    else:
        write_run(root, "1", GONE, name="gone")
        (native / "artifacts" / "traces.json").unlink()


def convert(root: Path, target: Path, *options: str) -> str:
    uri = f"sqlite:///{target}"
    result = CliRunner().invoke(main, ["convert", str(root), "--to", uri, "-v", *options])
    assert result.exit_code == 0, result.output
    return result.output


def people(uri: str) -> None:
    """Do what people do in MLflow's pages."""
    client = MlflowClient(uri)
    client.set_tag(FLOW, "mine", "1")
    client.set_tag(WRITE, "mlflow.note.content", "looks fine")
    client.set_trace_tag(f"tr-{FLOW}", "mine", "1")
    client.set_trace_tag(NATIVE, "mine", "1")
    feedback = Feedback(name="liked", value=True, source=AssessmentSource("HUMAN", "ana"))
    TracingClient(uri).log_assessment(f"tr-{FLOW}", feedback)
    client.set_experiment_tag("1", "mine", "1")
    client.delete_run(HIDDEN)


def rows(database: Path, table: str) -> set[str]:
    return {str(sorted(row.items())) for row in tables(database).get(table, [])}


@pytest.mark.parametrize("options", [("--since", "2023-11-14"), ("--experiment", "agents"), ()])
def test_the_morning_is_taken_over_and_what_people_did_meanwhile_stays(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    root, target, fresh = tmp_path / "mlruns", tmp_path / "m.db", tmp_path / "fresh.db"
    write(root, morning=False)
    convert(root, target)
    people(f"sqlite:///{target}")
    write(root, morning=True)
    said = convert(root, target, *options)
    assert "target-updated" in said and "target-differs" not in said and TRAIN in said
    convert(root, fresh)

    whole = ("spans", "trace_info", "trace_metrics", "trace_request_metadata", "metrics")
    for table in (*whole, "latest_metrics", "inputs"):
        assert rows(target, table) == rows(fresh, table), table
    added = {
        "runs": {GONE, HIDDEN},  # still here; deleted by people
        "params": {GONE},
        "tags": {GONE, "'mine'", "looks fine"},
        "trace_tags": {"'mine'"},
        "experiment_tags": {"'mine'"},
        "assessments": {"'liked'"},
    }
    for table, words in added.items():
        more = rows(target, table) - rows(fresh, table)
        assert all(any(word in row for word in words) for row in more), (table, more)
    client = MlflowClient(f"sqlite:///{target}")
    assert client.get_run(FLOW).data.tags["mine"] == "1"
    assert client.get_run(FLOW).data.tags["phase"] == "done"
    assert client.get_run(WRITE).data.tags["mlflow.note.content"] == "looks fine"
    assert client.get_run(HIDDEN).info.lifecycle_stage == "deleted"
    assert client.get_run(FAILED).info.lifecycle_stage == "deleted"
    assert client.get_run(TRAIN).data.tags["stage"] == "prod", "nobody changed it in the target"
    trace = client.get_trace(f"tr-{FLOW}")
    assert {span.name for span in trace.data.spans} == {"flow", "plan", "write", "late"}
    assert trace.info.tags["mine"] == "1" and "liked" in {a.name for a in trace.info.assessments}
    content = target.read_bytes()
    convert(root, target, *options)
    assert target.read_bytes() == content, "a second time changed something"
