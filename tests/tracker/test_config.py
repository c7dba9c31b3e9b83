"""The tracker's configuration: forms, defaults, legacy files, and errors that say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.errors import OptionError
from migrator.tracker import MLFlowTracker, TrackerConfig
from migrator.tracker.prices import load_prices
from migrator.tracker.usage import Usage

LEGACY = """
schema_version: "1.0"
flow:
  name: article_writer
config:
  observability:
    mlflow:
      enabled: true
      tracking_uri: "sqlite:///runs.db"
      experiment_name: articles
      run_name: null
      log_prompts: false
      log_artifacts: true
      artifact_level: minimal
      retention_days: 30
      redact_pii: false
      async_logging: yes
      autolog_enabled: no
"""


@dataclass
class Block:
    """The settings as an object, as the application's own models hold them."""

    enabled: bool = True
    tracking_uri: str = "sqlite:///runs.db"
    experiment_name: str = "articles"
    run_name: str | None = None
    log_prompts: bool = False
    artifact_level: str = "minimal"
    retention_days: int | None = 30


def test_defaults_are_those_of_the_legacy_tracker_and_3_9() -> None:
    config = TrackerConfig.of({})
    assert not config.enabled
    assert config.tracking_uri == "sqlite:///mlflow.db"
    assert config.experiment_name == "configurable_agents"
    assert (config.log_prompts, config.log_artifacts, config.artifact_level) == (
        True, True, "standard"
    )  # fmt: skip
    assert (config.autolog_enabled, config.async_logging) == (False, True)
    assert (config.server_timeout_s, config.sampling_ratio, config.redact) == (3.0, 1.0, "keys")


def test_legacy_file_keeps_working(tmp_path: Path) -> None:
    path = tmp_path / "workflow.yaml"
    path.write_text(LEGACY, encoding="utf-8")
    for given in (path, str(path)):
        config = TrackerConfig.of(given)
        assert config.enabled and config.experiment_name == "articles"
        assert config.artifact_level == "minimal" and not config.log_prompts
        assert config.async_logging is True and config.autolog_enabled is False


def test_objects_mappings_and_arguments_give_the_same() -> None:
    block = Block()
    plain = TrackerConfig.of(vars(block))
    assert TrackerConfig.of(block) == plain
    assert TrackerConfig.of({"observability": {"mlflow": vars(block)}}) == plain
    assert TrackerConfig.of(None, **vars(block)) == plain
    assert TrackerConfig.of(plain) == plain
    assert TrackerConfig.of(plain, experiment_name="other").experiment_name == "other"


def test_whole_configurations_are_looked_into_whatever_they_are_made_of() -> None:
    block = Block()
    plain = TrackerConfig.of(block)
    observability = SimpleNamespace(mlflow=block)
    for given in (
        {"mlflow": vars(block)},
        observability,
        {"observability": observability},
        SimpleNamespace(observability={"mlflow": block}),
        SimpleNamespace(config=SimpleNamespace(observability=observability), flow=None),
    ):
        assert TrackerConfig.of(given) == plain
    for given in (SimpleNamespace(config=None, flow=None), SimpleNamespace(observability=None)):
        assert not TrackerConfig.of(given).enabled
    for wrong in ({"mlflow": "yes"}, {"observability": {"mlflow": [1]}}, 7):
        with pytest.raises(OptionError, match="not a mapping"):
            TrackerConfig.of(wrong)


def test_configuration_without_the_block_is_disabled() -> None:
    assert not TrackerConfig.of({"flow": {"name": "x"}, "nodes": []}).enabled
    assert not TrackerConfig.of({"observability": None}).enabled
    assert not TrackerConfig.of({"config": {"observability": {"mlflow": None}}}).enabled


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"traking_uri": "sqlite:///x.db"}, ["traking_uri", "tracking_uri"]),
        ({"artifact_level": "all"}, ["artifact_level", "minimal, standard, full"]),
        ({"server_timeout_s": 0}, ["server_timeout_s", "above 0"]),
        ({"server_timeout_s": "soon"}, ["server_timeout_s", "number"]),
        ({"sampling_ratio": 1.5}, ["sampling_ratio", "0 to 1"]),
        ({"enabled": "perhaps"}, ["enabled", "true or false"]),
        ({"experiment_name": " "}, ["experiment_name"]),
        ({"experiment_name": 7}, ["experiment_name", "text"]),
        ({"fallback_uri": "http://elsewhere"}, ["fallback_uri", "SQLite"]),
        ({"fallback_uri": "sqlite://a.db"}, ["fallback_uri", "sqlite:///a.db"]),
    ],
)
def test_what_cannot_be_meant_is_said(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(OptionError) as error:
        TrackerConfig.of(settings)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "uri", ["file://./mlruns", "file:///home/ana/mlruns", "./mlruns", "mlruns", "C:\\mlruns"]
)
def test_file_store_is_refused_with_the_command_that_moves_it(uri: str) -> None:
    with pytest.raises(OptionError, match="mlflow-migrate convert") as error:
        MLFlowTracker({"enabled": True, "tracking_uri": uri})
    assert "sqlite:///mlflow.db" in str(error.value)
    assert not TrackerConfig.of({"enabled": False, "tracking_uri": uri}).enabled  # not used


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("mlflow.example.org:80/x", "http://mlflow.example.org:80/x"),
        ("databricks", "a Databricks workspace"),
        ("databricks://profile", "a Databricks workspace"),
        ("sqlite://mlflow.db", "Write sqlite:///mlflow.db"),
        ("sqlite:mlflow.db", "Write sqlite:///mlflow.db"),
        ("mlflow.db", "write sqlite:///mlflow.db"),
        ("postgres://host/db", "Write postgresql://host/db"),
        ("mariadb://host/db", "Write mysql+pymysql://host/db"),
    ],
)
def test_place_that_cannot_be_written_is_told_for_what_it_is(uri: str, advice: str) -> None:
    with pytest.raises(OptionError) as error:
        MLFlowTracker({"enabled": True, "tracking_uri": uri})
    assert advice in str(error.value)


def test_names_of_integrations_are_a_list_or_a_text() -> None:
    assert TrackerConfig.of({"autolog_enabled": "openai, langchain"}).autolog_enabled == (
        "openai", "langchain"
    )  # fmt: skip
    assert TrackerConfig.of({"autolog_enabled": ["openai"]}).autolog_enabled == ("openai",)


def test_prices_match_versions_of_a_model_and_never_its_sibling(tmp_path: Path) -> None:
    table = load_prices()
    for name in ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini", "GPT-4o-mini"):
        cost = table.cost(name, Usage(1_000_000, 1_000_000))
        assert cost is not None and (cost.input_usd, cost.output_usd) == (0.15, 0.60)
    dated = table.price("gpt-4o-2024-08-06")
    assert dated is not None and dated.input_usd == 2.50
    assert table.price("gpt-4omega") is None
    assert table.cost("my-own-model", Usage(10, 10)) is None
    own = tmp_path / "prices.toml"
    own.write_text('[home]\n"my-own-model" = { input = 1, output = 2 }\n', encoding="utf-8")
    replaced = load_prices(str(own))
    mine = replaced.cost("my-own-model", Usage(1_000_000, 500_000))
    assert mine is not None and mine.total_usd == 2.0
    assert replaced.price("gpt-4o") is None  # replaced, not added to


def test_litellms_own_table_is_a_price_file(tmp_path: Path) -> None:
    """Its format: https://github.com/BerriAI/litellm, model_prices_and_context_window.json."""
    content = {
        "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of https://..."},
        "claude-sonnet-4-5": {
            "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
            "cache_read_input_token_cost": 3e-07, "cache_creation_input_token_cost": 3.75e-06,
            "cache_creation_input_token_cost_above_1hr": 6e-06, "litellm_provider": "anthropic",
            "search_context_cost_per_query": {"search_context_size_high": 0.01},
        },
        "gemini-2.5-flash": {
            "input_cost_per_token": 3e-07, "output_cost_per_token": 2.5e-06,
            "output_cost_per_reasoning_token": 5e-06,
            "litellm_provider": "vertex_ai-language-models",
        },
        "azure/gpt-4o": {
            "input_cost_per_token": "5e-06", "output_cost_per_token": "0.00001",
            "litellm_provider": "azure",
        },
        "text-embedding-3-small": {"input_cost_per_token": 2e-08, "litellm_provider": "openai"},
        "dall-e-3": {"input_cost_per_image": 0.04, "litellm_provider": "openai"},
    }  # fmt: skip
    path = tmp_path / "model_prices_and_context_window.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    table = load_prices(str(path))
    million = 1_000_000
    claude = table.cost("claude-sonnet-4-5-20250929", Usage(4 * million, million, million, million))
    assert claude is not None
    assert (claude.input_usd, claude.output_usd) == pytest.approx((6 + 0.3 + 3.75, 15))
    thinking = table.cost("gemini-2.5-flash", Usage(0, million, reasoning_tokens=million))
    assert thinking is not None and thinking.total_usd == pytest.approx(5.0)
    azure = table.price("azure/gpt-4o")
    assert azure is not None and azure.provider == "azure"
    assert azure.input_usd == pytest.approx(5.0)
    embedding = table.cost("text-embedding-3-small", Usage(million, 0))
    assert embedding is not None and embedding.total_usd == pytest.approx(0.02)
    assert (table.price("dall-e-3"), table.price("sample_spec")) == (None, None)
    gemini = table.price("gemini-2.5-flash")
    assert gemini is not None and gemini.provider == "vertex_ai"


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"m": {"input_cost_per_token": -1, "output_cost_per_token": 1}}',
        '{"m": {"input_cost_per_token": NaN, "output_cost_per_token": 1}}',
        '{"m": {"input_cost_per_token": "much", "output_cost_per_token": 1}}',
    ],
)  # fmt: skip
def test_unusable_json_price_table_is_an_option_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=r"prices\.json"):
        load_prices(str(path))


def test_kinds_without_a_price_cost_the_usual_share_of_the_input(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    text = (
        "date = 2026-01-31\n[a]\nm = { input = 10, output = 40 }\n"
        "n = { input = 10, output = 40, cache_read = 5, cache_write = 0, reasoning = 1 }\n"
    )
    path.write_text(text, encoding="utf-8")
    table = load_prices(str(path))
    kinds = Usage(4_000_000, 2_000_000, 1_000_000, 2_000_000, 1_000_000, 1_000_000)
    usual, own = table.cost("m", kinds), table.cost("n", kinds)
    assert usual is not None and own is not None
    assert (usual.input_usd, usual.output_usd) == (10 + 1 + 12.5 + 20, 80)
    assert (own.input_usd, own.output_usd) == (10 + 5 + 0 + 20, 41)
    assert table.source == f"{path} of 2026-01-31"


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("claude-opus-4-20250514", 15.00),
        ("claude-opus-4-5", 5.00),  # not a version of Opus 4
        ("claude-opus-4-99", None),
        ("us.anthropic.claude-3-haiku-20240307-v1:0", 0.25),
        ("claude-3-5-sonnet@20240620", 3.00),
        ("claude-3-7-sonnet-latest", 3.00),
        ("gpt-4o-2024-05-13", 5.00),  # dearer than the later ones
        ("gpt-4o-2024-11-20", 2.50),
        ("gpt-4o-audio-preview", None),
        ("gpt-4-0613", 30.00),
        ("gpt-4-32k", None),
        ("gpt-5-pro", 15.00),
        ("o1-pro", None),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", None),
        ("models/gemini-1.5-pro-002", 1.25),
        ("gemini-2.5-flash-preview-05-20", 0.30),
        ("gemini-1.5-flash-8b", None),
    ],
)
def test_price_of_another_model_is_never_taken(name: str, price: float | None) -> None:
    found = load_prices().price(name)
    assert (found.input_usd if found else None) == price


@pytest.mark.parametrize(
    "text",
    [
        "[a", "[a]\nm = 1\n", "[a]\nm = { input = 1 }\n", '[a]\nm = { input = "x", output = 1 }\n',
        "[a]\nm = { input = -1, output = 1 }\n", "[a]\nm = { input = 1, output = nan }\n",
        "[a]\nm = { input = 1, output = 1, cache_reads = 1 }\n", "[a]\nm = 3\n",
        "[a]\nm = { input = 1, output = 1, cache_read = -1 }\n",
        "[a]\nm = { input = inf, output = 1 }\n", "[a]\nm = { input = true, output = 1 }\n",
    ],
)  # fmt: skip
def test_unusable_price_table_is_an_option_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=r"prices\.toml"):
        load_prices(str(path))


def test_disabled_tracker_does_not_import_mlflow() -> None:
    code = (
        "import sys\n"
        "from migrator.tracker import MLFlowTracker\n"
        "t = MLFlowTracker(None)\n"
        "with t.track_workflow({}), t.track_node('a', 'm') as node:\n"
        "    t.log_node_metrics(1, 2, 'm', prompt='p', response='r')\n"
        "    node.set_attribute('a', 1)\n"
        "    t.finalize_workflow({})\n"
        "assert t.trace(lambda x: x + 1)(1) == 2\n"
        "assert t.cost_summary() == {} and not t.status().enabled\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
