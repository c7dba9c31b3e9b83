"""File names are UTF-8 in every locale, and names are the text that their user wrote.

A locale can't be changed in a process that runs, so that conversions under another one are
processes of their own. What they write is compared with what this one writes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from migrator import extractor, pipeline
from migrator.extractor.filestore import fingerprint, yamlfile
from migrator.extractor.filestore.runs import read_experiment
from migrator.model import Entry
from tests.support.storekit import (
    START_MS,
    write_dataset,
    write_experiment,
    write_logged_model,
    write_registered_model,
    write_run,
    write_trace,
    write_values,
)

ROOT = Path(__file__).parent.parent.parent
RUN, MODEL, TRACE = "a1" * 16, "m-" + "b2" * 16, "tr-" + "c3" * 16
NAME = "Käse ğ 値"
SPAN = {"name": NAME, "span_id": "00000000000000a1", "start_time_unix_nano": START_MS * 10**6}
LOCALES = {"de_DE.ISO-8859-1": "ISO-8859-1", "tr_TR.ISO-8859-9": "ISO-8859-9"}


def locale_environment(name: str, folder: Path) -> dict[str, str]:
    """Return what makes a process run in a locale, which is made for it. Skips without localedef.

    ``C`` is Python's own treatment of it switched off, as in old releases and by some services.
    """
    base = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    base |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    if name == "C":
        return {**base, "LC_ALL": "C"}
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed")
    command = ["localedef", "-i", name.split(".")[0], "-f", LOCALES[name], str(folder / name)]
    made = subprocess.run(command, capture_output=True, check=False)
    if not (folder / name).is_dir():
        pytest.skip(f"the locale {name} can't be made: {made.stderr!r}")
    return {**base, "LC_ALL": name, "LOCPATH": str(folder)}


def write_store(root: Path) -> None:
    """Write a store in which every name of a file that becomes text is not ASCII."""
    write_experiment(root, "1", NAME, tags={f"{NAME} tag": NAME})
    write_run(
        root, "1", RUN, name=NAME,
        params={f"{NAME} param": "p", f"ö/{NAME}": "nested"},
        metrics={f"{NAME} metric": [(START_MS, 0.5, 1)]},
        tags={f"{NAME} tag": NAME},
        artifacts={f"{NAME}/ü.txt": NAME},
    )  # fmt: skip
    write_run(root, "1", "d4" * 16, parent=RUN, params={"prompt": NAME}, artifacts={"ä.txt": "x"})
    write_values(root / "1" / RUN / "params", {os.fsdecode(b"not UTF-8 \xfc"): "v"})
    write_dataset(root, "1", NAME, "d1", runs=[RUN], tags={"split": NAME})
    write_logged_model(
        root, "1", MODEL, name=NAME, source_run_id=RUN,
        params={f"{NAME} param": "p"}, tags={f"{NAME} tag": "t"},
        metrics={f"{NAME} metric": [(START_MS, 0.5, 1, RUN)]},
    )  # fmt: skip
    write_registered_model(
        root, NAME, versions=[{"tags": {f"{NAME} tag": "t"}}],
        tags={f"{NAME} tag": "t"}, aliases={"größte": 1},
    )  # fmt: skip
    write_trace(
        root, "1", TRACE, tags={f"{NAME} tag": "t"}, metadata={f"{NAME} key": "m"},
        spans=[SPAN],
    )  # fmt: skip
    write_values(root / "1" / f"{NAME} folder", {"ü.md": "not of MLflow's layout"})


def settle(root: Path) -> None:
    """Wait until the times of its files tell whether a store changes, so that it is remembered."""
    while not ((found := extractor.take_fingerprint([str(root)])) and found.is_settled):
        time.sleep(0.02)


def rows_of(path: Path) -> dict[str, list[Any]]:
    """Return what a database holds: all rows of each table, in an order of their own."""
    with sqlite3.connect(path) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {name: sorted(map(repr, db.execute(f'SELECT * FROM "{name}"'))) for name in tables}


FINGERPRINT = """
import sys
from migrator import extractor
print(extractor.take_fingerprint(sys.argv[1:]).digest)
"""


@pytest.mark.parametrize("locale", ["C", *LOCALES])
def test_unchanged_files_are_known_in_every_locale(tmp_path: Path, locale: str) -> None:
    root = tmp_path / "Ordner für Läufe" / "mlruns"
    write_store(root)
    here = extractor.take_fingerprint([str(root)])
    environment = {**locale_environment(locale, tmp_path), "PYTHONPATH": str(ROOT)}
    there = subprocess.run(
        [sys.executable, "-c", FINGERPRINT, str(root)],
        capture_output=True, env=environment, text=True, check=True,
    )  # fmt: skip
    assert here is not None and there.stdout.strip() == here.digest


@pytest.mark.parametrize("locale", ["C", *LOCALES])
def test_a_store_is_read_alike_in_every_locale(
    tmp_path: Path, locale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "CLOCK_NS", 2 * 10**9)  # as the processes below have it
    root = tmp_path / "Ordner für Läufe" / "mlruns"
    write_store(root)
    settle(root)
    here, there = tmp_path / "here.db", root.parent / "Zürich.db"
    pipeline.convert([str(root)], str(here), pipeline.Options(), report=str(tmp_path / "here.json"))
    environment = {**locale_environment(locale, tmp_path), "PYTHONPATH": str(ROOT)}
    for command in (
        ["convert", str(root), "--to", str(there), "--report", str(tmp_path / "there.json")],
        ["verify", str(root), "--against", str(there)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "migrator.cli", *command],
            capture_output=True, env=environment, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert b"No difference" in done.stdout
    assert rows_of(there) == rows_of(here)
    reports = [
        json.loads((tmp_path / name).read_text("utf-8")) for name in ("here.json", "there.json")
    ]
    assert [r["issues"] for r in reports[:1]] == [r["issues"] for r in reports[1:]]
    assert reports[0]["sources"] == reports[1]["sources"] == [str(root)]
    client = MlflowClient(f"sqlite:///{there}")
    run = client.get_run(RUN)
    assert run.data.params == {
        f"{NAME} param": "p", f"ö/{NAME}": "nested", "not UTF-8 \\xfc": "v"
    }  # fmt: skip
    assert f"{NAME} tag" in run.data.tags and f"{NAME} metric" in run.data.metrics
    assert client.get_registered_model(NAME).aliases == {"größte": 1}
    assert f"{NAME} key" in client.get_trace(TRACE, display=False).info.trace_metadata


# ------------------------------------------------------------------------ names are text

LOOKALIKES = (
    *("0123", "1.10", "NO", "no", "Yes", "on", "Off", "true", "TRUE", "False", "1e5", "1.5e+3"),
    *("2024-01-01", "2024-01-01 10:00:00", "2024-13-45", "0x1F", "0o17", "0b101", "1_000"),
    *("12:30:45", ".inf", "-.inf", ".nan", "null", "Null", "~", "=", "<<", "+7", "-0", "1.", "y"),
    "9" * 5000,
)


@pytest.mark.parametrize("name", LOOKALIKES)
def test_an_unquoted_name_is_the_text_that_is_written(tmp_path: Path, name: str) -> None:
    path = write_experiment(tmp_path, "1", "x")
    meta = (path / "meta.yaml").read_text().replace("name: x", f"name: {name}")
    (path / "meta.yaml").write_text(meta)
    result = read_experiment(Entry("1", str(tmp_path), "1"))
    assert result.record is not None and result.record.name == name
    assert not result.issues


def test_every_text_of_a_store_is_as_written(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "@@ 0123")
    write_run(root, "1", RUN, name="@@ NO", user="@@ 1_000")
    (root / "1" / RUN / "tags" / "mlflow.runName").unlink()
    write_dataset(root, "1", "@@ 1.10", "@@ 0777", runs=[RUN], tags={"@@ on": "@@ 1e5"})
    write_logged_model(root, "1", MODEL, name="@@ 12:30", model_type="@@ 2024-01-01")
    version = {"description": "@@ 0x1F", "user_id": "@@ off", "source": "@@ 1.0"}
    write_registered_model(root, "12345", versions=[version], description="@@ yes")
    write_trace(
        root, "1", TRACE, client_request_id="@@ 007", spans=[SPAN],
        assessments={"a-1": {
            "assessment_name": "@@ 1.50", "feedback": {"value": True}, "rationale": "@@ no",
            "create_time": "2023-11-14T22:13:20Z", "metadata": {"@@ 01": "@@ true"},
            "source": {"source_type": "HUMAN", "source_id": "@@ 0042"},
        }},
    )  # fmt: skip
    for file in root.rglob("*.yaml"):  # PyYAML quotes what begins with @
        file.write_text(re.sub(r"'@@ ([^']*)'", r"\1", file.read_text()))
    db = tmp_path / "out.db"
    pipeline.convert([str(root)], str(db), pipeline.Options())
    client = MlflowClient(f"sqlite:///{db}")
    assert client.get_experiment("1").name == "0123"
    run = client.get_run(RUN)
    assert (run.info.run_name, run.info.user_id) == ("NO", "1_000")
    used = run.inputs.dataset_inputs[0]
    assert (used.dataset.name, used.dataset.digest) == ("1.10", "0777")
    assert [(tag.key, tag.value) for tag in used.tags] == [("on", "1e5")]
    model = client.get_logged_model(MODEL)
    assert (model.name, model.model_type) == ("12:30", "2024-01-01")
    found = client.get_model_version("12345", "1")
    assert (found.description, found.user_id, found.source) == ("0x1F", "off", "1.0")
    assert client.get_registered_model("12345").description == "yes"
    info = client.get_trace(TRACE, display=False).info
    assert info.client_request_id == "007"
    assessment = info.assessments[0]
    assert (assessment.name, assessment.rationale, assessment.value) == ("1.50", "no", True)
    assert assessment.source.source_id == "0042" and assessment.metadata["01"] == "true"


def test_text_of_a_damaged_file_is_as_written() -> None:
    loaded = yamlfile.load(b"a: b: c\nname: NO\nrun_name: Yes\nuser_id: 'off'\nstatus: 3\n")
    assert loaded.written == {"name": "NO", "run_name": "Yes"}
    assert loaded.values == {"name": False, "run_name": True, "user_id": "off", "status": 3}
