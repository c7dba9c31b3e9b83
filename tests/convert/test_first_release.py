"""A database and a list of rejects that 0.1.0 wrote are used as if this release had written them.

``fixtures/first_release.py`` made the database, by the first code of 0.1.0 that worked.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from migrator.issues import Code, Kind, Severity
from migrator.outcome.summary import Outcome
from migrator.pipeline import Options, convert, scan, upgrade
from tests.support import fixturekit
from tests.support.storekit import write_run

AGENTS, GENAI = "2.9.2-agents", "3.5.1-genai"
ARTICLES, ASSISTANT = "265185436086048559", "907723424318249428"
KEPT = ("experiments", "runs", "params", "metrics", "tags", "trace_info", "spans", "trace_tags",
        "assessments", "logged_models", "registered_models", "model_versions")  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    script = fixturekit.FIXTURES / "0.1.0-converted" / "converted.sql"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(script.read_text(encoding="utf-8"))
    return path


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    """The two stores that it was made of."""
    agents = fixturekit.materialise(AGENTS, tmp_path)
    for experiment in agents.iterdir():
        if experiment.name not in (ARTICLES, ASSISTANT):
            shutil.rmtree(experiment)
    return [agents, fixturekit.materialise(GENAI, tmp_path)]


def rows(path: Path) -> dict[str, Counter[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return {table: Counter(db.execute(f"SELECT * FROM {table}")) for table in KEPT}


def into(database: Path, *stores: Path) -> Outcome:
    return convert(list(stores), f"sqlite:///{database}", Options(workers=1), schema="3.9")


def test_converting_again_keeps_every_row_of_0_1_and_adds_only_what_is_new(
    database: Path, stores: list[Path]
) -> None:
    before = rows(database)
    first = into(database, *stores)
    after = rows(database)
    added = {}
    for table in KEPT:
        assert not before[table] - after[table], table
        added[table] = after[table] - before[table]
    # This release has totals as feedback, and a root span for a trace that has lost its spans.
    names = {"total_tokens", "cost_usd", "cost_usd_micro"}
    assert {row[2] for row in added["assessments"]} == names
    assert [row[4] for row in added["spans"]] == ["slash"]
    assert {table for table in KEPT if added[table]} == {"assessments", "spans", "trace_tags"}
    ledger = first.ledger
    assert not ledger.has_rejects
    assert (ledger.converted[Kind.RUN], ledger.already_there[Kind.RUN]) == (0, 19)
    assert ledger.rebuilt_already_there[Kind.TRACE] == 8
    assert ledger.already_there[Kind.TRACE] == 4
    # What this release would write otherwise is named, and stays as it is.
    degraded = {i.code for i in ledger.issues if i.severity is Severity.DEGRADED}
    assert Code.TARGET_DIFFERS in degraded
    assert into(database, *stores).unchanged

    new = "e" * 32
    write_run(stores[0], ARTICLES, new, params={"model": "gpt-4o"})
    grown = into(database, *stores)
    assert grown.ledger.converted[Kind.RUN] == 1
    new_rows = rows(database)["runs"] - after["runs"]
    assert [row[0] for row in new_rows] == [new]


def test_a_database_of_0_1_is_upgraded_and_is_a_source(database: Path, tmp_path: Path) -> None:
    upgrade(f"sqlite:///{database}")
    found = scan(database).ledger.found
    assert (found[Kind.RUN], found[Kind.TRACE]) == (19, 12)
    copied = convert(database, f"sqlite:///{tmp_path}/copy.db", Options(workers=1))
    assert not copied.ledger.has_rejects
    assert copied.ledger.converted[Kind.TRACE] == 12


def test_a_list_of_rejects_of_0_1_selects_what_it_names(tmp_path: Path, stores: list[Path]) -> None:
    run = min(path.parent for path in stores[0].glob(f"{ARTICLES}/*/meta.yaml"))
    line = {
        "path": str(run / "meta.yaml"), "entity": "run", "id": run.name, "code": "meta-unreadable",
        "message": "its\u2028meta.yaml is not YAML", "kept": "",
    }  # fmt: skip
    rejects = tmp_path / "mlflow.db.rejects.jsonl"
    rejects.write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    options = Options(only=rejects, workers=1)
    only = convert(stores[0], f"sqlite:///{tmp_path}/m.db", options, schema="3.9")
    assert only.ledger.converted[Kind.RUN] == 1
