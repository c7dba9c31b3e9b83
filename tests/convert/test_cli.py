"""The commands as a user types them: exit codes, messages, and that nothing is half-written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from migrator import __version__
from migrator.cli import main
from tests.support import fixturekit
from tests.support.storekit import write_experiment, write_run

RUN = "0123456789abcdef0123456789abcdef"
CHILD = "1123456789abcdef0123456789abcdef"
START = 1_714_000_000_000


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One workflow of two runs with a prompt and a response, and one training run."""
    root = tmp_path / "mlruns"
    write_experiment(root, "0", "Default")
    write_experiment(root, "7", "agents", tags={"team": "blue"})
    write_run(
        root,
        "7",
        RUN,
        name="flow",
        start_ms=START,
        end_ms=START + 5000,
        artifacts={"inputs.json": '{"topic": "bees"}', "outputs.json": '{"text": "Bees."}'},
    )
    write_run(
        root,
        "7",
        CHILD,
        name="write",
        parent=RUN,
        start_ms=START + 100,
        end_ms=START + 4000,
        params={"model": "gpt-4o"},
        metrics={
            "input_tokens": [(START + 4000, 12, 0)],
            "output_tokens": [(START + 4000, 30, 0)],
        },
        artifacts={"prompt.txt": "Write about bees, please.", "response.txt": "Bees."},
    )
    write_run(
        root,
        "0",
        "2" * 32,
        name="train",
        params={"lr": "0.1"},
        metrics={"loss": [(START, 0.5, 0), (START + 1, 0.4, 1)]},
    )
    return root


def tree_hash(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        digest.update(f"{path.relative_to(root)} {stat.st_mode} {stat.st_mtime_ns}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def test_scan_says_what_is_there_and_what_to_type_next(store: Path) -> None:
    result = run("scan", str(store))
    assert result.exit_code == 0, result.output
    assert "agents" in result.output
    assert "1 trace with 2 spans" in result.output
    assert f"mlflow-migrate convert {store}" in result.output


def test_scan_as_json_counts_what_the_store_holds(store: Path) -> None:
    document = json.loads(run("scan", str(store), "--json").stdout)
    ledger = {row["kind"]: row for row in document["ledger"]}
    assert ledger["run"]["found"] == 3
    assert ledger["param"]["found"] == 2
    assert ledger["metric point"]["found"] == 4
    assert (document["rebuilt"]["trace"], document["rebuilt"]["span"]) == (1, 2)
    assert document["files"]["found"] == sum(1 for p in store.rglob("*") if p.is_file())


def test_scan_as_csv_has_a_line_for_each_experiment(store: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("scan", str(store), "--csv").stdout)))
    assert [(row["name"], row["runs"], row["spans"]) for row in rows] == [
        ("Default", "1", "0"),
        ("agents", "2", "2"),
    ]


def test_scan_draws_the_trees_of_an_experiment(store: Path) -> None:
    result = run("scan", str(store), "--tree", "agents")
    assert result.exit_code == 0, result.output
    assert "flow" in result.output
    assert "└─ write" in result.output
    assert "train" not in result.output


def test_scan_says_the_same_as_a_dry_run_and_as_convert(store: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    scanned = json.loads(run("scan", str(store), "--json").stdout)
    dry = json.loads(run("convert", str(store), "--to", target, "--dry-run", "--json").stdout)
    assert not (tmp_path / "m.db").exists()
    converted = json.loads(run("convert", str(store), "--to", target, "--json").stdout)
    for key in ("ledger", "rebuilt", "experiments", "left_as_runs", "files"):
        assert scanned[key] == dry[key] == converted[key], key


def test_convert_leaves_the_source_as_it_was(store: Path, tmp_path: Path) -> None:
    before = tree_hash(store)
    result = run("convert", str(store), "--to", f"sqlite:///{tmp_path}/m.db")
    assert result.exit_code == 0, result.output
    assert tree_hash(store) == before


def test_convert_prints_the_table_the_report_and_the_server_line(
    store: Path, tmp_path: Path
) -> None:
    result = run("convert", str(store), "--to", f"sqlite:///{tmp_path}/m.db")
    assert result.exit_code == 0, result.output
    for word in ("found", "converted", "already there", "rejected", "startTimeLabel=CUSTOM"):
        assert word in result.output
    assert f"mlflow server --backend-store-uri sqlite:///{tmp_path}/m.db" in result.output
    report = json.loads((tmp_path / "m.db.report.json").read_text())
    assert str(tmp_path / "m.db.report.json") in result.output
    assert report["exit_code"] == 0


def test_converting_twice_changes_no_byte(store: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    assert run("convert", str(store), "--to", target).exit_code == 0
    before = (tmp_path / "m.db").read_bytes()
    again = json.loads(run("convert", str(store), "--to", target, "--json").stdout)
    assert (tmp_path / "m.db").read_bytes() == before
    ledger = {row["kind"]: row for row in again["ledger"]}
    assert (ledger["run"]["converted"], ledger["run"]["already_there"]) == (0, 3)
    assert again["rebuilt_new"] == {}


def test_one_experiment_alone_and_then_the_rest(store: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    first = run("convert", str(store), "--to", target, "--experiment", "agents", "--json")
    assert first.exit_code == 0, first.output
    assert {r["kind"]: r["converted"] for r in json.loads(first.stdout)["ledger"]}["run"] == 2
    rest = json.loads(run("convert", str(store), "--to", target, "--json").stdout)
    ledger = {row["kind"]: row for row in rest["ledger"]}
    assert (ledger["run"]["converted"], ledger["run"]["already_there"]) == (1, 2)


def test_no_runs_and_no_traces_leave_them_out(store: Path, tmp_path: Path) -> None:
    for flag, runs, traces in (("--no-runs", 0, 1), ("--no-traces", 3, 0)):
        name = f"{flag}.db"
        result = run("convert", str(store), "--to", f"sqlite:///{tmp_path}/{name}", flag, "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        ledger = {row["kind"]: row for row in document["ledger"]}
        assert ledger["run"]["converted"] == runs
        assert ledger["run"]["converted"] + ledger["run"]["left_out"] == 3
        assert document["rebuilt"].get("trace", 0) == traces


def test_show_draws_the_run_and_its_trace(store: Path) -> None:
    result = run("show", CHILD[:6], str(store))
    assert result.exit_code == 0, result.output
    assert f"tr-{RUN}" in result.output
    assert "12 → 30 tokens" in result.output
    assert "inputs from artifact prompt.txt" in result.output


def test_two_stores_become_one_database(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "outputs" / "mlruns"
    write_experiment(other, "0", "Default")
    write_experiment(other, "99", "agents")
    write_run(other, "99", "3" * 32, name="later")
    target = f"sqlite:///{tmp_path}/m.db"
    result = run("convert", str(store), str(other), "--to", target, "--json")
    assert result.exit_code == 0, result.output
    ledger = {row["kind"]: row for row in json.loads(result.stdout)["ledger"]}
    assert (ledger["experiment"]["found"], ledger["experiment"]["converted"]) == (4, 2)
    assert ledger["run"]["converted"] == 4


# ------------------------------------------------------------------------- bad input


def no_leftovers(directory: Path, *allowed: str) -> bool:
    return {path.name for path in directory.iterdir()} <= set(allowed)


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    result = run("convert", str(tmp_path / "nowhere"), "--to", f"sqlite:///{tmp_path}/m.db")
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert "Traceback" not in result.output
    assert no_leftovers(tmp_path)


def test_a_source_that_is_no_store(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8")
    result = run("convert", str(folder), "--to", f"sqlite:///{tmp_path}/m.db")
    assert result.exit_code == 1
    assert "photos" in result.output
    assert no_leftovers(tmp_path, "photos")


def test_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    result = run("convert", str(tmp_path / "mlruns"), "--to", f"sqlite:///{tmp_path}/m.db")
    assert result.exit_code == 1
    assert no_leftovers(tmp_path, "mlruns")


def test_a_source_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("not a directory")
    result = run("scan", str(tmp_path / "mlruns"))
    assert result.exit_code == 1
    assert "mlruns" in result.output


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_source_without_read_permission() -> None:
    """In a process of its own that becomes nobody where it is root, who may read everything."""
    code = (
        "import os, migrator.pipeline, migrator.report.text\nfrom migrator.cli import main\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\nmain()"
    )
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        store = Path(name) / "mlruns"
        write_experiment(store, "0", "Default")
        store.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", code, "scan", str(store)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        store.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "permission" in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:///{tmp}/missing/m.db", "missing"),
        ("postgresql://localhost/mlflow", "postgresql"),
        ("sqlite:///{tmp}/text.db", "not a SQLite database"),
        ("sqlite:///{tmp}/folder.db", "directory"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_target_that_can_not_be_written(
    store: Path, tmp_path: Path, uri: str, words: str
) -> None:
    (tmp_path / "text.db").write_text("hello " * 500)
    (tmp_path / "folder.db").mkdir()
    result = run("convert", str(store), "--to", uri.format(tmp=tmp_path))
    assert result.exit_code == 1, result.output
    assert words in result.output
    assert "Traceback" not in result.output
    assert no_leftovers(tmp_path, "mlruns", "text.db", "folder.db")


def test_an_unknown_experiment_is_a_usage_error(store: Path, tmp_path: Path) -> None:
    result = run(
        "convert", str(store), "--to", f"sqlite:///{tmp_path}/m.db", "--experiment", "nobody"
    )
    assert result.exit_code == 2
    assert "nobody" in result.output
    assert no_leftovers(tmp_path, "mlruns")


def test_damage_costs_only_itself_and_is_named(store: Path, tmp_path: Path) -> None:
    metric = store / "7" / CHILD / "metrics" / "input_tokens"
    metric.write_text("not a line\n1714000004000 12 0\n")
    (store / "0" / ("4" * 32)).mkdir()
    (store / "0" / ("4" * 32) / "meta.yaml").write_bytes(b"")
    result = run("convert", str(store), "--to", f"sqlite:///{tmp_path}/m.db", "--json")
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    ledger = {row["kind"]: row for row in document["ledger"]}
    assert (ledger["run"]["found"], ledger["run"]["converted"]) == (4, 3)
    assert ledger["run"]["rejected"] == 1
    assert (ledger["metric point"]["found"], ledger["metric point"]["rejected"]) == (5, 1)
    rejected = {i["path"] for i in document["issues"] if i["severity"] == "rejected"}
    assert str(metric) in rejected


# ------------------------------------------------------------------------- start-up


def test_help_and_scan_never_import_mlflow(store: Path) -> None:
    code = (
        "import sys\nfrom migrator.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('mlflow', 'pandas', 'sqlalchemy') if m in sys.modules])"
    )
    for args in (["--help"], ["scan", str(store)], ["show", RUN, str(store)]):
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]", (args, done.stdout)


def test_the_version_is_printed() -> None:
    assert __version__ in run("--version").output


def commands_of(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in sorted(group.commands.items()):
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, (*path, name))


COMMANDS = list(commands_of(main))


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_help_fits_80_columns_and_lists_commands_in_whole_sentences(path: tuple[str, ...]) -> None:
    told = CliRunner().invoke(main, [*path, "--help"], terminal_width=80).output
    assert max(map(len, told.splitlines())) <= 80
    for line in told.partition("\nCommands:\n")[2].splitlines():
        assert line.startswith("  ") and line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
def test_usage_errors_name_the_command(path: tuple[str, ...]) -> None:
    told = CliRunner().invoke(main, [*path, "--bogus"], prog_name="mlflow-migrate")
    assert told.exit_code == 2
    assert told.output.startswith(f"Usage: {' '.join(('mlflow-migrate', *path))} ")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("scan", "--since", "yesterday"), "yesterday"),
        (("convert", "--report", "report.doc"), "report.doc"),
        (("profiles", "show", "none-such"), "none-such"),
        (("export", "--otlp", "http://127.0.0.1:9", "--header", "x"), "NAME=VALUE"),
    ],
)
def test_errors_that_a_command_itself_finds_name_it_too(
    command: tuple[str, ...], problem: str, store: Path
) -> None:
    sources = () if command[0] == "profiles" else (str(store),)
    told = CliRunner().invoke(main, [*command, *sources], prog_name="mlflow-migrate")
    assert told.exit_code == 2
    words = command[:2] if command[0] == "profiles" else command[:1]
    assert told.output.startswith(f"Usage: mlflow-migrate {' '.join(words)} ")
    assert problem in told.output


def as_module(*args: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "migrator", *args],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    ).stdout


def test_python_dash_m_migrator_is_the_command() -> None:
    assert as_module("--version") == f"mlflow-migrate, version {__version__}\n"
    assert as_module("scan", "--help").startswith("Usage: mlflow-migrate scan ")


def test_shells_complete_commands_and_choices() -> None:
    def completed(words: str, number: int) -> str:
        return as_module(
            _MLFLOW_MIGRATE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(number)
        )

    assert completed("mlflow-migrate co", 1).split() == ["plain,code", "plain,convert"]
    assert "plain,rename" in completed("mlflow-migrate convert --on-conflict re", 3)
    for shell in ("bash", "zsh", "fish"):
        script = as_module(_MLFLOW_MIGRATE_COMPLETE=f"{shell}_source")
        assert f"_MLFLOW_MIGRATE_COMPLETE={shell}_complete" in script


WITHOUT_MLFLOW = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mlflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
from migrator.cli import main
main(prog_name="mlflow-migrate")
"""


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (("scan",), "82 runs in 12 experiments"),
        (("convert", "--to", "sqlite:///m.db", "--schema", "3.9"), "Converted 82 runs"),
        (("export", "--otlp", "t.jsonl"), "Sent 33 traces"),
        (("show", "92b814"), "workflow_article_writer"),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_what_needs_no_mlflow_runs_without_it(
    command: tuple[str, ...], printed: str, tmp_path: Path
) -> None:
    store = str(fixturekit.store("2.22.5-agents"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW, *command, store],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(fixturekit.FIXTURES.parent)}, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
