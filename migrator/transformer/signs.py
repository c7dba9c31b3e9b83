"""Evidence in single runs: signs of LLM work, and signs of ordinary machine learning.

A rule is a function that looks at one run's ``Evidence`` and gives a ``Sign`` (points, and a
sentence for the reasons) or None. To add one, write it and list it: in ``LLM_RULES`` if it speaks
for LLM work by itself, in ``CONTEXT_RULES`` if it does so only beside other evidence, in
``ML_RULES`` if it speaks for training. Words that mean one thing in LLM work and another in
ordinary machine learning (``session_id`` is PyCaret's random seed, ``cost`` that of a path) count
for nothing alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from migrator.model import RunRecord
from migrator.transformer.found import Found, Tokens
from migrator.transformer.profiles import normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.values import as_number, words

LLM_MODEL = re.compile(
    r"(?i)(^|[/:_.\s-])(gpt-?\d|gpt-|chatgpt|o[134](-mini|-preview)?$|claude|gemini|llama|mistral"
    r"|mixtral|qwen|deepseek|command-r|palm-?2|phi-?\d|gemma|grok|davinci|sonnet|haiku|nova-"
    r"|falcon-|vicuna|ollama|openai|anthropic|groq|bedrock|vertex_?ai|together_ai)"
)
ML_WORDS = words(
    "accuracy acc f1 auc roc rocauc rmse mse mae mape r2 loss logloss perplexity silhouette map50 "
    "iou kappa mcc gini"
)
ML_PARAMS = words(
    "learning_rate lr max_depth n_estimators num_estimators batch_size epochs n_epochs num_epochs "
    "num_train_epochs dropout weight_decay momentum optimizer optimizer_name hidden_size "
    "hidden_dim num_layers min_samples_split min_samples_leaf n_clusters kernel penalty subsample "
    "colsample_bytree per_device_train_batch_size num_leaves reg_lambda reg_alpha"
)
ML_FLAVORS = ("sklearn", "xgboost", "lightgbm", "catboost", "pytorch", "tensorflow", "keras")
SETTINGS = words("temperature max_tokens top_p llm_temperature max_output_tokens")
MANY_CASES = re.compile(
    r"^(avg|mean|median|p50|p90|p95|p99|pass)_|_(avg|mean|median|rate|std)$"
    r"|^(num|n|total|count)_(queries|questions|samples|cases|examples|requests|rows|tests)$"
)
WEAK_STEMS = words(
    "input inputs output outputs query message text objective task prediction generation "
    "instruction instructions completion answer"
)
"""Names of texts that ordinary machine learning uses too."""

STRONG_TEXT = 4  # a prompt, a question or an answer that is surely one
WEAK_TEXT = 2  # a text that may be one


class Sign(NamedTuple):
    """Something that speaks for LLM work (points above 0) or for ordinary training (below)."""

    kind: str
    points: int
    why: str


class Signs(NamedTuple):
    """What one run shows of being LLM work (``llm``) or ordinary training (``ml``)."""

    llm: tuple[Sign, ...]
    ml: tuple[Sign, ...]
    own_text: bool  # it holds a prompt, a question or a response
    many_cases: bool  # metrics averaged over many cases


class Evidence(NamedTuple):
    """What the rules look at in one run, found once."""

    view: RunView
    tokens: Tokens
    tokens_from: str  # where the tokens were logged
    text_points: int  # how surely it holds a prompt, a question or an answer
    texts: tuple[Found, ...]  # its inputs and outputs if one of them is such a text
    model: Found | None
    is_llm: bool  # the model's name is that of an LLM

    @classmethod
    def of(cls, view: RunView) -> Evidence:
        tokens, tokens_from = view.usage()
        _, given = view.inputs()
        _, got = view.outputs()
        texts = (*given, *got)
        points = max((_text_points(found) for found in texts), default=0)
        if points and given and got:
            points = STRONG_TEXT
        if not points:
            texts = ()
            points = STRONG_TEXT if view.every("calls") else 0
        model = view.first("model")
        is_llm = model is not None and LLM_MODEL.search(str(model.value)) is not None
        return cls(view, tokens, tokens_from, points, texts, model, is_llm)

    @property
    def run(self) -> RunRecord:
        return self.view.run


Rule = Callable[[Evidence], "Sign | None"]


def signs_of(view: RunView) -> Signs:
    """Weigh one run by itself."""
    evidence = Evidence.of(view)
    llm = _hits(LLM_RULES, evidence)
    if evidence.is_llm or evidence.text_points or evidence.tokens.are_known:
        llm += _hits(CONTEXT_RULES, evidence)
    return Signs(
        llm=tuple(llm),
        ml=tuple(_hits(ML_RULES, evidence)),
        own_text=evidence.text_points >= WEAK_TEXT,
        many_cases=any(MANY_CASES.search(normalise(key)) for key in view.run.metrics),
    )


def _hits(rules: Sequence[Rule], evidence: Evidence) -> list[Sign]:
    signs = [rule(evidence) for rule in rules]
    return [sign for sign in signs if sign is not None]


# ------------------------------------------------------------------------ rules for LLM work


def has_tokens(evidence: Evidence) -> Sign | None:
    """Token counts; less if all are 0, as when the logger could not read them."""
    tokens = evidence.tokens
    if not tokens.are_known:
        return None
    if any(count is not None and count > 0 for count in tokens):
        return Sign("tokens", 3, f"token counts ({evidence.tokens_from})")
    return Sign("tokens", 2, f"token counts, all zero ({evidence.tokens_from})")


def has_text(evidence: Evidence) -> Sign | None:
    """A prompt, a question or an answer, or a file for each query."""
    if not evidence.text_points:
        return None
    if not evidence.texts:
        return Sign("text", evidence.text_points, "a file for each query")
    names = ", ".join(found.origin for found in evidence.texts[:3])
    return Sign("text", evidence.text_points, f"a prompt, a question or a response ({names})")


def names_llm(evidence: Evidence) -> Sign | None:
    """A model whose name is that of an LLM."""
    model = evidence.model
    if model is None or not evidence.is_llm:
        return None
    return Sign("model", 2, f"an LLM's name ({model.origin} = {str(model.value)[:60]})")


def names_kind(evidence: Evidence) -> Sign | None:
    """A kind of step that the profile's span rules know, such as ``llm`` or ``tool``."""
    kind = evidence.view.first("kind")
    if kind is None or normalise(str(kind.value)) not in evidence.view.index.kinds:
        return None
    return Sign("kind", 2, f"a kind of step ({kind.origin} = {str(kind.value)[:60]})")


def has_cost_of_tokens(evidence: Evidence) -> Sign | None:
    """A cost, where tokens were counted too."""
    if evidence.tokens.are_known and evidence.view.number("cost_usd"):
        return Sign("cost", 1, "a cost beside the tokens")
    return None


LLM_RULES: tuple[Rule, ...] = (has_tokens, has_text, names_llm, names_kind, has_cost_of_tokens)
"""Evidence that speaks for LLM work by itself."""


# ------------------------------------------- rules that count beside tokens, a text or an LLM


def has_session(evidence: Evidence) -> Sign | None:
    if evidence.view.first("session") or evidence.view.first("user"):
        return Sign("session", 1, "a session or user id")
    return None


def has_latency(evidence: Evidence) -> Sign | None:
    duration = evidence.view.duration_ms(None)
    if duration is None:
        return None
    return Sign("latency", 1, f"a latency ({duration.found.origin})")


def has_status(evidence: Evidence) -> Sign | None:
    if evidence.view.every("status") or evidence.view.every("success"):
        return Sign("status", 1, "a status of its own")
    return None


def has_sampling_settings(evidence: Evidence) -> Sign | None:
    if any(normalise(key) in SETTINGS for key in evidence.run.params):
        return Sign("settings", 1, "sampling settings")
    return None


CONTEXT_RULES: tuple[Rule, ...] = (has_session, has_latency, has_status, has_sampling_settings)
"""Evidence that says nothing alone: training runs have durations and statuses, too."""


# ------------------------------------------------------------------------ rules for training


def has_training_metrics(evidence: Evidence) -> Sign | None:
    if names := _training_metrics(evidence.run):
        return Sign("training", -2, f"metrics of training ({', '.join(names[:3])})")
    return None


def has_epochs(evidence: Evidence) -> Sign | None:
    """Metrics of training with values at more than two steps."""
    metrics = evidence.run.metrics
    for name in _training_metrics(evidence.run):
        if len({point.step for point in metrics[name]}) > 2:
            return Sign("epochs", -2, "metrics with a value for each epoch")
    return None


def has_hyper_parameters(evidence: Evidence) -> Sign | None:
    if names := sorted(key for key in evidence.run.params if normalise(key) in ML_PARAMS):
        return Sign("hyper", -2, f"hyper-parameters ({', '.join(names[:3])})")
    return None


def has_ml_flavor(evidence: Evidence) -> Sign | None:
    """A model that scikit-learn and the like logged, or their autologging."""
    tags = evidence.run.tags
    history = tags.get("mlflow.log-model.history", "")
    for flavor in ML_FLAVORS:
        if f'"{flavor}"' in history:
            return Sign("flavor", -3, f"a logged {flavor} model")
    if tags.get("mlflow.autologging") in ML_FLAVORS:
        return Sign("flavor", -3, f"autologged by {tags['mlflow.autologging']}")
    return None


def has_training_dataset(evidence: Evidence) -> Sign | None:
    contexts = [each.tags.get("mlflow.data.context", "") for each in evidence.run.inputs]
    if any(context.startswith("train") for context in contexts):
        return Sign("dataset", -2, "a dataset for training")
    return None


ML_RULES: tuple[Rule, ...] = (
    has_training_metrics,
    has_epochs,
    has_hyper_parameters,
    has_ml_flavor,
    has_training_dataset,
)
"""Evidence that speaks for ordinary machine learning."""


# --------------------------------------------------------------------------- small readings


def _text_points(found: Found) -> int:
    """How surely an input or output is a prompt, a question or an answer: 0, 2 or 4."""
    value = found.value
    if not isinstance(value, str):
        return WEAK_TEXT  # inputs.json or the like; with outputs.json it is a strong text
    parts = value.split()
    if not parts or as_number(value) is not None:
        return 0
    is_strong = found.stem not in WEAK_STEMS
    if found.place == "artifact":
        return STRONG_TEXT if is_strong else WEAK_TEXT
    is_sentence = len(parts) > 1 or (len(value) > 3 and not value.isascii())
    if not is_sentence:
        return 0
    if is_strong:
        return STRONG_TEXT
    return WEAK_TEXT if len(value) > 20 else 0


def _training_metrics(run: RunRecord) -> list[str]:
    """The metrics of a run that ordinary machine learning logs, sorted."""
    return sorted(key for key in run.metrics if _is_of_training(key))


@lru_cache(maxsize=10_000)
def _is_of_training(metric: str) -> bool:
    name = normalise(metric)
    parts = re.split(r"[^a-z0-9]+", name.replace("_", " "))
    return name.startswith(("val_", "train_")) or not ML_WORDS.isdisjoint(parts)
