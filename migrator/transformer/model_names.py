"""Names of models: which name a large language model, and which a vendor or another kind of model.

The families are those of MLflow's own model catalogue (``mlflow/utils/model_catalog/*.json`` of
3.17, entries whose mode is chat, completion or responses), of ``tracker/prices.toml``, and the
generators on the Hugging Face hub that MLflow's catalogue leaves out. A family is the beginning of
a word, so that ``gpt`` covers ``azure/gpt-4o-mini`` and ``openai:gpt-5``.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

from migrator.transformer.values import words

FAMILIES = (
    "gpt", "chatgpt", r"(?-i:o[134])(?![\w.])", "davinci", "text-davinci", "codex", "claude",
    "gemini", "gemma", "palm-?2", "text-bison", "chat-bison", "llama", "codellama", "tinyllama",
    "mistral", "mixtral", "ministral", "codestral", "devstral", "magistral", "pixtral", "qwen",
    "qwq", "deepseek", "command(?=-|$)", "aya(?=[-:])", "grok", "phi-?[1-9]", "nova(?=-)",
    "titan-text", "glm", "chatglm", "kimi", "moonshot", "minimax", "ernie", "doubao", "hunyuan",
    "baichuan", r"yi[-:]\d", "internlm", "falcon", "vicuna", "alpaca", "wizardlm", "zephyr",
    "hermes", "nous(?=-)", "openhermes", "orca", "dolphin", "dolly", "mpt(?=-)", "stablelm",
    "starcoder", "granite", "jamba", "j2(?=-)", "jurassic", "luminous", "sonar", "pplx", "dbrx",
    "databricks(?=-)", "nemotron", "olmo", "solar-(pro|mini|10)", "gigachat", "yandexgpt",
    "palmyra", "reka", "medlm", "smollm", "sonnet", "haiku", "opus", "flan", "t5", "mt5", "ul2",
    "bart", "bloom", "opt(?=-)", "galactica", "gpt4all", "redpajama", "pegasus", "openchat",
    "exaone", "jais", "sarvam", "meditron", "sqlcoder", "wizardcoder", "neural-chat", "rwkv",
    "blenderbot", "codet5", "starling", "sabia", "teuken", "llava", "bakllava", "moondream",
    "minicpm", "idefics", "cogvlm",
)  # fmt: skip
OTHER_KINDS = (
    "embed", "minilm", "mpnet", "bge", "e5-", r"e5(?![\w.])", "gte-", "sentence-transformers",
    "all-", "multi-qa-", "msmarco", "voyage", "instructor", "sbert", "ada-002", "nomic", "rerank",
    "cross-encoder", "colbert", "splade", "whisper", "wav2vec", "pyannote", "tts", "transcribe",
    "speech", "bark", "clip", "dall-e", "stable-diffusion", "sdxl", "flux", "imagen", "moderation",
    "bert", "roberta", "distilbert", "deberta", "electra", "resnet", "yolo", "vit-", "guard",
    "trocr", "paddleocr", "easyocr", "tesseract",
)  # fmt: skip
"""Embedding, reranker, speech and image models, and encoders: their names are not an LLM's."""

VENDORS = words(
    "openai azure azure_openai azureopenai anthropic google google_genai vertex vertexai vertex_ai "
    "bedrock aws aws_bedrock amazon cohere mistralai mistral_ai groq ollama huggingface hf "
    "hugging_face together together_ai togetherai fireworks fireworks_ai openrouter replicate "
    "deepinfra nvidia nim perplexity xai meta ibm watsonx databricks snowflake vllm llamacpp "
    "llama_cpp lmstudio lm_studio litellm langchain llama_index local"
)
"""Names that stand in keys for models and name only who serves them."""

OFFSPRING = ("gpt", "llama", "mistral", "qwen", "gemma", "alpaca")
"""Families whose names end those of models made of them, as in ``BioMistral`` and ``DialoGPT``."""

_FAMILY = re.compile(
    rf"(?i)(?:(?:^|[/:_.\s@-])(?:distil)?(?:{'|'.join(FAMILIES)})"
    rf"|[a-z]{{2}}(?:{'|'.join(OFFSPRING)}))(?![a-z]{{2}})"
)
_OTHER = re.compile(rf"(?i)(?:^|[/:_.\s@-])(?:{'|'.join(OTHER_KINDS)})|embed|whisper|bert(?![a-z])")


class ModelKind(Enum):
    """What a value names that stands where a model is named."""

    LLM = "llm"
    UNKNOWN = "unknown"  # a name of no known family, such as a team's own
    VENDOR = "vendor"
    OTHER = "other"  # an embedding, a reranker, speech, images: another kind of model


@lru_cache(maxsize=10_000)
def kind_of_model(name: str) -> ModelKind:
    """Classify the name of a model by the families above."""
    text = name.strip()
    if re.sub(r"[\s-]+", "_", text.casefold()) in VENDORS:
        return ModelKind.VENDOR
    if len(text) > 200 or len(text.split()) > 6:
        return ModelKind.UNKNOWN  # a text, not a name
    if _OTHER.search(text):
        return ModelKind.OTHER
    return ModelKind.LLM if _FAMILY.search(text) else ModelKind.UNKNOWN


MODEL_KEY = re.compile(
    r"(?:^|_)(?P<noun>model|llm|engine|deployment|generator)"
    r"(?:_(?P<part>name|id|version|type|used|string))?$"
)
"""Keys (normalised) that name a model, by their last words."""

NOT_THE_MODEL = words(
    "embed embedding embeddings embedder rerank reranker ranker retriever retrieval vector sparse "
    "judge judging evaluator evaluation eval grader critic scorer validator validation verifier "
    "whisper speech stt tts asr "
    "transcription transcriber voice audio vision image tokenizer moderation guard registered "
    "classifier base pretrained backbone student teacher log logged path dir size"
)
"""Words of such keys that say that the model is not the one that answered."""

JUDGES = words("judge judging evaluator grader critic scorer validator validation verifier")
"""Words of keys whose model judges: the run's own where it names no other."""

BASES = words("base backbone pretrained classifier")
"""Words that say nothing of a key that names an ``llm``: it answers."""

OF_LLM = words("llm chat qa openai azure anthropic gpt completion generator generation generative")
"""Words of such keys that say that the model is a language model, whatever its name."""


class ModelKey(Enum):
    """What a key says of the model in its value."""

    OF_LLM = "llm"
    ANY = "any"
    NOT_THE_MODEL = "other"


@lru_cache(maxsize=10_000)
def kind_of_model_key(key: str) -> ModelKey | None:
    """Classify a normalised key; None when it does not name a model."""
    if MODEL_KEY.search(key) is None:
        return None
    parts = frozenset(key.split("_"))
    if parts & NOT_THE_MODEL - (BASES if "llm" in parts else frozenset()):
        return ModelKey.NOT_THE_MODEL
    return ModelKey.OF_LLM if parts & OF_LLM else ModelKey.ANY
