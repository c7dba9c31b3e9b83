"""``mlflow-migrate profiles``: list, show, check, new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main
from migrator.transformer import built_in_names, load_profiles, template
from tests.support import fixturekit

MINE = 'name = "mine"\nextends = "generic"\n[[recognise]]\nroot_name = "^support_"\n'


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["profiles", *args])


def test_list_names_all_profiles_in_the_order_in_which_they_are_tried(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    result = run("list", "--json", "--profile-file", str(tmp_path / "mine.toml"))
    rows = json.loads(result.output)["profiles"]
    assert [row["name"] for row in rows] == ["mine", *built_in_names()]
    assert rows[0]["origin"].endswith("mine.toml")
    assert rows[0]["recognises"] == ["root named ^support_"]
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
    assert "takes trees whose root named ^support_" in result.output
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
