"""Names of models: which are those of language models."""

from __future__ import annotations

import pytest

from migrator.transformer.model_names import ModelKind, kind_of_model


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4.1-nano", "o3-mini", "azure/gpt-4o", "openai:/gpt-4o", "gpt-oss:20b", "gpt2",
        "models/gemini-1.5-flash", "us.amazon.nova-micro-v1:0", "anthropic.claude-v2",
        "meta-llama/Llama-3-8b", "TheBloke/Llama-2-7B-Chat-GGUF", "llama3-8b-8192", "phi3:mini",
        "deepseek-r1:7b", "command-r-plus", "aya:8b", "yi:6b", "exaone3.5", "jais-13b",
        "defog/sqlcoder2", "facebook/bart-large-cnn", "google/mt5-small", "Salesforce/codet5-base",
        # Made of another family, which ends their name.
        "BioMistral/BioMistral-7B", "microsoft/DialoGPT-medium", "codegemma:2b", "OpenLLaMA",
    ],
)  # fmt: skip
def test_names_of_language_models(name: str) -> None:
    assert kind_of_model(name) is ModelKind.LLM


@pytest.mark.parametrize(
    "name",
    [
        "text-embedding-3-small", "whisper-large-v3", "bert-base-uncased", "cross-encoder/ms-marco",
        "all-MiniLM-L6-v2", "dall-e-3",
        "xgboost", "random_forest", "test5", "best5", "fraud-detector", "champion", "optuna",
    ],
)  # fmt: skip
def test_names_of_other_models(name: str) -> None:
    assert kind_of_model(name) in (ModelKind.OTHER, ModelKind.UNKNOWN)
