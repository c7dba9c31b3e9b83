"""The text of a scan and a conversion: what comes first, and that it fits the terminal."""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import sqlite3
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.cli.output import drawn_progress, say
from migrator.outcome.summary import Outcome, ServerLimit, ServerSummary
from migrator.report.colors import painted_page
from migrator.report.console import Console, SafeStream
from migrator.report.formats import Column, fitted_table, wrapped
from migrator.report.headline import convert_headline, scan_headline
from migrator.report.roles import roles_text
from migrator.report.text import Style, server_text
from tests.support import fixturekit
from tests.support.storekit import write_experiment, write_run

AGENTS = "2.9.2-agents"


def run(*args: object, columns: int | None = None) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns)}
    return CliRunner().invoke(main, [str(arg) for arg in args], env=env)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixturekit.materialise(AGENTS, tmp_path_factory.mktemp("agents"))


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands where no mlflow.db lies: a plan looks at the default target."""
    monkeypatch.chdir(tmp_path)


def damaged_store(root: Path) -> Path:
    """A store with a run that can't be read, and one with a broken metric line."""
    write_experiment(root, "1", "ads")
    broken = write_run(root, "1", "a" * 32)
    (broken / "meta.yaml").write_text("{", encoding="utf-8")
    write_run(root, "1", "b" * 32, metrics={"loss": b"no number here\n1700000000000 0.5 0\n"})
    return root


def test_the_first_line_says_what_was_done_and_the_second_run_that_nothing_is_to_do(
    agents: Path, tmp_path: Path
) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    would = run("convert", agents, "--to", target, "--dry-run").stdout.splitlines()[0]
    assert would.startswith("Would convert 81 runs and rebuild 32 traces in ")
    assert would.endswith("Nothing was written (--dry-run).")
    first = run("convert", agents, "--to", target).stdout.splitlines()
    assert first[0].startswith("Converted 81 runs and rebuilt 32 traces in ")
    assert first[0].endswith(f" s → {target}; nothing was rejected.")
    rows = [line.split() for line in first if line.startswith("rebuilt")]
    assert rows == [["rebuilt", "trace", "32", "0", "0"], ["rebuilt", "span", "72", "0", "0"]]
    release = importlib.metadata.version("mlflow")
    opens = f"MLflow {release} opens it; 3.9 can't (--schema 3.9 writes one that it can)."
    if release.startswith("3.9."):
        opens = "MLflow 3.9 opens it. A newer MLflow upgrades it at once; then 3.9 can't open it."
    assert first[first.index("View the result:") + 2] == opens
    again = run("convert", agents, "--to", target).stdout.splitlines()
    assert again[0] == (
        f"Nothing new; database unchanged: 81 runs and 32 rebuilt traces are in {target} already."
    )
    assert [line.split()[2:] for line in again if line.startswith("rebuilt")] == [
        ["0", "32", "0"],
        ["0", "72", "0"],
    ]


def test_an_empty_source_has_nothing_to_convert() -> None:
    empty = Outcome("1", ("mlruns",), "sqlite:///m.db")
    assert scan_headline(empty) == "mlruns: no experiments (0 files, 0 B); nothing to convert."
    assert convert_headline(empty) == "Nothing to convert: no experiments in mlruns."


def test_damage_comes_before_the_table(tmp_path: Path) -> None:
    root = damaged_store(tmp_path / "mlruns")
    result = run("convert", root, "--to", f"sqlite:///{tmp_path}/m.db")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[0].endswith("; 1 item was rejected, 3 degraded.")
    places = [
        next(number for number, line in enumerate(lines) if line.startswith(begin))
        for begin in ("Converted 2 runs in", "rejected ", "degraded ", "experiment ", "Files:")
    ]
    assert places == sorted(places)
    assert "What to do:" in result.stdout
    assert f"Rejected items, for convert --only: {tmp_path}/m.db.report.rejects.jsonl" in lines
    scanned = run("scan", root).stdout.splitlines()[0]
    assert scanned.endswith("; 1 item would be rejected, 3 degraded.")


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["scan", "convert"])
def test_no_line_is_wider_than_the_terminal_but_commands_and_urls(
    command: str, columns: int, agents: Path, tmp_path: Path
) -> None:
    damaged = damaged_store(tmp_path / "mlruns")
    extra = ["--to", f"sqlite:///{tmp_path}/m.db"] if command == "convert" else []
    text = run(command, agents, damaged, *extra, columns=columns).stdout
    assert "configurable_agents" in text
    for line in text.splitlines():
        is_whole = (
            line.startswith(("    mlflow", "        http", "http")) or " " not in line.strip()
        )
        assert len(line) <= columns or is_whole, line


def test_every_experiment_with_traces_is_linked_or_counted(agents: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    text = run("convert", agents, "--to", target).stdout
    assert text.count("/traces?") == 5
    assert "    … 2 more experiments have traces; -v lists all" in text
    assert "    configurable_agents (13 traces):\n        http://127.0.0.1:5000/#/" in text
    assert run("convert", agents, "--to", target, "-v").stdout.count("/traces?") == 7


def test_what_is_there_already_is_one_list(tmp_path: Path) -> None:
    source, target = fixturekit.materialise("3.5.1-genai", tmp_path), f"sqlite:///{tmp_path}/m.db"
    run("convert", source, "--to", target)
    assert run("convert", source, "--to", target, "--check-all").stdout.splitlines()[0] == (
        "Nothing new; database unchanged: 7 runs, 4 traces, 7 logged models, 3 registered models "
        f"and 1 rebuilt trace are in {target} already."
    )


def test_a_plan_never_writes_to_its_source_or_to_a_database_that_it_can_not_use(
    agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    foreign = sqlite3.connect("mlflow.db")
    foreign.execute("CREATE TABLE t (x)").connection.close()
    scanned = plan_of(run("scan", agents).stdout)[1]
    assert scanned == f"    mlflow-migrate convert {agents} --to sqlite:///migrated.db"
    assert run(*scanned.split()[1:]).exit_code == 0
    again = plan_of(run("scan", "migrated.db").stdout)[1]
    assert again == "    mlflow-migrate convert migrated.db --to sqlite:///migrated-2.db"
    refused = run("convert", "migrated.db", "--to", "sqlite:///migrated.db").stderr
    assert "(--to sqlite:///migrated-2.db)" in refused
    assert run(*again.split()[1:], "--dry-run").exit_code == 0


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_profiles_fit_the_terminal(columns: int) -> None:
    narrow = run("profiles", "list", columns=columns).stdout
    assert max(map(len, narrow.splitlines())) <= columns
    whole = run("profiles", "list").stdout
    assert [word for word in narrow.split() if word.strip("-")] == [
        word for word in whole.split() if word.strip("-")
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_tree_beside_its_trace_fits_the_terminal(agents: Path, columns: int) -> None:
    found = run("scan", agents, "--tree", "rulebook").stdout.split("]  ")[1][:32]
    whole = run("show", found, agents, "-v").stdout
    fitting = run("show", found, agents, "-v", columns=columns).stdout
    assert max(map(len, whole.splitlines())) > 120
    assert max(map(len, fitting.splitlines())) <= columns
    drawn = str.maketrans("", "", "│├└─")
    assert sorted(fitting.translate(drawn).split()) == sorted(whole.translate(drawn).split())


def test_help_can_be_pasted() -> None:
    text = run("scan", "--help", columns=80).stdout
    assert "'mlflow-migrate[s3]'" in text
    assert "as in\n" in text and " mlflow-artifacts:/=/srv/mlartifacts" in text
    assert max(map(len, text.splitlines())) <= 80


def on_terminal(*args: str) -> str:
    """What a command prints on stderr, on a terminal of 80 columns."""
    err = Terminal()
    with redirect_stderr(err), pytest.raises(SystemExit):
        main.main([*args], prog_name="mlflow-migrate")
    return err.getvalue()


@pytest.mark.parametrize(
    ("args", "end"),
    [
        (("convert", "m.db", "--to", "sqlite:///m.db"), "the traces to it: --in-place"),
        (("convert", "--include", "x"), "'flat', 'deleted', 'tables'."),
    ],
)
def test_usage_errors_fit_the_terminal(
    args: tuple[str, ...], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    sqlite3.connect("m.db").execute("CREATE TABLE t (x)").connection.close()
    text = on_terminal(*args)
    assert text.startswith("Usage: mlflow-migrate convert [OPTIONS] [SOURCE]...\n")
    assert " ".join(text.split()).endswith(end)
    assert len(text.splitlines()) > 4 and max(map(len, text.splitlines())) <= 80


def test_a_message_stands_on_a_line_of_its_own_while_progress_is_shown() -> None:
    err = Terminal()
    with (
        click.Context(main, obj=Console(None, None)).scope(),
        redirect_stderr(err),
        drawn_progress(silent=False) as progress,
    ):
        progress("runs", 1, 10)
        say("Listen.")
        shown = err.getvalue()
        progress("runs", 2, 10)
    assert "Reading runs" in shown
    assert shown.rsplit("\r", 1)[1] == "Listen.\n"
    assert "Reading runs" in err.getvalue()[len(shown) :]


def test_a_stream_that_is_closed_can_be_flushed() -> None:
    wrapped_stream = io.StringIO()
    stream = SafeStream(wrapped_stream)
    wrapped_stream.close()
    stream.flush()
    assert stream.error is None


def test_what_a_server_can_not_keep_is_listed_once_on_a_screen() -> None:
    limit = ServerLimit("run-id", "ids of runs", 4, "the server draws them", "new ids")
    server = ServerSummary("3.9.0", (limit,), files_sent=1, bytes_sent=2)
    sent = "1 artifact file was sent to the server, 2 B."
    assert server_text(server).splitlines() == [
        "What the API of the server (MLflow 3.9.0) can't keep:",
        "    ids of runs (4): the server draws them; new ids.",
        sent,
    ]
    assert server_text(server, Style(limits_above=True)).splitlines() == [
        "What the API of the server can't keep is listed above: 1 kind of thing.",
        sent,
    ]


def test_colour_is_for_terminals_and_those_who_ask(agents: Path) -> None:
    assert "\x1b[" not in run("scan", agents).stdout
    colored = run("scan", agents, "--color", "always").stdout
    assert colored.startswith("\x1b[1m")
    assert "\x1b[" not in run("scan", agents, "--color", "never").stdout
    assert "\x1b[" not in run("scan", agents, "--color", "always", "--json").stdout


def test_severities_commands_and_urls_are_coloured_and_nothing_else_changes() -> None:
    text = "Done.\n\nrejected run-bad (1): x\n    mlflow server --port 1\nsee http://a/b c"
    shown = painted_page(text)
    assert shown.startswith("\x1b[1mDone.\x1b[0m\n\n\x1b[31m\x1b[1mrejected run-bad\x1b[0m (1): x")
    assert "\x1b[32m    mlflow server --port 1\x1b[0m\n" in shown
    assert "\x1b[34mhttp://a/b\x1b[0m c" in shown


def test_a_long_line_is_broken_between_words_and_keeps_its_indentation() -> None:
    text = "    one two three\nhttp://a-very-long-address/of-a-page\n    mlflow server --port 5000"
    assert wrapped(text, 12).splitlines() == [
        "    one two",
        "    three",
        "http://a-very-long-address/of-a-page",
        "    mlflow server --port 5000",
    ]
    assert wrapped(text, None) == text


def test_a_table_leaves_out_columns_by_rank_then_shortens_the_first() -> None:
    columns = [
        Column("name", is_left=True),
        Column("id", rank=2),
        Column("runs"),
        Column("n", rank=1),
    ]
    rows = [["a name of some length", "123456", "1", "2"]]
    assert fitted_table(columns, rows, None)[1] == []
    assert fitted_table(columns, rows, 35)[1] == ["id"]
    text, hidden = fitted_table(columns, rows, 20)
    assert hidden == ["id", "n"]
    assert text.splitlines()[2] == "a name of som…     1"


def plan_of(text: str) -> list[str]:
    return text[text.index("\nPlan:\n") + 1 :].splitlines()


def test_the_last_part_of_a_scan_is_a_plan(agents: Path) -> None:
    lines = plan_of(run("scan", agents).stdout)
    assert lines[1] == f"    mlflow-migrate convert {agents}"
    assert lines[2] == (
        "It would write 81 runs, and rebuild 32 traces with 72 spans from the runs. "
        "The source is only read."
    )
    assert re.fullmatch(r"It takes about \d+ s and 2\.3 MiB of disk\.", lines[3])
    assert any("; --include sweeps makes traces of them too" in line for line in lines)


def test_the_plan_counts_what_the_first_line_counts(tmp_path: Path) -> None:
    text = run("scan", fixturekit.materialise("3.5.1-genai", tmp_path)).stdout
    items = "7 runs, 4 traces, 7 logged models and 3 registered models"
    assert f": {items} in 3 experiments (" in text.splitlines()[0]
    assert plan_of(text)[2] == (
        f"It would write {items}, and rebuild 1 trace with 2 spans from the runs. "
        "The source is only read."
    )


def test_files_are_counted_in_the_singular_and_the_plural(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "ads")
    run_dir = write_run(root, "1", "a" * 32)
    for name, counted in (("one.txt", "1 artifact"), ("two.txt", "2 artifacts")):
        (run_dir / "artifacts" / name).write_text("x")
        lines = run("convert", root, "--to", f"sqlite:///{tmp_path}/{name}.db").stdout.splitlines()
        (files,) = [line for line in lines if line.startswith("Files: ")]
        assert f" + {counted} + 0 ignored" in files


def test_the_plan_repeats_the_options_that_the_scan_was_given(agents: Path) -> None:
    given = ["--experiment", "rulebook", "--include", "flat", "--adopt-orphans", "-v"]
    command = plan_of(run("scan", agents, *given).stdout)[1]
    expected = f"    mlflow-migrate convert {agents} --experiment rulebook --include flat"
    assert command == f"{expected} --adopt-orphans"
    result = run("convert", *command.split()[2:], "--dry-run")
    assert result.exit_code == 0, result.output


def test_the_plan_names_what_stays_behind(tmp_path: Path) -> None:
    root = damaged_store(tmp_path / "mlruns")
    (root / "1" / ".DS_Store").write_bytes(b"x")
    lines = plan_of(run("scan", root).stdout)
    (behind,) = [line for line in lines if line.startswith("Stays behind:")]
    assert "what is rejected" in behind
    assert behind.endswith("1 file that is not MLflow's.")


def test_the_estimate_of_the_disk_is_near_the_truth(agents: Path, tmp_path: Path) -> None:
    run("convert", agents, "--to", f"sqlite:///{tmp_path}/m.db", "--schema", "3.9")
    mebibytes = (tmp_path / "m.db").stat().st_size / (1 << 20)
    assert 0.7 < 2.3 / mebibytes < 1.4


def test_roles_are_counted_in_the_singular_and_the_plural(agents: Path) -> None:
    roles = Counter({"call": 5, "batch": 2, "workflow": 1, "training": 3})
    assert roles_text(roles) == "5 calls, 3 single runs, 2 batches, 1 workflow"
    assert " 2 workflows, 1 single run " in run("scan", agents).stdout


def test_traces_that_are_added_to_a_database_come_first(agents: Path, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/m.db"
    run("convert", agents, "--to", target, "--no-traces")
    added = run("convert", tmp_path / "m.db", "--in-place").stdout.splitlines()
    assert added[0].startswith("Rebuilt 32 traces in ")
    (profiles,) = [line for line in added if line.startswith("Trees of runs by the profile")]
    assert profiles.endswith(
        "configurable-agents (13), generic (9), configurable-agents-server (5), typed-nodes (3)."
    )
    plan = plan_of(run("scan", tmp_path / "m.db").stdout)
    assert plan[2] == "It would write 81 runs and 32 traces. The source is only read."
    assert "30 trees kept as runs (they have traces already)." in plan


def test_tables_that_nothing_uses_are_announced_with_their_flag(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "evals")
    rows = [["Who is it?", "Ada"], ["And who is it now?", "Bea"]]
    table = json.dumps({"columns": ["question", "response"], "data": rows})
    tag = json.dumps([{"path": "mine.json", "type": "table"}])
    tags = {"mlflow.loggedArtifacts": tag}
    write_run(root, "1", "a" * 32, tags=tags, artifacts={"mine.json": table})
    write_run(root, "1", "b" * 32, params={"lr": "0.1"})
    line = "1 tree logged tables that no trace shows; --include tables reads them."
    assert line in plan_of(run("scan", root).stdout)
    assert line not in run("scan", root, "--include", "tables").stdout


def test_a_missing_store_is_answered_with_what_can_be_given(tmp_path: Path) -> None:
    text = run("scan", tmp_path / "nowhere").stderr
    assert "a database (mlflow.db, postgresql://…) or an MLflow server (http://host:5000)" in text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run the command without arguments on a terminal of 80 columns."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with redirect_stdout(out), pytest.raises(SystemExit) as end:
        main.main([], prog_name="mlflow-migrate")
    return int(end.value.code or 0), out.getvalue()


def test_alone_in_a_directory_with_a_store_it_shows_a_screen(
    agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = alone(agents.parent, monkeypatch)
    assert code == 0
    assert "81 runs in 12 experiments" in " ".join(text.splitlines()[:2])
    assert "    mlflow-migrate convert\n" in text
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 80
    sqlite3.connect(tmp_path / "mlflow.db").execute("CREATE TABLE t (x)").connection.close()
    code, text = alone(tmp_path, monkeypatch)
    assert (code, text.splitlines()[0][:24]) == (0, "mlflow.db is a database.")
    assert "    mlflow-migrate convert mlflow.db --to sqlite:///migrated.db\n" in text


def test_alone_beside_a_database_the_directory_of_its_artifacts_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlruns" / "1" / ("a" * 32) / "artifacts").mkdir(parents=True)
    (tmp_path / "mlruns" / "1" / ("a" * 32) / "artifacts" / "x.txt").write_text("x")
    code, text = alone(tmp_path, monkeypatch)
    assert (code, "looks like the artifact directory" in " ".join(text.split())) == (0, True)
    fixturekit.database("2.22.5-database", tmp_path).replace(tmp_path / "mlflow.db")
    code, text = alone(tmp_path, monkeypatch)
    assert (code, text.splitlines()[0][:24]) == (0, "mlflow.db is a database.")
    words = " ".join(text.split())
    assert f"Upgrade it first: mlflow-migrate upgrade sqlite:///{tmp_path}/mlflow.db" in words
    assert "--in-place" not in words and "mlflow server" not in words


def test_alone_with_a_damaged_store_it_says_how_to_see_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged_store(tmp_path / "mlruns")
    _, text = alone(tmp_path, monkeypatch)
    assert "1 item would be rejected, 3 degraded." in " ".join(text.split())
    assert "To see what and why:\n    mlflow-migrate scan\n" in text


def test_alone_without_a_store_or_a_terminal_it_prints_the_help(
    agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = "There is no ./mlruns and no mlflow.db in this directory.\n\n"
    assert alone(tmp_path, monkeypatch) == (2, empty)
    monkeypatch.chdir(agents.parent)
    piped = run()
    assert (piped.exit_code, piped.stdout) == (2, "")
    assert piped.stderr.startswith("Usage: ")
