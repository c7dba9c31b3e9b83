"""Options that contradict one another are refused, and those of a command have an effect there."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient

import migrator
from migrator import pipeline
from migrator.cli import main
from migrator.errors import OptionError
from migrator.issues import Kind
from migrator.model import Role
from migrator.pipeline import options
from migrator.transformer import ArtifactChoice
from tests.support.storekit import write_experiment, write_run, write_trace

CALL = {"prompt.txt": "Which bees dance?", "response.txt": "Honey bees."}
LIVE, DELETED, IN_TRASH, BY_META = ("1" * 32, "2" * 32, "3" * 32, "4" * 32)


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """LLM calls and native traces: live, deleted, and of experiments that are deleted."""
    root = tmp_path / "mlruns"
    write_experiment(root, "1", "active")
    write_run(root, "1", LIVE, artifacts=CALL)
    write_run(root, "1", DELETED, artifacts=CALL, deleted=True)
    write_trace(root, "1", "tr-" + "a" * 32)
    write_trace(root, "1", "tr-" + "b" * 32, source_run_id=DELETED)
    write_experiment(root, "2", "in trash", deleted=True)
    write_run(root, "2", IN_TRASH, artifacts=CALL)
    write_trace(root, "2", "tr-" + "c" * 32)
    write_experiment(root, "3", "deleted where it is", deleted=True, in_trash=False)
    write_run(root, "3", BY_META, artifacts=CALL)
    write_trace(root, "3", "tr-" + "d" * 32)
    return root


def traces(path: Path) -> dict[str, set[str]]:
    client = MlflowClient(f"sqlite:///{path}")
    return {
        number: {
            trace.info.trace_id.removeprefix("tr-")
            for trace in client.search_traces(locations=[number], include_spans=False)
        }
        for number in ("1", "2", "3")
    }


def test_nothing_deleted_has_a_trace_where_that_is_excluded(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.db"
    args = ("--to", f"sqlite:///{target}", "--exclude", "deleted")
    result = run("convert", store, *args)
    assert result.exit_code == 0, result.output
    assert traces(target) == {"1": {LIVE, "a" * 32}, "2": set(), "3": set()}
    assert "/#/experiments/1/" in result.output
    assert "/#/experiments/2" not in result.output and "/#/experiments/3" not in result.output
    ledger = pipeline.scan([str(store)], pipeline.Options(exclude="deleted")).ledger
    assert (ledger.found[Kind.TRACE], ledger.left_out[Kind.TRACE]) == (4, 3)
    assert run("verify", store, *args).exit_code == 0
    runs = MlflowClient(f"sqlite:///{target}").search_runs(["1", "2", "3"], run_view_type=3)
    assert {each.info.run_id for each in runs} == {LIVE, DELETED, IN_TRASH, BY_META}


def test_by_default_a_deleted_experiment_keeps_its_traces_and_gets_no_link(
    store: Path, tmp_path: Path
) -> None:
    target, report = tmp_path / "m.db", tmp_path / "r.html"
    result = run("convert", store, "--to", f"sqlite:///{target}", "--report", report)
    assert result.exit_code == 0, result.output
    assert traces(target) == {
        "1": {LIVE, "a" * 32, "b" * 32},
        "2": {IN_TRASH, "c" * 32},
        "3": {BY_META, "d" * 32},
    }
    for text in (result.output, report.read_text("utf-8")):
        assert "/#/experiments/1/" in text
        assert "/#/experiments/2" not in text and "/#/experiments/3" not in text


CONTRADICTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"runs": False, "traces": False}, ["--no-runs", "--no-traces"]),
    (
        {"include": frozenset({"flat"}), "exclude": frozenset({"flat"})},
        ["--include", "flat", "--exclude", "flat"],
    ),
    ({"roles": (("1", "call"), ("1", "batch"))}, ["--role", "1=call", "--role", "1=batch"]),
    ({"traces": False, "include": frozenset({"flat"})}, ["--no-traces", "--include", "flat"]),
    ({"traces": False, "exclude": frozenset({"flat"})}, ["--no-traces", "--exclude", "flat"]),
    ({"traces": False, "profile": "generic"}, ["--no-traces", "--profile", "generic"]),
    ({"traces": False, "roles": (("1", "call"),)}, ["--no-traces", "--role", "1=call"]),
    ({"traces": False, "group_by_time": True}, ["--no-traces", "--group-by-time"]),
    ({"traces": False, "adopt_orphans": True}, ["--no-traces", "--adopt-orphans"]),
]


@pytest.mark.parametrize(("given", "flags"), CONTRADICTIONS)
def test_contradictions_are_refused_in_python_and_by_every_command(
    given: Mapping[str, Any], flags: list[str], store: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError):
        pipeline.Options(**given)
    target = f"sqlite:///{tmp_path}/m.db"
    for args in (["scan", store], ["convert", store, "--to", target], ["verify", store]):
        result = run(*args, *flags)
        assert result.exit_code == 2, result.output
        assert all(flag in result.output for flag in flags if flag.startswith("--"))
    assert not (tmp_path / "m.db").exists()


def test_two_roles_by_name_and_by_id_are_refused(store: Path) -> None:
    result = run("scan", store, "--role", "1=call", "--role", "active=batch")
    assert result.exit_code == 2 and "two roles" in result.output
    assert run("scan", store, "--role", "1=call", "--role", "active=call").exit_code == 0


@pytest.mark.parametrize(
    "args",
    [
        ["scan", "{}", "--json", "--csv"],
        ["scan", "{}", "--json", "--tree", "1"],
        ["scan", "{}", "--csv", "--tree", "1"],
        ["scan", "{}", "--csv", "--values"],
        ["scan", "{}", "--csv", "-v"],
        ["scan", "{}", "--tree", "1", "-v"],
        ["scan", "{}", "--tree", "1", "--experiment", "2"],
        ["scan", "{}", "--tree", "1", "--dask", "tcp://127.0.0.1:1"],
        ["scan", "{}", "-q", "-v"],
        ["convert", "{}", "-q", "-v"],
        ["verify", "{}", "-q", "-v"],
        ["export", "{}", "--otlp", "t.jsonl", "-q", "-v"],
        ["code", "{}", "--write", "--diff"],
    ],
)
def test_options_that_clash_are_refused(args: list[str], store: Path) -> None:
    result = run(*(arg.format(store) for arg in args))
    assert (result.exit_code, "clash" in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("show", ["--no-runs", "--no-traces", "--on-conflict", "--experiment-kind", "--artifacts",
                  "--workers", "--since", "--only"]),
        ("export", ["--no-runs", "--no-traces", "--on-conflict", "--experiment-kind"]),
        ("scan", ["--on-conflict", "--experiment-kind"]),
    ],
)  # fmt: skip
def test_no_command_lists_an_option_that_does_nothing_there(
    command: str, without: list[str]
) -> None:
    listed = run(command, "--help").output.split()
    assert [option for option in without if option in listed] == []
    assert "--include" in listed and "--redact" in listed


def test_the_options_of_show_have_an_effect(store: Path) -> None:
    shown = run("show", LIVE, store).output
    for flags in (["--exclude", "flat"], ["--role", "1=training"], ["--redact", "bees"]):
        assert run("show", LIVE, store, "-v", *flags).output != shown
    hidden = run("show", LIVE, store, "--experiment", "2")
    assert hidden.exit_code == 2 and "--experiment" in hidden.output


def test_export_copies_no_artifacts(store: Path, tmp_path: Path) -> None:
    result = run("export", store, "--otlp", tmp_path / "t.jsonl", "--artifacts", "copy:/tmp/x")
    assert result.exit_code == 2 and "copies no files" in result.output
    assert not (tmp_path / "t.jsonl").exists()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_conflict": "x"}, "--on-conflict 'x' .* fail, merge, rename"),
    ({"experiment_kind": "genia"}, "--experiment-kind 'genia' .* auto, genai, keep"),
    ({"include": "sweep"}, "--include 'sweep' .* sweeps, pipelines, flat, deleted, tables"),
    ({"exclude": ["flat", "x"]}, "--exclude 'x' .* sweeps, pipelines, flat, deleted, tables"),
    ({"artifacts": "kep"}, "--artifacts 'kep' .* auto, relocate, keep, or copy:"),
    ({"artifacts": Path("kep")}, "--artifacts 'kep' .* auto, relocate, keep, or copy:"),
    ({"artifacts": "copy:http://host"}, "directory of this machine"),
    ({"artifacts": "copy:/x", "shard": "1/2"}, "--artifacts copy:/x and --shard"),
    ({"artifacts": "copy:/x", "redact": "a"}, "--redact and --artifacts copy:/x"),
    ({"since": "2024-13-01"}, "--since '2024-13-01' is not a valid date. .* 2024-05-31"),
    ({"redact": ["a", "("]}, r"--redact '\(' is not a valid regular expression"),
    ({"roles": {"1": "cal"}}, "--role '1=cal' .* workflow, session, batch, call"),
    ({"roles": "call"}, "--role 'call' is not EXPERIMENT=ROLE"),
    ({"shard": "3/2"}, "--shard '3/2' is not K/N"),
    ({"shard": (0, 2)}, "--shard '0/2' is not K/N"),
    ({"workers": -1}, "--workers -1"),
    ({"profile": "generick"}, 'no profile "generick". There are .*generic'),
    ({"profile": "my.toml"}, 'no profile "my.toml". A file is given with --profile-file. There'),
    ({"profile_files": "/nowhere.toml"}, "Profile /nowhere.toml can't be read"),
    ({"only": "/nowhere.jsonl"}, "The list /nowhere.jsonl can't be read"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda each: str(each)[:40])
def test_a_wrong_value_is_refused_at_once_and_says_what_is_allowed(
    given: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        pipeline.Options(**given)


def test_an_option_is_refused_before_a_bucket_is_asked_for_anything() -> None:
    for flags in (
        ["--since", "then"],
        ["--redact", "("],
        ["--shard", "2/1"],
        ["--profile", "generick"],
        ["--role", "x"],
        ["--artifacts", "kep"],
        ["--only", str(Path(__file__))],
    ):
        result = run("scan", "s3://no-such-bucket/mlruns", *flags)
        assert result.exit_code == 2, result.output
        assert flags[0].strip("-") in result.output or "is not a JSON object" in result.output


def test_options_are_values_whatever_form_they_were_given_in() -> None:
    texts = pipeline.Options(
        experiments="one",
        include="flat",
        artifacts="copy:/tmp/files",
        roles=["a=b=session", "c=call"],
        since="2024-05-31",
    )
    values = pipeline.Options(
        experiments=["one"],
        include=frozenset({"flat"}),
        artifacts=ArtifactChoice("copy", "/tmp/files"),
        roles={"a=b": Role.SESSION, "c": "call"},
        since=date(2024, 5, 31),
    )
    assert texts == values == replace(texts)
    assert texts.roles == (("a=b", Role.SESSION), ("c", Role.CALL))
    assert texts.since == datetime(2024, 5, 31, tzinfo=timezone.utc)
    assert texts.artifacts == ArtifactChoice("copy", "/tmp/files")
    masked = pipeline.Options(redact="sk-.*", shard="2/3", workers=None)
    assert masked == pipeline.Options(redact=[re.compile("sk-.*")], shard=(2, 3))
    assert (masked.redact, masked.shard, masked.workers) == ((re.compile("sk-.*"),), (2, 3), 0)
    assert pickle.loads(pickle.dumps(masked)) == masked


def test_sources_and_files_may_be_texts_or_paths_one_or_several(store: Path) -> None:
    counts = [
        pipeline.scan(sources).ledger.found[Kind.RUN]
        for sources in (str(store), store, [store], (str(store), store))
    ]
    assert counts == [4, 4, 4, 4]


def test_the_command_line_offers_the_values_that_options_allow() -> None:
    offered = {
        parameter.name: tuple(parameter.type.choices)
        for parameter in main.commands["convert"].params
        if isinstance(parameter.type, click.Choice)
    }
    assert offered["include"] == offered["exclude"] == options.GROUPS
    assert offered["on_conflict"] == options.ON_CONFLICT
    assert offered["experiment_kind"] == options.EXPERIMENT_KINDS


def test_the_functions_of_the_package_take_the_options_as_keywords(
    store: Path, tmp_path: Path
) -> None:
    assert migrator.scan(store, exclude="deleted").ledger.left_out[Kind.TRACE] == 3
    done = migrator.convert(store, to=f"sqlite:///{tmp_path}/m.db", exclude="deleted")
    assert done.exit_code == 0
    assert traces(tmp_path / "m.db") == {"1": {LIVE, "a" * 32}, "2": set(), "3": set()}
    assert migrator.show(LIVE[:5], store, roles={"1": "call"}).plan.role is Role.CALL
    sent = migrator.export(store, str(tmp_path / "t.jsonl"), exclude="deleted")
    assert sent.traces == 2
    with pytest.raises(OptionError):
        migrator.scan(store, on_conflict="x")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, migrator; print([m for m in sys.modules if m.startswith('migrator.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_convert_takes_each_option_of_the_python_api() -> None:
    of_api = set(inspect.signature(pipeline.Options).parameters)
    of_command = {parameter.name for parameter in main.commands["convert"].params}
    assert of_api - of_command == {"executor"}, "which is --dask"
    of_verify = {parameter.name for parameter in main.commands["verify"].params}
    assert of_api - of_verify == {"check_all", "executor", "restore", "shard"}
