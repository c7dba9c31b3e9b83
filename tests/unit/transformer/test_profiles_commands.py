"""``mlflow-migrate profiles``: list, show, check, new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.transformer import built_in_names, load_profiles, template
from tests.support import fixturekit, storekit

MINE = 'name = "mine"\nextends = "generic"\n[[recognise]]\nroot_name = "^support_"\n'


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["profiles", *args])


def test_list_names_all_profiles_in_the_order_in_which_they_are_tried(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    result = run("list", "--json", "--profile-file", str(tmp_path / "mine.toml"))
    rows = json.loads(result.output)["profiles"]
    assert [row["name"] for row in rows] == ["mine", *built_in_names()]
    assert rows[0]["origin"].endswith("mine.toml")
    assert rows[0]["recognises"] == ["the root is named ^support_"]
    assert rows[-1]["recognises"] == ["what no other recognises"]
    assert all(row["description"] for row in rows[1:])
    assert [row["name"] for row in rows if row["opt_in"]] == ["evaluation-tables"]
    text = run("list").output
    assert all(name in text for name in built_in_names())


@pytest.mark.parametrize("name", built_in_names())
def test_show_prints_toml_that_can_be_used_under_another_name(name: str) -> None:
    text = run("show", name).output
    mine = text.replace(f'name = "{name}"', 'name = "mine"', 1)
    assert "mine" in [profile.name for profile in load_profiles(texts=[("mine.toml", mine)])]


def test_show_prints_a_users_profile_and_refuses_an_unknown_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    assert run("show", "mine", "--profile-file", str(path)).output == MINE
    result = run("show", "mine")
    assert result.exit_code == 2
    assert 'no built-in profile "mine"' in result.output and "typed-nodes" in result.output


def test_check_says_which_trees_of_a_store_a_profile_takes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    store = str(fixturekit.store("2.22.5-agents"))
    result = run("check", str(path), store)
    assert result.exit_code == 0, result.output
    assert "takes trees in which the root is named ^support_" in result.output
    assert "It takes 1 of " in result.output and "support_20240304_130000" in result.output
    data = json.loads(run("check", str(path), store, "--json").output)
    assert (len(data["taken"]), data["traces"]) == (1, 1)
    assert json.loads(run("check", str(path), "--json").output)["taken"] is None


def test_check_names_file_line_key_and_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('name = "x"\nsteps = "magic"\n')
    result = run("check", str(path))
    assert result.exit_code == 2
    for word in (str(path), "line 2", '"steps"', '"magic"', "langchain-events"):
        assert word in result.output


def test_new_begins_a_profile_that_is_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "my-tool.toml"
    result = run("new", "my-tool", "--extends", "typed-nodes", "--to", str(path))
    assert result.exit_code == 0 and str(path) in result.output
    assert run("check", str(path)).exit_code == 0
    assert path.read_text() == template("my-tool", "typed-nodes", str(path))
    again = run("new", "my-tool", "--to", str(path))
    assert again.exit_code == 2 and "exists already" in again.output
    assert run("new", "my-tool").output == template("my-tool", "generic", "my-tool.toml")


def test_every_line_of_the_template_is_right_when_it_is_uncommented() -> None:
    lines = template("my-tool", "generic", "my-tool.toml").splitlines()
    begin = lines.index("[fields]")
    open_ = [line.removeprefix("# ") if " = " in line or "[[" in line else line for line in lines]
    text = "\n".join([*lines[:begin], *open_[begin:]])
    (mine,) = (p for p in load_profiles(texts=[("t.toml", text)]) if p.name == "my-tool")
    assert [rule.type for rule in mine.spans][:1] == ["RETRIEVER"]
    assert mine.assessments[0].source_type == "HUMAN"
    assert mine.fields["session"][0].text == "param:session_id"


@pytest.mark.parametrize("arguments", [('a"b',), ("x", "--extends", "nobody"), ("x", "--to", "/")])
def test_new_refuses_what_can_not_be(arguments: tuple[str, ...]) -> None:
    assert run("new", *arguments).exit_code == 2


def test_check_counts_matches_and_names_what_nothing_reads(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    storekit.write_experiment(store, "1", "calls")
    for number in range(2):
        storekit.write_run(
            store, "1", f"{number}" * 32, params={"ask": "Who is it?", "flavour": "mild"},
            metrics={"took_secs": [(storekit.START_MS, 1.5, 0)]},
        )  # fmt: skip
    file = tmp_path / "ours.toml"
    file.write_text(
        'name = "ours"\nextends = "generic"\nrole = "call"\n'
        '[[recognise]]\nroot_has = ["param:ask"]\n'
        '[fields]\ninputs = ["param:ask"]\nduration_s = ["param:took_secs"]\n'
        'model = ["tag:nowhere"]\n'
        '[[spans]]\nname = "ask {param:missing}"\n'
    )
    result = CliRunner().invoke(main, ["profiles", "check", str(file), str(store), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    uses = {
        (use["where"], use["source"]): (use["matches"], use["nearest"]) for use in told["sources"]
    }
    assert uses == {
        ("inputs", "param:ask"): (2, ""),
        ("duration_s", "param:took_secs"): (0, "metric:took_secs"),
        ("model", "tag:nowhere"): (0, ""),
        ("[[recognise]]", "param:ask"): (2, ""),
        ("[[spans]]", "param:missing"): (0, ""),
    }
    assert told["unused"] == [
        {"key": "metric:took_secs", "runs": 2, "example": "1.5"},
        {"key": "param:flavour", "runs": 2, "example": "mild"},
    ]
    text = CliRunner().invoke(main, ["profiles", "check", str(file), str(store)]).output
    assert (
        "param:took_secs of duration_s never matched; the nearest key there is metric:took_secs"
        in text
    )


def test_check_names_what_nothing_reads_inside_a_file(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    storekit.write_experiment(store, "1", "calls")
    dump = {"ask": {"text": "Who is it?", "lang": "en"}, "got": "Ada", "cost": 3, "chat": {"a": 1}}
    files = {"dump.json": json.dumps(dump), "whole.json": json.dumps(dump)}
    storekit.write_run(store, "1", "1" * 32, artifacts=files)
    file = tmp_path / "ours.toml"
    file.write_text(
        'name = "ours"\nextends = "generic"\nrole = "call"\n'
        '[[recognise]]\nroot_has = ["artifact:dump.json", "artifact:whole.json"]\n'
        '[fields]\ninputs = ["artifact:dump.json#ask.text"]\n'
        'outputs = ["artifact:dump.json#got"]\ntools = ["artifact:dump.json#chat"]\n'
        'events = ["artifact:whole.json"]\n'
    )
    result = CliRunner().invoke(main, ["profiles", "check", str(file), str(store), "--json"])
    assert json.loads(result.stdout)["unused"] == [
        {"key": "artifact:dump.json#ask.lang", "runs": 1, "example": "en"},
        {"key": "artifact:dump.json#cost", "runs": 1, "example": "3"},
    ]


# ------------------------------------------------------------------------------------ learn

ASKED = ("Where is my parcel?", "How do I return a shoe?", "When do you open on Sunday?")
ANSWERED = (
    "It is with our driver and comes today.",
    "Put it into its box and bring it to any of our shops.",
    "We open at ten and close at four on Sundays.",
)


def helpdesk(root: Path) -> Path:
    """A store of a tracker with made-up keys, and one of training."""
    storekit.write_experiment(root, "1", "helpdesk")
    for number in range(6):
        storekit.write_run(
            root, "1", f"{number:032x}", name=f"case {number}",
            params={"plea": ASKED[number % 3], "brain": "gpt-4o", "secret": "sk-123 is the key"},
            tags={"retort": ANSWERED[number % 3]},
        )  # fmt: skip
    storekit.write_experiment(root, "2", "forest")
    for number in range(3):
        storekit.write_run(
            root, "2", f"a{number:031x}", params={"max_depth": "3"},
            metrics={"accuracy": [(storekit.START_MS, 0.9, 0)]},
        )  # fmt: skip
    return root


def test_learn_writes_a_profile_and_checks_it(tmp_path: Path) -> None:
    store, file = str(helpdesk(tmp_path / "mlruns")), str(tmp_path / "ours.toml")
    result = run("learn", store, "--name", "ours", "--to", file)
    assert result.exit_code == 0, result.output
    assert "It takes 6 of 9 trees and makes 6 traces of them." in result.output
    (profile,) = (each for each in load_profiles([file]) if each.name == "ours")
    sources = {name: [each.text for each in profile.own[name]] for name in profile.own}
    assert sources["inputs"] == ["param:plea"]
    assert sources["outputs"] == ["tag:retort"]
    assert sources["model"] == ["param:brain"]
    assert run("learn", store, "--to", file).exit_code == 2  # nothing is overwritten


def test_learn_prints_a_profile_as_a_whole_and_the_same_each_time(tmp_path: Path) -> None:
    store = str(helpdesk(tmp_path / "mlruns"))
    first = run("learn", store, "--experiment", "helpdesk")
    assert first.exit_code == 0
    (profile,) = (
        each for each in load_profiles(texts=[("x.toml", first.output)]) if each.name == "learnt"
    )
    assert profile.fields["inputs"][0].text == "param:plea"
    assert run("learn", store, "--experiment", "helpdesk").output == first.output


def test_learn_masks_examples(tmp_path: Path) -> None:
    store = str(helpdesk(tmp_path / "mlruns"))
    assert "sk-123" in run("learn", store).output  # a key that nothing reads, with an example
    masked = run("learn", store, "--redact", "sk-[0-9]+", "--redact", "parcel").output
    assert "sk-123" not in masked and "parcel" not in masked
    assert 'inputs = ["param:plea"]' in masked


def test_learn_says_where_nothing_can_be_told(tmp_path: Path) -> None:
    store = str(helpdesk(tmp_path / "mlruns"))
    result = run("learn", store, "--experiment", "forest")
    assert result.exit_code == 1
    assert "There is nothing to learn from" in result.output


def test_learn_says_what_there_is_where_it_is_too_little(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    storekit.write_experiment(store, "1", "pipeline")
    for number in range(3):
        storekit.write_run(
            store, "1", f"{number:032x}", params={"llm_model": "gpt-4o", "pdf": "book"},
            artifacts={"answers.csv": "question,response\nWho is it?,It is Tom the cat.\n"},
        )  # fmt: skip
    result = run("learn", str(store))
    assert result.exit_code == 1
    assert "3 runs name a language model (param:llm_model)" in " ".join(result.output.split())
    assert "The tables in 3 trees become traces" in " ".join(result.output.split())


def test_learn_takes_no_versions_of_a_prompt(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    storekit.write_experiment(store, "1", "prompts")
    for number in range(3):
        text = f"You are a poet. Write version {number} of a poem about the user's topic."
        storekit.write_run(
            store, "1", f"{number:032x}", params={"model": "gpt-4o", "prompt_version": str(number)},
            artifacts={"prompt.txt": text},
        )  # fmt: skip
    result = run("learn", str(store))
    assert result.exit_code == 1, result.output
    assert "There is nothing to learn from" in result.output


def test_learn_reads_databases(tmp_path: Path) -> None:
    store = str(helpdesk(tmp_path / "mlruns"))
    database = str(tmp_path / "old.db")
    converted = CliRunner().invoke(main, ["convert", store, "--to", database, "--no-traces"])
    assert converted.exit_code == 0, converted.output
    result = run("learn", f"sqlite:///{database}", "--experiment", "helpdesk")
    assert 'outputs = ["tag:retort"]' in result.output
