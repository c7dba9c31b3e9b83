"""The example with autolog, run as a program; the others run with their page (test_docs.py)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import fixturekit, trackerkit
from tests.support.docskit import DOCS, ROOT


def test_autolog_and_the_tracker_make_one_tree_with_each_token_once(tmp_path: Path) -> None:
    pytest.importorskip("langgraph", reason="the extra langgraph is not installed")
    trackerkit.database(tmp_path, "mlflow.db")
    done = subprocess.run(
        [sys.executable, str(DOCS / "examples" / "article_writer_autolog.py")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": 676 tokens\n")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        spans = db.execute("SELECT name, type, parent_span_id IS NULL FROM spans").fetchall()
    assert [name for name, _, is_root in spans if is_root] == ["workflow_article_writer"]
    assert sorted(kind for _, kind, _ in spans if kind == "CHAT_MODEL") == ["CHAT_MODEL"] * 2
    assert {name for name, _, _ in spans} >= {"research", "write"}


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((DOCS / "examples" / "history.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    script = "\n".join(
        [*cells, "print(len(traces), len(runs), by_experiment['input_tokens'].sum())"]
    )
    fixturekit.materialise("2.22.5-agents", tmp_path).rename(tmp_path / "mlruns")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Converted 82 runs and rebuilt 33 traces" in done.stdout
    assert done.stdout.endswith("33 82 6417.0\n")
