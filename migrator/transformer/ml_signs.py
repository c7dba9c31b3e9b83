"""Rules for evidence of ordinary machine learning: metrics, settings and models of training.

A rule looks at one run's ``Evidence`` and gives a ``Sign`` with points below 0, or None. To add
one, write it and list it in ``ML_RULES``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from migrator.model import RunRecord
from migrator.transformer.counted_cases import says_length_of_answer
from migrator.transformer.evidence import ASKING_WORDS, STRONG_TEXT, Evidence, Rule, Sign
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.profiles import normalise
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.text_names import PREDICTED_WORDS
from migrator.transformer.values import words

ML_WORDS = words(
    "accuracy acc f1 auc roc rocauc rmse mse mae mape r2 loss logloss perplexity silhouette map50 "
    "iou kappa mcc gini"
)
NOT_MEASURED = words("estimated expected target")
"""Words of such metrics that say that nothing was trained: a plan names them, too."""

ML_PARAMS = words(
    "learning_rate lr max_depth n_estimators num_estimators batch_size epochs n_epochs num_epochs "
    "num_train_epochs dropout weight_decay momentum optimizer optimizer_name hidden_size "
    "hidden_dim num_layers min_samples_split min_samples_leaf n_clusters kernel penalty subsample "
    "colsample_bytree per_device_train_batch_size num_leaves reg_lambda reg_alpha"
)
ML_PARAM_WORDS = words(
    "lora qlora peft epoch epochs warmup optimizer scheduler finetune finetuning"
)
"""Words of keys that only training has, whatever stands around them."""

ML_FLAVORS = ("sklearn", "xgboost", "lightgbm", "catboost", "pytorch", "tensorflow", "keras")
DATA_WORDS = words(
    "rows row records record columns csv parquet table tables chunks shards partitions"
)
"""Words of keys that count or name what a job on data reads and writes."""


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
    """Hyper-parameters of a run that does not both ask and answer: agents have a depth as well."""
    if min(evidence.asked_points, evidence.answer_points) >= STRONG_TEXT:
        return None
    if names := sorted(key for key in evidence.run.params if _is_of_ml(normalise(key))):
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


def has_predicted_class(evidence: Evidence) -> Sign | None:
    """The class that a model put a text into, where nobody asked a question and no LLM answered.

    What a user typed (``user_input``) may be a comment whose tone a classifier found.
    """
    has_call = evidence.is_llm or evidence.answer_points or evidence.tokens.are_known
    has_call = has_call or says_length_of_answer(evidence.run)
    names = {part for found in evidence.texts for part in found.stem.split("_")}
    if has_call or names & (ASKING_WORDS - {"user"}):
        return None
    run = evidence.run
    is_text = {key for key, text in run.params.items() if kind_of_text(text) >= Prose.PROSE}
    for key in (*run.params, *run.metrics):
        is_class = not PREDICTED_WORDS.isdisjoint(normalise(key).split("_"))
        if is_class and key not in is_text:
            return Sign("class", -4, f"a class that was predicted ({key})")
    return None


def names_other_model(evidence: Evidence) -> Sign | None:
    """An encoder, or a model of speech or scans, as the only one, where nobody asked."""
    model = evidence.model
    if model is None or kind_of_model(str(model.value)) is not ModelKind.OTHER:
        return None
    is_asked = evidence.asked_points >= STRONG_TEXT
    if is_asked or evidence.tokens.are_known or not evidence.text_points:
        return None
    why = f"a model that answers nothing ({model.origin} = {str(model.value)[:60]})"
    return Sign("other model", -2, why)


ML_RULES: tuple[Rule, ...] = (
    has_predicted_class,
    names_other_model,
    has_training_metrics,
    has_epochs,
    has_hyper_parameters,
    has_ml_flavor,
    has_training_dataset,
)
"""Evidence that speaks for ordinary machine learning."""


def works_on_data(evidence: Evidence) -> Sign | None:
    """Counts of rows and the like, or embeddings, where nothing speaks of an LLM."""
    if evidence.is_llm or evidence.text_points or evidence.tokens.output:
        return None
    keys = (*evidence.run.params, *evidence.run.metrics)
    named = [key for key in keys if not DATA_WORDS.isdisjoint(normalise(key).split("_"))]
    if named:
        return Sign("data", -3, f"a job on data ({min(named)})")
    return Sign("data", -3, "a job on embeddings") if evidence.is_embedding_only else None


@lru_cache(maxsize=10_000)
def _is_of_ml(param: str) -> bool:
    return param in ML_PARAMS or not ML_PARAM_WORDS.isdisjoint(param.split("_"))


def _training_metrics(run: RunRecord) -> list[str]:
    """The metrics of a run that ordinary machine learning logs, sorted."""
    return sorted(key for key in run.metrics if _is_of_training(key))


@lru_cache(maxsize=10_000)
def _is_of_training(metric: str) -> bool:
    name = normalise(metric)
    parts = re.split(r"[^a-z0-9]+", name.replace("_", " "))
    if not NOT_MEASURED.isdisjoint(parts):
        return False
    return name.startswith(("val_", "train_")) or not ML_WORDS.isdisjoint(parts)
