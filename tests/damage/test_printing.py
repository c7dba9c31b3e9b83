"""What a store calls things is a stranger's: printed, it controls no terminal or spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.report.printable import csv_cell
from tests.support.storekit import write_experiment, write_registered_model, write_run, write_trace

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ecod.exe\r"
SECRET = "sk-live-0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store in which everything that has a name has control characters in it."""
    root = tmp_path / "mlruns"
    write_experiment(root, "1", f"=cmd|' /C calc'!A0 {ESCAPES}", tags={f"t{ESCAPES}": "v"})
    write_run(
        root,
        "1",
        "1" * 32,
        name=f"flow\nrejected forged-line {ESCAPES}",
        params={f"p{ESCAPES}": b"\xff", "p\nforged: line": b"\xff"},
        metrics={f"m{ESCAPES}": b"oops\n"},
        artifacts={"inputs.json": '{"topic": "bees"}', "prompt.txt": ESCAPES},
    )
    write_run(root, "1", "2" * 32, name=f"call {ESCAPES}", parent="1" * 32,
              params={"model": f"gpt{ESCAPES}"}, artifacts={"response.txt": "Bees."})  # fmt: skip
    write_run(root, "1", "3" * 32, name="orphan", parent=f"gone {ESCAPES}")
    (root / f"stray {ESCAPES}").mkdir()
    write_trace(root, "1", f"tr-{ESCAPES}", traces_json=b"x")
    write_registered_model(root, f"model {ESCAPES}", aliases={f"a{ESCAPES}": "x"})
    return root


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_no_command_prints_control_characters(store: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    for args in (
        ("scan", store, "-v", "--values"),
        ("scan", store, "--json", "--values"),
        ("scan", store, "--csv"),
        ("scan", store, "--tree", "1"),
        ("show", "1" * 32, store, "-v"),
        ("convert", store, "--to", target, "--schema", "3.9", "-v", "--values"),
        ("convert", store, "--to", target, "--schema", "3.9", "--experiment", f"no {ESCAPES}"),
        ("scan", f"{store}/{ESCAPES}"),
    ):
        output = run(*args).output
        assert len(output) > 50
        assert CONTROL.findall(output) == [], args
    assert "\\x1b]0;owned" in run("scan", store, "-v").output
    found = json.loads(run("scan", store, "--json").stdout)
    assert any(ESCAPES in experiment["name"] for experiment in found["experiments"])


def test_no_report_for_people_holds_control_characters(store: Path, tmp_path: Path) -> None:
    for number, ending in enumerate(("txt", "json", "html")):
        target, report = f"sqlite:///{tmp_path}/{number}.db", tmp_path / f"r.{ending}"
        run("convert", store, "--to", target, "--schema", "3.9", "--report", report, "--values")
        text = report.read_text(encoding="utf-8")
        assert CONTROL.findall(text) == []
        assert "owned" in text


def test_a_name_with_a_line_break_forges_no_line(store: Path) -> None:
    for args in (("scan", store, "-v"), ("scan", store, "--tree", "1"), ("show", "1" * 32, store)):
        lines = run(*args).output.splitlines()
        assert not [line for line in lines if line.startswith(("rejected forged", "forged: line"))]


def test_a_spreadsheet_takes_no_name_for_a_formula(store: Path) -> None:
    rows = list(csv.reader(io.StringIO(run("scan", store, "--csv").stdout)))
    assert len(rows) == 2
    assert any(cell.startswith("'=cmd") for cell in rows[1])
    assert not [cell for cell in rows[1] if cell.startswith(("=", "+", "-", "@"))]


def test_numbers_in_the_csv_stay_numbers(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "\n＝HYPERLINK(1)")
    write_run(root, "1", "1" * 32, start_ms=1_714_000_000_000)
    (row,) = csv.DictReader(io.StringIO(run("scan", root, "--csv").stdout))
    assert row["name"] == "'\n'＝HYPERLINK(1)"
    assert (row["runs"], row["experiment_id"], row["traces"]) == ("1", "1", "0")


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "\u2212"])
@pytest.mark.parametrize(
    "before",
    ["", " ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u2060 \n", ";", "; ",
     "；", "|", ",", "\n;\t"],
)  # fmt: skip
def test_whatever_may_be_read_as_a_formula_is_marked(before: str, mark: str) -> None:
    cell = csv_cell(f"{before}{mark}cmd|' /C calc'!A0")
    assert cell.startswith(f"'{before[:1]}")
    for separator in (";", "\t", "\n", "|"):  # as other spreadsheets would cut the cell
        parts = [part.strip("\ufeff\u200b\u2060") for part in cell.split(separator)]
        assert not [part for part in parts if part.strip()[:1] == mark]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("agents;=1+1", "agents;'=1+1"),
        ("agents\n@SUM(A1)", "agents\n'@SUM(A1)"),
        ("\nagents", "'\nagents"),
        ("-5", "-5"),
        ("+1.5e-3", "+1.5e-3"),
        ("-5+1", "'-5+1"),
        ("0", "0"),
        ("", ""),
        ("a-b = c; d", "a-b = c; d"),
        ("агенты", "агенты"),
    ],
)
def test_numbers_and_plain_names_stay_as_they_are(name: str, cell: str) -> None:
    assert csv_cell(name) == cell


def test_messages_hold_no_words_of_the_source(tmp_path: Path) -> None:
    """Session ids, parents, states and what YAML stumbles over may be secrets."""
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "one")
    write_run(
        root,
        "1",
        "1" * 32,
        params={"session_id": f"{SECRET}'" * 20, "user_id": f"{SECRET}'x", "prompt": "hi"},
        artifacts={"response.txt": "ho"},
        status=f"{SECRET}",
        lifecycle_stage=SECRET,
        user_id=[SECRET],
    )
    write_run(root, "1", "2" * 32, parent=f"no run: {SECRET}", start_time=SECRET)
    write_run(root, "1", "3" * 32)
    with (root / "1" / ("3" * 32) / "meta.yaml").open("a") as file:
        file.write(f"a: !!int '{SECRET}'\nb: !{SECRET} x\n")
    write_run(root, "1", "4" * 32)
    with (root / "1" / ("4" * 32) / "meta.yaml").open("a") as file:
        file.write(f'a: "{SECRET}" {SECRET}: {SECRET}\n')
    write_trace(root, "1", "tr-" + "5" * 32, state=SECRET, client_request_id=SECRET * 9,
                execution_duration_ms=SECRET)  # fmt: skip
    write_registered_model(root, "m", versions=[{"status": SECRET, "version": SECRET}])
    report = tmp_path / "r.txt"
    target = f"sqlite:///{tmp_path}/m.db"
    done = run("convert", root, "--to", target, "--schema", "3.9", "--report", report, "-v")
    for text in (
        done.output,
        report.read_text(),
        *(path.read_text() for path in tmp_path.glob("*.jsonl")),
        run("scan", root, "-v").output,
        run("scan", root, "--json").output,
        run("convert", root, "--to", target, "--schema", "3.9", "--json").output,
    ):
        assert "status-unknown" in text and "meta-damaged" in text and "session-id-changed" in text
        assert SECRET not in text
    assert SECRET in run("scan", root, "-v", "--values").output
