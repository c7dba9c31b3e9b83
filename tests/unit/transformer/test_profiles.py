"""Profiles: what users can write, and what they are told when it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from migrator.errors import OptionError
from migrator.transformer import built_in_names, load_profiles, wanted_artifacts
from migrator.transformer import profiles as profiles_module
from migrator.transformer.profile_index import index_of, shape_of
from migrator.transformer.profiles import normalise, parse_source
from tests.support.planskit import plan, run, span, trace, value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MINE = """
name = "mine"
description = "French tracker"
extends = "generic"

[[recognise]]
root_has = ["param:équipe"]

[fields]
inputs = ["artifact:prompt_envoye_au_LLM.txt"]
duration_s = ["metric:durée"]

[[spans]]
root = true
type = "AGENT"
name = "équipe {param:équipe}"

[[assessments]]
from = ["metric:note_*"]
source = "HUMAN"
"""


def broken(text: str) -> str:
    with pytest.raises(OptionError) as caught:
        load_profiles(texts=[("mine.toml", text)])
    return str(caught.value)


def test_keys_are_compared_without_case_accents_and_separators() -> None:
    keys = {"promptTokens", "prompt-tokens", "Prompt Tokens", "prompt.tokens", "prompt_tokens"}
    assert {normalise(key) for key in keys} == {"prompt_tokens"}
    assert normalise("Durée_S") == "duree_s"
    assert normalise("提示词") == "提示词"
    for name in ("질문", "ガイド", "हिन्दी", "ถาม"):
        assert normalise(name) == name
    assert normalise("Ё-Ключ") == "е_ключ"


def test_user_profile_in_another_language_takes_its_trees() -> None:
    profiles = load_profiles(texts=[("mine.toml", MINE)])
    made = trace(
        run(
            "r",
            params={"Equipe": "bleue"},
            metrics={"duree": 5.0, "note_clarté": 4},
            texts={"out/prompt_envoye_au_llm.txt": "Bonjour"},
            end=10,
        ),
        profiles=profiles,
    )
    root = made.spans[0]
    assert (root.name, root.type) == ("équipe bleue", "AGENT")
    assert value(root, "mlflow.spanInputs") == {"prompt_envoye_au_llm": "Bonjour"}
    assert made.execution_ms == 5000
    assert [(a.name, a.value, a.source_type) for a in made.assessments] == [
        ("note_clarté", 4, "HUMAN")
    ]
    assert made.tags["migrator.profile"] == "mine"


def test_values_inside_one_file_fill_several_fields() -> None:
    text = """
name = "dump"
extends = "generic"
[[recognise]]
root_has = ["artifact:dump.json"]
[fields]
inputs = ["artifact:dump.json#ask.txt"]
outputs = ["artifact:dump.json#got"]
model = ["artifact:dump.json#engine"]
not_inputs = ["artifact:dump.json#ask.lang"]
"""
    dump = '{"ask": {"txt": "Why is it so?", "lang": "en"}, "got": "Because.", "engine": "gpt-4o"}'
    profiles = load_profiles(texts=[("dump.toml", text)])
    made = trace(run("r", texts={"dump.json": dump}), profiles=profiles)
    (root,) = made.spans
    assert value(root, "mlflow.spanInputs") == {"ask_txt": "Why is it so?"}
    assert value(root, "mlflow.spanOutputs") == "Because."
    assert value(root, "mlflow.llm.model") == "gpt-4o"
    assert root.origins["inputs"] == "artifact dump.json#ask.txt"


def test_profile_without_recognise_takes_what_no_other_does() -> None:
    extra = 'name = "more"\nextends = "generic"\n[fields]\ninputs = ["param:wish"]\n'
    profiles = load_profiles(texts=[("more.toml", extra)])
    made = plan(run("r", params={"wish": "I wish for a longer day"}), profiles=profiles)
    assert (made.profile, len(made.traces)) == ("more", 1)
    assert plan(run("r", params={"wish": "I wish for a longer day"})).traces == ()


def test_users_generic_extends_the_built_in_one() -> None:
    text = 'name = "generic"\nextends = "generic"\n[fields]\nmodel = ["param:brain"]\n'
    profiles = load_profiles(texts=[("generic.toml", text)])
    assert [p.name for p in profiles].count("generic") == 1
    made = trace(
        run("r", params={"brain": "gpt-4o", "prompt": "What is the sea made of?"}),
        profiles=profiles,
    )
    assert value(made.spans[0], "model") == "gpt-4o"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = = 2\n", ["mine.toml", "TOML", "line 1"]),
        ("description = 'x'", ["mine.toml", '"name"']),
        ("name='x'\ncolour='red'", ["line 2", '"colour"', "recognise"]),
        ("name='x'\n[fields]\nimput=['param:a']", ["line 3", '"fields.imput"', "inputs"]),
        ("name='x'\n[fields]\ninputs=['prompt']", ['"fields.inputs"', '"prompt"', "param:prompt"]),
        ("name='x'\n[fields]\ninputs=['field:model']", ["field can't be defined"]),
        ("name='x'\n[fields]\ninputs='param:a'", ['"fields.inputs"', "a list"]),
        ("name='x'\n[[spans]]\ntype='ROBOT'", ['"spans[0].type"', "ROBOT", "AGENT"]),
        ("name='x'\n[[spans]]\nrun_name='('", ['"spans[0].run_name"', "regular expression"]),
        ("name='x'\n[[spans]]\nname='{node}'", ['"spans[0].name"', "{node}"]),
        ("name='x'\n[[assessments]]\nfrom=['metric:a']\nsource='ME'", ["ME", "LLM_JUDGE"]),
        ("name='x'\n[[assessments]]\nsource='CODE'", ["at least one source"]),
        ("name='x'\nrole='king'", ['"role"', "king", "workflow"]),
        ("name='x'\nextends='y'", ['"extends"', '"y"', "generic"]),
        ("name='x'\n[[recognise]]\n", ["empty"]),
        ("name='x'\nfailed_step='node'", ["one group"]),
    ],
)  # fmt: skip
def test_mistakes_in_a_profile_are_named_with_what_is_allowed(text: str, says: list[str]) -> None:
    message = broken(text)
    for word in ["mine.toml", *says]:
        assert word in message, message


def test_profiles_that_extend_each_other_are_refused() -> None:
    with pytest.raises(OptionError, match="extends"):
        load_profiles(
            texts=[("a.toml", "name='a'\nextends='b'"), ("b.toml", "name='b'\nextends='a'")]
        )


def test_unreadable_profile_file_is_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="can't be read"):
        load_profiles([str(tmp_path / "none.toml")])
    bad = tmp_path / "latin.toml"
    bad.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(OptionError, match="can't be read"):
        load_profiles([str(bad)])


def test_two_profiles_of_one_name_are_refused() -> None:
    with pytest.raises(OptionError, match=r"a\.toml"):
        load_profiles(texts=[("a.toml", MINE), ("b.toml", MINE)])


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("inputs.json", True),
        ("deep/er/inputs.json", True),
        ("prompts/system_prompt.txt", True),
        ("Prompt.TXT", True),
        ("prompt.txt/tmp4711.txt", True),
        ("queries/query_2026-02-12T09.txt", True),
        ("responses/raw_llm_response.txt", True),
        ("chat/chat_history.json", True),
        ("error.json", True),
        ("cost_summary.json", True),
        ("model/model.pkl", False),
        ("model/conda.yaml", False),
        ("my_inputs.json.gz", False),
        ("prompt.txt.bak", False),
    ],
)
def test_extractor_is_asked_for_texts_and_nothing_else(path: str, wanted: bool) -> None:
    assert wanted_artifacts(load_profiles())(path) is wanted


def test_no_profile_wants_no_artifact() -> None:
    assert wanted_artifacts([])("inputs.json") is False


def test_star_in_a_key_stands_for_any_text() -> None:
    source = parse_source("metric:judge_*")
    assert source.pattern is not None
    assert source.pattern.match("judge_tone") and not source.pattern.match("judged")


def test_two_profiles_that_fit_are_reported_and_the_first_takes_it() -> None:
    one = 'name="one"\n[[recognise]]\nroot_has=["param:team"]\n[fields]\nmodel=["param:m"]\n'
    profiles = load_profiles(texts=[("1.toml", one), ("2.toml", one.replace("one", "two"))])
    made = plan(run("r", params={"team": "x"}), profiles=profiles)
    assert made.profile == "one"
    assert [i.code.value for i in made.issues] == ["profile-ambiguous"]
    assert span(made.traces[0], "r").status == "OK"


def test_every_toml_file_of_the_package_is_a_profile_that_is_tried_in_its_order() -> None:
    folder = Path(profiles_module.__file__).parent / "profiles"
    tables = [tomllib.loads(path.read_text("utf-8")) for path in folder.glob("*.toml")]
    names = [table["name"] for table in sorted(tables, key=lambda table: table["order"])]
    assert len({table["order"] for table in tables}) == len(tables), "two have the same order"
    assert [profile.name for profile in load_profiles()] == names
    assert built_in_names() == tuple(names) and names[-1] == "generic"


def test_an_order_that_is_not_a_number_is_refused() -> None:
    assert 'key "order": must be a whole number' in broken('name = "mine"\norder = "first"\n')


def test_an_index_finds_fields_by_spelling_pattern_and_path() -> None:
    text = 'name = "mine"\n[fields]\nmodel = ["param:llm_*", "param:model", "artifact:m.txt"]\n'
    loaded = load_profiles(texts=[("mine.toml", text)])
    profile = next(each for each in loaded if each.name == "mine")
    index = index_of(profile)
    assert index is index_of(profile)
    record = run("r", params={"Model": "a", "llm-name": "b", "other": "c"})
    program = index.program(shape_of(record))
    assert program.fields == {"model": ((0, "param", "llm-name"), (1, "param", "Model"))}
    assert program is index.program(shape_of(run("s", params=dict(record.params))))
    assert [(each.field, each.rank) for each in index.sources_at("deep/m.txt")] == [("model", 2)]
    assert index.knows("param", "model") and not index.knows("metric", "model")


@pytest.mark.parametrize(
    ("source", "path", "is_matched"),
    [
        ("artifact:Summary.json", "out/SUMMARY.json", True),
        ("artifact:summary.json", "ſummary.json", True),  # the same letter without regard to case
        ("artifact:summary.json", "summary.json/tmp1.json", True),
        ("artifact:*_answer.txt", "a/final_Answer.txt", True),
        ("artifact:calls/**/*.json", "calls/a/b.json", True),
        ("artifact:*", "anything", True),
        ("artifact:summary.txt", "out/Summary", True),  # a text without the ending
        ("artifact:summary.json", "summary.yaml", False),
        ("artifact:summary.json", "out/summary", False),
    ],
)
def test_a_pattern_of_paths_matches_in_any_case(source: str, path: str, is_matched: bool) -> None:
    pattern = parse_source(source).pattern
    assert pattern is not None
    assert (pattern.match(path) is not None) == is_matched


def test_a_pattern_of_paths_is_compiled_when_a_path_may_match() -> None:
    pattern = parse_source("artifact:never-compiled-before.json").pattern
    assert pattern is not None
    before = profiles_module._compiled.cache_info().currsize
    assert pattern.match("metrics.json") is None
    assert profiles_module._compiled.cache_info().currsize == before
    assert pattern.match("a/never-compiled-before.json") is not None
    assert profiles_module._compiled.cache_info().currsize == before + 1
