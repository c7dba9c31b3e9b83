"""Parts of a store that jobs of their own convert: together they are the whole."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migrator import pipeline
from migrator.cli import main
from migrator.errors import OptionError
from migrator.issues import Code, Kind, Severity
from migrator.pipeline import shards
from migrator.pipeline.selection import Shard
from migrator.verification import verify
from tests.support import fixturekit, storekit
from tests.support.fixturekit import store
from tests.support.marks import every_store
from tests.support.sql_servers import Server as SqlServer

ROOT = Path(__file__).resolve().parent.parent.parent
OF_A_SOURCE = 0  # the last column of a row that remembers the state of a source
STORES = tuple(str(store(name)) for name in ("2.22.5-agents", "2.22.5-server", "3.1.4-models"))


def rows(path: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """Return the rows of every table; shards write them in another order."""
    with sqlite3.connect(path) as db:
        tables = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        found = {t: db.execute(f"SELECT * FROM {t}").fetchall() for t in tables}
    return {t: Counter(listed) for t, listed in without_states(found).items()}


def without_states(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows without those that remember the state of a source: each shard is one of its own."""
    remembered = [row for row in found["migrator_seen"] if row[2] != OF_A_SOURCE]
    return {**found, "migrator_seen": remembered}


def convert(sources: Any, target: Path, *, schema: str = "3.9", **choice: Any) -> Any:
    """Convert into a database that only a test's ``sqlite3`` reads, unless ``schema`` is latest."""
    return pipeline.convert(
        [str(source) for source in sources],
        f"sqlite:///{target}",
        pipeline.Options(workers=1, **choice),
        schema=schema,
        backup=False,
    )


def both(sources: Any, tmp_path: Path, parts: int = 3, order: Any = None, **choice: Any) -> Any:
    """Return the rows of the whole and of its shards, and what each shard told."""
    whole, shared = tmp_path / "whole.db", tmp_path / "shared.db"
    if not whole.exists():
        convert(sources, whole, **choice)
    shared.unlink(missing_ok=True)
    told = [
        convert(sources, shared, shard=(number, parts), **choice)
        for number in order or range(1, parts + 1)
    ]
    return rows(whole), rows(shared), told


@pytest.mark.parametrize("name", every_store())
def test_the_shards_of_a_fixture_are_the_whole(name: str, tmp_path: Path) -> None:
    whole, shared, told = both([fixturekit.materialise(name, tmp_path)], tmp_path)
    assert shared == whole
    assert [each.shard_text for each in told] == ["1/3", "2/3", "3/3"]


def test_the_shards_of_several_sources_are_the_whole_in_any_order_and_twice(
    tmp_path: Path,
) -> None:
    for order in itertools.permutations((1, 2, 3)):
        whole, shared, _ = both(STORES, tmp_path, order=order)
        assert shared == whole
    before = (tmp_path / "shared.db").read_bytes()
    for number in (2, 1, 3):
        again = convert(STORES, tmp_path / "shared.db", shard=(number, 3))
        assert not any(again.ledger.converted.values()) and not again.ledger.rebuilt_new
    assert (tmp_path / "shared.db").read_bytes() == before


CHOICES: dict[str, dict[str, Any]] = {
    "regrouped": {"group_by_time": True, "adopt_orphans": True},
    "since": {"since": "2024-03-06"},
    "no-runs": {"runs": False},
    "no-traces": {"traces": False},
    "genai": {"experiment_kind": "genai"},
    "keep": {"experiment_kind": "keep"},
    "all": {"include": frozenset({"sweeps", "flat", "deleted"}), "redact": ("gpt",)},
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_with_any_options_the_shards_are_the_whole(choice: Any, tmp_path: Path) -> None:
    whole, shared, _ = both(STORES, tmp_path, **choice)
    assert shared == whole


def ids(shard: int, parts: int, count: int) -> list[str]:
    """Return run ids that a shard takes."""
    candidates = (f"{number:032x}" for number in itertools.count(1))
    return list(itertools.islice(filter(Shard(shard, parts).has, candidates), count))


def rejected(outcome: Any) -> set[tuple[str, str | None]]:
    issues = outcome.ledger.issues
    return {(i.code.value, i.entity_id) for i in issues if i.severity is Severity.REJECTED}


def test_every_name_is_in_one_shard_and_shards_are_of_about_equal_size() -> None:
    names = [f"{number:032x}" for number in range(2_000)]
    for parts in (1, 2, 7):
        taken = Counter(k for n in names for k in range(1, parts + 1) if Shard(k, parts).has(n))
        assert sum(taken.values()) == len(names)
        assert min(taken.values()) > len(names) / parts * 0.8
    assert Shard(1, 3).has("a\udc80") in (True, False)  # a name that is not text
    assert [Shard(k, 4).has("f" * 32) for k in (1, 2, 3, 4)] == [True, False, False, False]


def test_what_refers_to_things_of_another_shard_is_not_refused(tmp_path: Path) -> None:
    root, second = tmp_path / "mlruns", tmp_path / "second" / "mlruns"
    storekit.write_experiment(root, "1", "Default", layout="3")  # so a placeholder is made
    storekit.write_experiment(root, "2", "two", layout="3", tags={"team": "b"})
    storekit.write_experiment(second, "2", "two", layout="3", tags={"team": "a", "more": "c"})
    here, there = ids(1, 2, 4), ids(2, 2, 4)
    for exp, run_ids in (("1", here[:2] + there[:2]), ("2", here[2:] + there[2:])):
        for run_id in run_ids:
            storekit.write_run(root, exp, run_id, layout="3", params={"prompt": "a", "answer": "b"})
    storekit.write_run(root, "1", "c" * 32, parent=there[0])  # goes with its root, as in both
    storekit.write_run(root, "2", "d" * 32, parent=here[0])
    storekit.write_run(root, "1", "e" * 32, parent="0" * 32)  # has none
    storekit.write_run(second, "2", here[2], layout="3", params={"prompt": "a", "answer": "b"})
    storekit.write_run(second, "2", there[2], layout="3", params={"other": "content"})
    storekit.write_dataset(root, "1", "data", "0a", runs=[here[0], there[0], "c" * 32])
    for number in range(4):
        storekit.write_logged_model(
            root,
            "1",
            f"m-{number:032x}",
            source_run_id=here[0],
            output_step=number,
            metrics={
                "f1": [(1_700_000_000_000 + at, at, 0, run) for at, run in enumerate(here + there)]
            },
        )
        storekit.write_registered_model(
            root, f"model-{number}", versions=[{"run_id": there[number]}, {"run_id": here[number]}]
        )
        storekit.write_logged_model(root, "2", f"m-{number:031x}f", source_run_id=there[2])
        storekit.write_trace(root, "2", f"tr-{here[number]}")
        storekit.write_trace(root, "2", f"{number:032x}"[::-1])
    at_once = pipeline.scan([str(root), str(second)], pipeline.Options(workers=1))
    for parts in (2, 3):
        whole, shared, told = both([root, second], tmp_path, parts=parts)
        assert shared == whole
        assert sum(whole["logged_model_metrics"].values()) == 4 * 8
        assert set().union(*map(rejected, told)) >= rejected(at_once)
        ledgers = [each.ledger for each in told]
        taken = sum(each.found[Kind.RUN] - each.left_out[Kind.RUN] for each in ledgers)
        assert taken == at_once.ledger.found[Kind.RUN]
        codes = Counter(issue.code for each in ledgers for issue in each.issues)
        assert codes[Code.RUN_PARENT_MISSING] == 1
        assert {code for each in told for code, _ in rejected(each)} <= {
            "entity-clashes",
            "experiment-tag-differs",
            "load-duplicate",
        }
    for number in (1, 2):
        shard = (number, 2)
        convert([root, second], tmp_path / "latest.db", schema="latest", shard=shard)
    found = verify([str(root), str(second)], f"sqlite:///{tmp_path}/latest.db", pipeline.Options())
    assert found.same
    with pytest.raises(OptionError, match="compares complete sources"):
        verify([str(root)], f"sqlite:///{tmp_path}/latest.db", pipeline.Options(shard=(1, 3)))


def test_an_experiment_of_mixed_runs_gets_the_kind_that_the_whole_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "mlruns"
    run_ids = [f"{number:032x}" for number in range(1, 31)]
    for exp, traced in (("1", 16), ("2", 14), ("3", 1), ("4", 30)):
        storekit.write_experiment(root, exp, f"exp {exp}")
        for number, run_id in enumerate(run_ids):
            own = f"{exp}{run_id[1:]}"
            storekit.write_run(root, exp, own)
            if number < traced:  # a workflow of two steps
                step = f"{exp}f{run_id[2:]}"
                storekit.write_run(root, exp, step, parent=own, params={"prompt": "What?"})
    whole, shared, _ = both([root], tmp_path, parts=4)
    kinds = {row[2] for row in whole["experiment_tags"] if row[0] == "mlflow.experimentKind"}
    assert kinds == {1, 4}
    assert shared == whole
    monkeypatch.setattr(shards, "SAMPLE_TREES", 5)  # of a big experiment: near enough
    _, sampled, _ = both([root], tmp_path, parts=4)
    kinds = {row[2] for row in sampled["experiment_tags"] if row[0] == "mlflow.experimentKind"}
    assert 4 in kinds and 3 not in kinds
    again = both([root], tmp_path, parts=4, order=(4, 2, 3, 1))[1]
    assert again == sampled


def test_shards_into_a_database_in_use_rename_what_clashes_like_the_whole(tmp_path: Path) -> None:
    others = tmp_path / "others" / "mlruns"
    root = tmp_path / "mlruns"
    storekit.write_experiment(others, "1", "first", creation_ms=storekit.START_MS - 1)
    storekit.write_run(others, "1", "a" * 32)
    storekit.write_experiment(root, "2", "first")
    storekit.write_experiment(root, "1", "second")
    for number in range(12):
        storekit.write_run(root, str(1 + number % 2), f"{number:032x}")
    whole, shared = tmp_path / "whole.db", tmp_path / "shared.db"
    for conflict in ("rename", "merge"):
        for target in (whole, shared):
            target.unlink(missing_ok=True)
            convert([others], target)
        for _ in range(2):  # shards convert again, too: what is remembered of joined experiments
            convert([root], whole, on_conflict=conflict)
        for number in (2, 3, 1, 2):
            convert([root], shared, on_conflict=conflict, shard=(number, 3))
        assert rows(shared) == rows(whole)


def test_a_shard_tells_which_it_was_and_what_it_left_to_others(tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    arguments = ["convert", *STORES, "--to", f"sqlite:///{target}", "--schema", "3.9"]
    runner = CliRunner()
    taken: Counter[str] = Counter()
    for number in (1, 2):
        done = runner.invoke(main, [*arguments, "--shard", f"{number}/2", "--json"])
        told = json.loads(done.output)
        assert told["shard"] == f"{number}/2"
        ledger = {row["kind"]: row for row in told["ledger"]}
        for kind in ("run", "registered model", "logged model"):
            row = ledger[kind]
            assert 0 < row["left_out"] < row["found"]
            taken[kind] += row["converted"]
        report = target.with_name(f"new.db.shard-{number}-of-2.report.json")
        assert json.loads(report.read_text())["shard"] == f"{number}/2"
        assert told["files"]["found"] < sum(len(files) for s in STORES for *_, files in os.walk(s))
    assert taken["run"] == ledger["run"]["found"]
    said = runner.invoke(main, ["scan", STORES[0], "--shard", "2/2"]).output
    assert "Shard 2/2" in said
    page = tmp_path / "page.html"
    runner.invoke(main, ["scan", STORES[0], "--shard", "2/2", "--html", str(page)])
    assert "Shard 2/2" in page.read_text()
    assert "Shard" not in runner.invoke(main, ["scan", STORES[0]]).output


@pytest.mark.parametrize(
    "value", ["0/4", "5/4", "a/b", "1/0", "1", "/", "-1/4", "1/4/2", "²/4", ""]
)
@pytest.mark.parametrize("command", ["scan", "convert"])
def test_a_bad_shard_is_a_usage_error(command: str, value: str) -> None:
    done = CliRunner().invoke(main, [command, STORES[0], f"--shard={value}"])
    assert done.exit_code == 2 and "is not K/N with K from 1 to N" in done.output


def test_a_bad_shard_and_copies_are_option_errors(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--shard '5/4' is not K/N"):
        pipeline.scan([STORES[0]], pipeline.Options(shard=(5, 4)))
    with pytest.raises(OptionError, match=r"copy:.* and --shard"):
        convert([STORES[0]], tmp_path / "x.db", shard=(1, 4), artifacts=f"copy:{tmp_path}/files")


@pytest.mark.parametrize(
    "options",
    [
        pipeline.Options(shard=(1, 2)),
        pipeline.Options(executor=concurrent.futures.ThreadPoolExecutor(1)),
    ],
    ids=["shard", "executor"],
)
def test_a_server_takes_no_shards_and_no_executor(options: pipeline.Options) -> None:
    with pytest.raises(OptionError, match=r"--(shard|dask) does not go with a server"):
        pipeline.convert([STORES[0]], "http://127.0.0.1:9", options)


def test_more_shards_than_there_are_trees_are_the_whole_too(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    storekit.write_experiment(root, "1", "one")
    for number in range(3):
        storekit.write_run(root, "1", f"{number:032x}")
    whole, shared, told = both([root], tmp_path, parts=9)
    assert shared == whole and any(not each.ledger.found[Kind.PARAM] for each in told)


@pytest.mark.long
def test_shards_that_run_at_once_write_one_sqlite_database(tmp_path: Path) -> None:
    target, whole = tmp_path / "shared.db", tmp_path / "whole.db"
    convert(STORES, whole)
    convert(STORES, target, shard=(1, 4))
    jobs = [
        subprocess.Popen(
            [
                sys.executable, "-m", "migrator.cli", "convert", *STORES, "--no-backup", "-q",
                "--to", f"sqlite:///{target}", "--schema", "3.9", "--shard", f"{number}/4",
            ],
            stderr=subprocess.PIPE,
        )
        for number in (1, 2, 3, 4, 2)
    ]  # fmt: skip
    assert [job.communicate()[1] for job in jobs] == [b""] * 5
    assert rows(target) == rows(whole)


@pytest.mark.long
def test_shards_that_run_at_once_write_one_postgresql_database(
    postgresql: SqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the reports go
    whole, shared = postgresql.fresh(), postgresql.fresh()
    pipeline.convert(STORES, postgresql.uri(whole), pipeline.Options(workers=1))
    jobs = [
        subprocess.Popen(
            [
                sys.executable, "-m", "migrator.cli", "convert", *STORES, "-q",
                "--to", postgresql.uri(shared), "--shard", f"{number}/3",
            ],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number in (1, 2, 3, 2)
    ]  # fmt: skip
    assert [job.communicate()[1] for job in jobs] == [b""] * 4
    assert without_states(postgresql.rows(shared)) == without_states(postgresql.rows(whole))
    before = postgresql.rows(shared)
    again = pipeline.convert(STORES, postgresql.uri(shared), pipeline.Options(shard=(1, 3)))
    assert not any(again.ledger.converted.values())
    assert postgresql.rows(shared) == before
