"""A store is a stranger's: nothing in it makes us run, open or write what lies outside of it."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from tests.support.storekit import (
    START_MS,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
)

SECRET = "SECRET-OUTSIDE"
RUN, CHILD, TRACE, MODEL = "1" * 32, "2" * 32, "tr-" + "3" * 32, "m-" + "4" * 32
SPANS = (
    '{"spans": [{"span_id": "1111111111111111", "name": "SECRET-OUTSIDE", '
    f'"start_time_unix_nano": {START_MS}000000, "end_time_unix_nano": {START_MS}000005}}]}}'
)


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.proof),))


def convert(root: Path, *options: str) -> Result:
    target = f"sqlite:///{root.parent}/m.db"
    result = CliRunner().invoke(
        main,
        ["convert", str(root), "--to", target, "--schema", "3.9", "-v", "--values", *options],
    )
    assert result.exit_code in (0, 3), result.output
    return result


def replace(path: Path, target: Path) -> None:
    """Put a link in the place of a directory."""
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(target)


def dump(root: Path) -> str:
    with closing(sqlite3.connect(root.parent / "m.db")) as database:
        return "\n".join(database.iterdump())


def test_no_artifact_is_unpickled_or_unpacked(tmp_path: Path) -> None:
    root, proof = tmp_path / "mlruns", tmp_path / "unpickled"
    pickled = pickle.dumps(Bomb(proof), protocol=0)  # text, as it were
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("prompt.txt", "0" * 50_000_000)
    names = ("model.pkl", "prompt.txt", "response.txt", "inputs.json", "outputs.json",
             "eval_results_table.json", "metrics.csv", "data.parquet")  # fmt: skip
    write_experiment(root, "1", "one")
    for run_id, content in ((RUN, pickled), (CHILD, packed.getvalue())):
        write_run(
            root, "1", run_id, name="flow", parent=RUN if run_id == CHILD else None,
            params={"model": "gpt-4o"}, artifacts=dict.fromkeys(names, content),
        )  # fmt: skip
    write_trace(root, "1", TRACE, traces_json=pickled)
    write_logged_model(root, "1", MODEL, artifacts={"MLmodel": pickled, "model.pkl": pickled})
    convert(root)
    assert not proof.exists()
    assert (root.parent / "m.db").stat().st_size < 20_000_000
    with pytest.raises(FileExistsError):  # the bomb would have worked
        pickle.loads(pickled)
        pickle.loads(pickled)


def test_no_location_or_link_makes_us_read_outside_of_the_store(tmp_path: Path) -> None:
    root, outside = tmp_path / "mlruns", tmp_path / "outside"
    (outside / "artifacts").mkdir(parents=True)
    for folder in (outside, outside / "artifacts"):
        (folder / "prompt.txt").write_text(SECRET)
        (folder / "traces.json").write_text(SPANS)
        (folder / "meta.yaml").write_text(f"name: {SECRET}\n")
    write_experiment(root, "1", "one", artifact_location=outside.as_uri())
    own = root / "1" / RUN / "artifacts"
    write_run(root, "1", RUN, params={"model": "gpt-4o"}, artifact_uri=own.as_uri())
    replace(own, outside)  # the recorded location leads through it
    for number, uri in enumerate((
        outside.as_uri(),
        f"{root}/1/{RUN}/../../../outside/artifacts",
        f"file://{root}/../outside/x/../artifacts",
        f"file://localhost{outside}",
        f"../../outside/{'a' * 31}0/../artifacts",
        f"{outside}/%2e%2e/outside",
    )):  # fmt: skip
        write_run(root, "1", "a" * 31 + str(number), artifact_uri=uri, params={"model": "gpt-4o"})
    trace = write_trace(root, "1", TRACE)
    replace(trace / "artifacts", outside)
    (trace / "tags" / "mlflow.artifactLocation").write_text((trace / "artifacts").as_uri())
    other = write_trace(root, "1", "tr-" + "5" * 32)
    (other / "artifacts" / "traces.json").unlink()
    (other / "tags" / "mlflow.artifactLocation").write_text(outside.as_uri())
    model = write_logged_model(root, "1", MODEL, artifact_location=outside.as_uri())
    for name in ("artifacts", "params", "metrics", "tags"):
        replace(model / name, outside)
    sources = [f"file://{outside}/{RUN}/artifacts/../..", f"{root}/1/{RUN}/artifacts/../x"]
    write_registered_model(root, "m", versions=[{"source": uri} for uri in sources])
    (root / "1" / "datasets").symlink_to(outside)
    (root / "2").symlink_to(outside)
    copies = tmp_path / "copies"
    convert(root, "--artifacts", f"copy:{copies}", "--include", "flat")
    assert SECRET not in dump(root)
    assert not [p for p in copies.rglob("*") if p.is_file() and SECRET in p.read_text()]
    listed = {path.name for path in tmp_path.iterdir()}
    assert listed <= {"mlruns", "outside", "m.db", "copies", "m.db.report.json",
                      "m.db.report.rejects.jsonl"}  # fmt: skip


def test_names_that_are_paths_or_sql_stay_names(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    evil = "'; DROP TABLE runs; --"
    write_experiment(root, "1", f"../../{evil}", tags={evil: evil})
    write_run(root, "1", RUN, name=f"../../../etc/{evil}", params={evil: evil, "model": "m"},
              tags={evil: evil, "mlflow.source.name": "file:///etc/passwd"},
              metrics={evil: [(START_MS, 1, 0)]}, artifacts={"prompt.txt": evil})  # fmt: skip
    write_registered_model(root, evil.replace("/", ""), aliases={evil: 1}, tags={evil: evil})
    write_logged_model(root, "1", MODEL, name=evil, params={evil: evil})
    write_trace(root, "1", TRACE, tags={evil: evil}, metadata={evil: evil}, request_id="../../x")
    for _ in range(2):
        assert convert(root, "--include", "flat").exit_code == 0
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        assert database.execute("SELECT name FROM runs").fetchall() == [(f"../../../etc/{evil}",)]
        assert database.execute("SELECT value FROM params WHERE key = ?", (evil,)).fetchone()
