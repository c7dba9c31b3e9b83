"""The functions of ``migrator``, as one would type them in a notebook."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import migrator
from migrator.model import RunRecord, TracePlan
from tests.support.storekit import START_MS, write_experiment, write_run

CALL = {"prompt": "What is <b>MLflow</b>?", "response": "A platform.", "model": "gpt-4o"}
TOKENS = {
    "prompt_tokens": [(START_MS, 3.0, 0), (START_MS + 1, 5.0, 1), (START_MS, 4.0, 0)],
    "completion_tokens": [(START_MS, 2.0, 0)],
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "calls <1>")
    write_run(root, "1", "a" * 32, name="asked", params=CALL, metrics=TOKENS)
    write_run(root, "1", "b" * 32, name="trained", params={"lr": "0.1"}, parent="a" * 32,
              status=4)  # fmt: skip
    (root / "1" / ("b" * 32) / "metrics" / "loss").write_bytes(b"not a number\n")
    return root


def test_results_are_frames(store: Path) -> None:
    found = migrator.scan(store)
    runs = found.runs().set_index("run_id")
    assert list(runs.index) == ["a" * 32, "b" * 32]
    asked, trained = runs.loc["a" * 32], runs.loc["b" * 32]
    assert (asked["name"], asked["experiment"], asked["params.model"]) == (
        "asked", "calls <1>", "gpt-4o"
    )  # fmt: skip
    assert asked["metrics.prompt_tokens"] == 5.0  # of the greatest step
    assert asked["start_time"].value == START_MS * 1_000_000
    assert (trained["status"], trained["parent_run_id"]) == ("FAILED", "a" * 32)
    traces = found.traces()
    assert list(traces["run_id"]) == ["a" * 32] and not traces["is_native"].any()
    assert "MLflow" in traces["request_preview"][0]
    issues = found.issues()
    assert list(issues["code"]) == [issue.code.value for issue in found.ledger.issues]
    assert "metric-line-malformed" in set(issues["code"])


def test_frames_of_an_empty_store_have_their_columns(tmp_path: Path) -> None:
    write_experiment(tmp_path / "mlruns", "1", "empty")
    found = migrator.scan(tmp_path / "mlruns")
    assert found.exit_code == 0
    for frame, column in (
        (found.runs(), "run_id"), (found.traces(), "trace_id"), (found.issues(), "code")
    ):  # fmt: skip
        assert column in frame.columns and len(frame) == 0


def test_results_show_themselves(store: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'm.db'}"
    done = migrator.convert(store, to=target)
    assert str(done).startswith("Converted 2 runs")
    assert repr(done) == str(done)
    page = done._repr_html_()
    assert "Converted 2 runs" in page and "calls &lt;1&gt;" in page and "<1>" not in page
    assert ".issues()" in page
    result = migrator.verify(store, target)
    assert result.same and "No difference" in result._repr_html_()


def test_a_sink_gets_what_would_be_written_and_changes_no_count(store: Path) -> None:
    class Seen(migrator.BaseSink):
        def __init__(self) -> None:
            self.names: list[str] = []
            self.traces: list[str] = []

        def add_run(self, run: RunRecord, experiment_id: int) -> None:
            self.names.append(run.name)

        def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
            self.traces.append(plan.trace_id)

    sink = Seen()
    found = migrator.scan(store, sink=sink, workers=2)
    assert sorted(sink.names) == ["asked", "trained"] and len(sink.traces) == 1
    assert found.ledger.as_rows() == migrator.scan(store).ledger.as_rows()


def test_progress_is_a_callback(store: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    migrator.scan(store, progress=lambda stage, done, total: calls.append((stage, done, total)))
    assert ("runs", 2, 2) in calls


def test_errors_are_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(migrator.MigrateError, match=r"no-such-store"):
        migrator.scan(tmp_path / "no-such-store")
    with pytest.raises(migrator.MigrateError, match="on-conflict"):
        migrator.convert(tmp_path, on_conflict="mrege")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"incldue": "deleted"}, "There is no option 'incldue'. Did you mean include?"),
        ({"experiment": "ads"}, "There is no option 'experiment'. Did you mean experiments?"),
        ({"include": 5}, "5 is not a text, a path, or several of them."),
        ({"since": 5}, "The value 5 of the option since has a wrong type."),
        ({"workers": "two"}, "The value 'two' of the option workers has a wrong type."),
        ({"runs": "no"}, "The value 'no' of the option runs has a wrong type."),
        ({"profile": 5}, "The value 5 of the option profile has a wrong type."),
        ({"only": 5}, "The value 5 of the option only has a wrong type."),
        ({"sink": object()}, "has no method add_experiment. Derive its class from migrator.Base"),
        ({"progress": 5}, "The value 5 of progress is not a function."),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(migrator.MigrateError) as error:
        migrator.scan("no-such-store", **options)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (None, "None is not a text, a path, or several of them."),
        (5, "5 is not a text, a path, or several of them."),
        ([], "No source is given."),
        ("", "The source is empty."),
    ],
)
def test_what_is_no_source_is_refused(sources: Any, said: str) -> None:
    with pytest.raises(migrator.MigrateError) as error:
        migrator.scan(sources)
    assert said in str(error.value)


def test_targets_are_texts_or_paths(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.db"
    assert str(migrator.convert(store, target)).startswith("Converted 2 runs")
    assert migrator.verify(store, target).same
    sent = migrator.export(store, tmp_path / "traces.jsonl")
    assert str(sent) == f"Sent 1 trace with 5 spans to {tmp_path}/traces.jsonl."
    assert repr(sent) == str(sent)
    assert "Nothing new" in str(migrator.convert(target, in_place=True))
    calls: list[Callable[..., object]] = [migrator.convert, migrator.verify, migrator.export]
    for call in calls:
        for wrong in (None, "", 5):
            with pytest.raises(migrator.MigrateError, match="is not an address or a path"):
                call(store, wrong)


def test_a_shown_tree_is_drawn(store: Path) -> None:
    shown = migrator.show("aa", store)
    assert "asked  [FINISHED" in str(shown) and f"tr-{'a' * 32}" in str(shown)
    assert repr(shown) == str(shown)
    assert shown._repr_html_().startswith("<pre>Run aaaa")
    with pytest.raises(migrator.MigrateError, match=r"No run begins with 'zz' in .*mlruns\."):
        migrator.show("zz", store)


def test_a_notebook_completes_the_public_names() -> None:
    assert dir(migrator) == sorted(migrator.__all__)


def test_importing_it_is_light() -> None:
    code = (
        "import sys, migrator\n"
        "assert callable(migrator.verify)\n"
        "print(sorted({'mlflow', 'pandas', 'sqlalchemy', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
