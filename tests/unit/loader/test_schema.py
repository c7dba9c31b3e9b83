"""The empty databases that are kept as SQL are those that MLflow's own chain makes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator import empty_database
from migrator.errors import LedgerError
from migrator.loader import baseline, schema
from migrator.loader.sqlite import audit
from tests.support import loaderkit as samples
from tests.support.fixturekit import store

pytestmark = pytest.mark.xdist_group("unit_loader_schema")


def described(path: Path) -> dict[str, Any]:
    """Return all that an empty database says of itself, by object.

    A table's columns are in order; its constraints are sorted, because Alembic writes them in no
    fixed order (they stand in sets).
    """
    with closing(sqlite3.connect(path)) as db:
        told: dict[str, Any] = {}
        objects = "SELECT type, name, tbl_name, sql FROM sqlite_master"
        for kind, name, table, sql in db.execute(objects):
            words = sorted((sql or "").replace(",", " , ").split())
            told[f"{kind} {name}"] = (table, words)
        for name in [name.split(" ", 1)[1] for name in told if name.startswith("table ")]:
            pragmas = ("table_xinfo", "foreign_key_list", "index_list")
            facts = {p: db.execute(f'PRAGMA {p}("{name}")').fetchall() for p in pragmas}
            facts["foreign_key_list"] = sorted(row[2:] for row in facts["foreign_key_list"])
            facts["index_list"] = sorted(
                (row[2:], db.execute(f'PRAGMA index_xinfo("{row[1]}")').fetchall())
                for row in facts["index_list"]
            )
            told[f"table {name}"] += (facts, db.execute(f'SELECT * FROM "{name}"').fetchall())
        for pragma in ("page_size", "encoding", "user_version", "application_id", "auto_vacuum"):
            told[f"pragma {pragma}"] = db.execute(f"PRAGMA {pragma}").fetchone()
    return told


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made by the chain of the MLflow that is installed, up to that of 3.9.0."""
    path = tmp_path_factory.mktemp("chain") / "chain.db"
    schema.create_by_chain(str(path))
    return path


KEPT = [revision for revision in schema.chain() if empty_database.is_kept(revision)]


@pytest.mark.parametrize("revision", KEPT)
def test_a_kept_schema_is_that_of_the_installed_mlflows_chain(
    chained: Path, tmp_path: Path, revision: str
) -> None:
    upgraded = tmp_path / "upgraded.db"
    upgraded.write_bytes(chained.read_bytes())
    schema.upgrade(str(upgraded), revision)
    kept = tmp_path / "kept.db"
    empty_database.create(str(kept), revision)
    ours, mlflows = described(kept), described(upgraded)
    assert ours.pop("pragma page_size") == (
        empty_database.PAGE_BYTES,
    )  # the one thing that is ours
    assert mlflows.pop("pragma page_size") == (4096,)
    assert ours.keys() == mlflows.keys()
    for name, facts in mlflows.items():
        assert ours[name] == facts, name
    assert len(ours) > 100
    assert ours["table alembic_version"][-1] == [(revision,)]


def test_every_release_since_3_9_is_kept_and_so_is_the_installed_one() -> None:
    releases = list(schema.RELEASES)
    newer = releases[releases.index(schema.MLFLOW_39) :]
    assert len(newer) > 9
    assert all(map(empty_database.is_kept, newer))
    assert not any(map(empty_database.is_kept, releases[: releases.index(schema.MLFLOW_39)]))
    assert schema.chain()[-1] in newer


def test_a_schema_that_is_not_kept_is_not_made(tmp_path: Path) -> None:
    assert not empty_database.is_kept("ffffffffffff")
    with pytest.raises(KeyError):
        empty_database.create(str(tmp_path / "new.db"), "ffffffffffff")
    assert not (tmp_path / "new.db").exists()


def test_a_damaged_page_is_seen_whatever_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "whole.db"
    samples.load(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        audit.check_sound(db)
        pages, size = (
            db.execute(f"PRAGMA {of}").fetchone()[0] for of in ("page_count", "page_size")
        )
    content = path.read_bytes()
    assert pages > 100 and size == empty_database.PAGE_BYTES
    for page in range(1, pages):  # the first without which it is no database at all
        path.write_bytes(content[: page * size] + bytes(size) + content[(page + 1) * size :])
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as db,
            pytest.raises((LedgerError, sqlite3.DatabaseError)),
        ):
            audit.check_sound(db)


def test_an_index_that_lacks_rows_of_its_table_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "whole.db"
    samples.load(path)
    with closing(sqlite3.connect(path)) as db:
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'index_tags_run_uuid'"
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            f"UPDATE sqlite_master SET rootpage = ({root}) WHERE name = 'index_params_run_uuid'"
        )
        db.commit()
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as db,
        pytest.raises(LedgerError, match="index_params_run_uuid does not hold the rows of table"),
    ):
        audit.check_sound(db)


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX index_params_run_uuid",
        "INSERT INTO experiments VALUES (0, 'Default', '', 'active', 1, 1)",
        "ALTER TABLE runs ADD COLUMN more TEXT",
        "UPDATE alembic_version SET version_num = 'other'",
    ],
)
def test_any_change_of_the_schema_would_be_seen(chained: Path, tmp_path: Path, change: str) -> None:
    changed = tmp_path / "changed.db"
    changed.write_bytes(chained.read_bytes())
    with closing(sqlite3.connect(changed)) as db:
        db.execute(change)
        db.commit()
    assert described(changed) != described(chained)


def test_what_the_generator_writes_makes_the_same_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision in KEPT:
        empty_database.create(str(tmp_path / f"kept-{revision}.db"), revision)
    written = tmp_path / "schemas.sql"
    written.write_text(baseline.script_by_chain(), encoding="utf-8")
    monkeypatch.setattr(empty_database, "SCHEMAS", written)
    empty_database._parts.cache_clear()
    try:
        for revision in KEPT:
            again = tmp_path / f"again-{revision}.db"
            empty_database.create(str(again), revision)
            assert described(again) == described(tmp_path / f"kept-{revision}.db")
    finally:
        empty_database._parts.cache_clear()


@pytest.mark.parametrize("wanted", ["3.9", "latest"])
def test_a_conversion_imports_neither_mlflow_nor_what_it_needs(tmp_path: Path, wanted: str) -> None:
    script = """
import sys
from migrator.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(*{"mlflow", "alembic", "sqlalchemy", "pandas"} & sys.modules.keys())
"""
    target = f"sqlite:///{tmp_path}/new.db"
    arguments = ["convert", str(store("2.22.5-agents")), "--to", target, "--schema", wanted, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent.parent.parent.parent,
    )
    assert done.stdout.strip() == "", done.stdout + done.stderr
    assert (tmp_path / "new.db").exists()
