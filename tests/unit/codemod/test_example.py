"""The example of the legacy kind and its new form: less to write, and the same answers."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest

from bench.tracking_code import tracking_lines
from migrator import pipeline
from migrator.codemod import inspect
from tests.support import trackerkit

ROOT = Path(__file__).resolve().parent.parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
BEFORE, AFTER = EXAMPLES / "legacy_workflow.py", EXAMPLES / "workflow.py"


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # 3.13 and later refuse without it
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "article", raising=False)
    with trackerkit.restored():
        yield


def test_tracking_code_shrinks_by_at_least_a_third() -> None:
    """Statements, each on one line, so that nothing is won by layout."""
    before, after = tracking_lines(BEFORE), tracking_lines(AFTER)
    assert after <= before * 2 / 3, (before, after)


def test_legacy_example_is_listed_and_its_safe_part_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "workflow.py"
    shutil.copy(BEFORE, path)
    listed = inspect([str(path)])
    assert {each.code for each in listed.findings} == {
        "legacy-import", "file-store-uri", "nested-run", "prompt-artifact", "run-reader"
    }  # fmt: skip
    done = inspect([str(path)], write=True)
    (change,) = done.changes
    assert change.edits == 2
    text = path.read_text(encoding="utf-8")
    assert text.count('"sqlite:///mlflow.db"') == 2 and "mlruns" not in text.partition('"""\n')[2]
    left = inspect([str(path)], write=True)
    assert left.changes == () and {each.code for each in left.findings} == {
        "legacy-import", "nested-run", "prompt-artifact", "run-reader"
    }  # fmt: skip
    assert inspect([str(AFTER)]).findings == ()


def test_rewritten_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its report reads the tracker's runs, so that it keeps the tracker that writes them."""
    replica(monkeypatch)
    path = tmp_path / "rewritten.py"
    shutil.copy(BEFORE, path)
    inspect([str(path)], write=True)
    trackerkit.database(tmp_path, "mlflow.db")
    rewritten = script(path)
    assert set(rewritten.write_article("Cities")) == {"topic", "notes", "article"}
    assert rewritten.report() == "42 tokens, $0.000088"


STYLES = {
    "functions": """
        tracker = MLFlowTracker(SETTINGS, {"flow": {"name": "styles"}})

        def write() -> None:
            with tracker.track_workflow(inputs={"topic": "cities"}):
                with tracker.track_node("write", "gpt-4o"):
                    tracker.log_node_metrics(10, 1, model="gpt-4o", prompt="p", response="r")
                tracker.finalize_workflow({"article": "a"}, status="success")
    """,
    "class": """
        class Writer:
            def __init__(self, tracker: MLFlowTracker | None = None) -> None:
                self.tracker = tracker or MLFlowTracker(SETTINGS, {"flow": {"name": "styles"}})

            def run(self) -> None:
                with self.tracker.track_workflow({"topic": "cities"}):
                    self.node()
                    self.tracker.finalize_workflow({"article": "a"})

            def node(self) -> None:
                with self.tracker.track_node(node_id="write", model="gpt-4o"):
                    self.tracker.log_node_metrics(
                        input_tokens=10, output_tokens=1, prompt="p", response="r"
                    )

        writer = Writer()
        tracker, write = writer.tracker, writer.run
    """,
    "decorators": """
        tracker = MLFlowTracker(SETTINGS, {"flow": {"name": "styles"}})

        @tracker.track_node("write", "gpt-4o")
        async def node() -> None:
            tracker.log_node_metrics(10, 1, "gpt-4o", prompt="p", response="r")

        @tracker.track_workflow({"topic": "cities"})
        def write() -> None:
            asyncio.run(node())
            tracker.finalize_workflow({"article": "a"})
    """,
}


@pytest.mark.parametrize("style", STYLES)
def test_rewritten_code_of_any_style_runs_on_the_new_tracker(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "styled.py"
    head = """
        import asyncio
        from configurable_agents.observability import MLFlowTracker
        SETTINGS = {"enabled": True}
    """
    path.write_text(textwrap.dedent(head) + textwrap.dedent(STYLES[style]), encoding="utf-8")
    done = inspect([str(path)], write=True)
    assert [change.edits for change in done.changes] == [1]
    trackerkit.database(tmp_path, "mlflow.db")
    styled = script(path)
    styled.write()
    styled.write()
    first, second = trackerkit.traces(styled.tracker)
    for trace in (first, second):
        assert [span.name for span in trace.data.spans] == ["workflow_styles", "write"]
        assert trace.data.spans[0].inputs == {"topic": "cities"}
        assert trace.data.spans[0].outputs == {"article": "a"}
        assert trace.info.token_usage["total_tokens"] == 11


def script(path: Path) -> Any:
    """Import an example as ``python path`` would, but for its last lines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the fixtures' replica in the legacy package's place, with its callers' interface."""
    monkeypatch.syspath_prepend(str(ROOT / "fixtures" / "writers"))
    module: Any = ModuleType("configurable_agents.observability")
    writers: Any = importlib.import_module("legacy_tracker")

    class MLFlowTracker:
        def __init__(self, config: dict[str, Any], flow: dict[str, Any]) -> None:
            mlflow.set_tracking_uri(config["tracking_uri"])
            llm = flow["config"]["llm"]
            self._inner = writers.LegacyTracker(
                writers.Settings(),
                writers.Workflow(
                    flow["flow"]["name"], flow["nodes"], provider=llm["provider"],
                    model=llm["model"],
                ),
            )  # fmt: skip

        def track_workflow(self, inputs: dict[str, Any]) -> AbstractContextManager[None]:
            tracked: AbstractContextManager[None] = self._inner.track_workflow(inputs)
            return tracked

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    module.MLFlowTracker = MLFlowTracker
    monkeypatch.setitem(sys.modules, "configurable_agents", ModuleType("configurable_agents"))
    monkeypatch.setitem(sys.modules, "configurable_agents.observability", module)


def nodes(trace: Any) -> list[tuple[Any, ...]]:
    """What the workflow and its nodes say, in order; the tool's run had a name of its own."""
    return [
        (
            span.name, span.span_type, span.inputs, span.outputs, span.get_attribute("model"),
            span.get_attribute("mlflow.chat.tokenUsage"),
            round(span.get_attribute("cost_usd") or 0, 6),
        )
        for span in trace.data.spans
        if span.name not in ("search", "tool_search")
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The filesystem")
def test_both_forms_give_the_same_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replica(monkeypatch)
    legacy = script(BEFORE)
    state = legacy.write_article("Cities")
    said = legacy.report()
    migrated = f"sqlite:///{tmp_path / 'migrated.db'}"
    pipeline.convert([str(tmp_path / "mlruns")], migrated, pipeline.Options())

    shutil.copy(tmp_path / "migrated.db", tmp_path / "mlflow.db")  # its own experiment beside it
    new = script(AFTER)
    assert new.write_article("Cities") == state
    assert new.report() == said
    assert new.tracker.flush(60)
    assert (new.tracker.status().delivered, new.tracker.status().fallback_reason) == (1, None)
    old_trace, new_trace = trackerkit.stored(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert nodes(old_trace) == nodes(new_trace) and len(nodes(new_trace)) == 3
    assert old_trace.info.token_usage == new_trace.info.token_usage
    found = {(each.info.state, len(each.data.spans)) for each in (old_trace, new_trace)}
    assert len(found) == 1
