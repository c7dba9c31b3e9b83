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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from migrator import encoding
from migrator.model import RunRecord
from migrator.transformer.found import Found, Tokens
from migrator.transformer.media import media_of
from migrator.transformer.model_names import (
    ModelKey,
    ModelKind,
    kind_of_model,
    kind_of_model_key,
)
from migrator.transformer.payloads import answer_of, are_answers
from migrator.transformer.profiles import normalise
from migrator.transformer.prose import Prose, asks, is_one_request, kind_of_text
from migrator.transformer.run_view import RunView
from migrator.transformer.statuses import run_status
from migrator.transformer.text_names import (
    PREDICTED_WORDS,
    RETRIEVAL,
    SIMILARITY,
    SURE_QUESTION_WORDS,
    is_report,
    retrieval_key,
)
from migrator.transformer.unlisted import OF_MANY_CALLS
from migrator.transformer.values import as_number, last_value, words

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
ML_PARAM_WORDS = words(
    "lora qlora peft epoch epochs warmup optimizer scheduler finetune finetuning"
)
"""Words of keys that only training has, whatever stands around them."""

ML_FLAVORS = ("sklearn", "xgboost", "lightgbm", "catboost", "pytorch", "tensorflow", "keras")
SETTINGS = words("temperature max_tokens top_p llm_temperature max_output_tokens")
MANY_CASES = re.compile(
    r"^(avg|average|mean|median|p50|p90|p95|p99|pass)_|_(avg|average|mean|median|rate|std|p95|p99)$"
)
"""Names of metrics that are taken over many cases."""

SPREAD = re.compile(r"(^|_)(std|stdev|stddev|variance|median|p50|p90|p95|p99)(_|$)")
"""Names of metrics that say how far many cases lie apart."""

CASE_COUNT = re.compile(
    r"^((num|n|total|count|number_of)_)?(queries|questions|samples|cases|examples|requests|rows"
    r"|tests|iterations|trials|prompts|calls|conversations|count)(_count)?$|^n$"
)
"""Names of params and metrics that count cases, if the number is above 1 and no param limits it."""

BULK_COUNT = re.compile(
    r"^(num|n|total|count|number_of)_(docs|documents|files|items|records|pages|emails|articles)$"
    r"|^((num|n|total|count|number_of)_)?"
    r"(responses|answers|respondents|participants|votes|ratings)$"
)
COUNT_OF_THINGS = re.compile(r"^(num|n|total|count|number_of)_\w+s$")
LEAST_BULK = 20  # fewer may be those that one request looked at

RESULT_COUNT = re.compile(
    r"^(num|n|total|count|number_of|samples|cases|items|questions|tests|responses)_"
    r"(generated|processed|passed|failed|correct|completed|evaluated|scored|successful|errors)$"
)
VERSION_KEY = re.compile(
    r"(^|_)(version|variant|template|revision|baseline|experiment_type|strategy)(_|$)"
    r"|^prompt_(id|name|type|style|hash|key)$"
)
VERSION_NAME = re.compile(
    r"(?i)(^|[\s_-])(v\d+|versions?|variants?|templates?|baseline|prompts?)(?=$|[\s_\d-])"
)
OF_ONE_CALL = re.compile(
    r"time|latency|duration|seconds|second|elapsed|_ms$|_s$|tokens?|cost|price|length|len|chars"
    r"|characters|words?|count|size|status|success|error|retries|attempts|temperature|top_[pk]"
)
"""Metrics that one call has, and no score."""

TEST_NAME = re.compile(
    r"(?i)(^|[\s_-])(smoke|test|health_?check|ping|warm_?up|dummy|sanity|debug)(?=$|[\s_-])"
)
LOOKUP_NAME = re.compile(
    r"(?i)(^(retriev(e|al|er)|search|embed(ding)?s?|rerank(ing|er)?|index(ing)?)([\s_-]|$))"
    r"|([\s_-](retriev(e|al|er)|search|embed(ding)?s?|rerank(ing|er)?|index(ing)?)[\s_\d-]*$)"
)
"""Names of steps that look texts up or embed them, whatever tokens they count."""

OF_LOOKED_UP = re.compile(rf"^{SIMILARITY}$")
"""Metrics over the documents that were looked up for one request."""

LOOKED_UP = re.compile(
    r"^((num|n|number_of|total)_)?((retrieved|source|context|relevant|reranked)_)?"
    r"(chunks|docs|documents|sources|contexts|passages)(_(retrieved|used|found))?$"
)
PART_OF_INDEX = re.compile(r"^chunk_?(size|overlap|length)|_chunk_(size|overlap)$")
"""Params of who builds an index."""

TEXT_LENGTH = re.compile(
    r"^(?!max_|min_|avg_|mean_)(\w+_)?(length|len|chars|characters|words|word_count|char_count)$"
    r"|^len(gth)?_(of_)?(the_)?(question|query|answer|response|reply|output|text|context)$"
)
TIME_WORDS = words("latency duration time elapsed took ms seconds secs sec s")
MEASURES = TIME_WORDS | words("tokens token cost usd")
"""Words of metrics that each call has, so that their averages are over many calls."""

EMBEDDING_WORDS = words("embed embedding embeddings embedder")
DATA_WORDS = words(
    "rows row records record columns csv parquet table tables chunks shards partitions"
)
"""Words of keys that count or name what a job on data reads and writes."""

PROMPT_WORDS = words("prompt prompts template instructions system persona")
"""Words of keys whose text is written by the author of an application, not by its user."""

USER_WORDS = words("user question query questions queries ask asked message request")
ASKING_WORDS = USER_WORDS - {"message", "request"}
WORDS_OF_AIMS = words("task goal objective message")
SURE_ANSWER_WORDS = words(
    "answer response reply completion respuesta resposta reponse antwort risposta 回答 generated"
)
API_ERROR = re.compile(
    r"(?i)openai|anthropic|gemini|langchain|litellm|ollama|bedrock|\bllm\b|rate.?limit|quota"
    r"|context.?length|max.?tokens|too many (tokens|requests)|api.?key|\b429\b|prompt|completion"
)
"""What errors of an LLM's API say."""

_SENTENCE_END = re.compile(r"(?<=[.!?。])\s*|\n")
LATENCY_MS = (30.0, 20 * 60_000.0)  # an answer of an LLM takes neither less nor more
LEAST_LENGTH_MS = 300  # a shorter run only logged something
STRONG_TEXT = 4  # a prompt, a question or an answer that is surely one
FAIR_TEXT = 3  # prose under a name that asks or answers
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
    own_text: bool  # it holds what a user asked, or an answer
    is_only_prompt: bool  # a prompt is all there is of a call
    many_cases: bool  # totals or averages over many cases
    has_failed: bool
    is_look_up: bool  # by its name, and nothing in it speaks of an LLM
    data_job: Sign | None  # it works on data, and nothing in it speaks of an LLM


class TextPoints(NamedTuple):
    """How surely a run holds what a user asked, a prompt of the author, and an answer."""

    asked: int
    prompt: int
    answer: int

    def of_report(self, *, is_picked: bool) -> TextPoints:
        """The points where the answer is a report, and no LLM is named: jobs write those, too.

        ``is_picked``: whether its sentences are those of the text that was given.
        """
        asked = min(self.asked, 1) if is_picked else self.asked
        return self._replace(asked=asked, answer=min(self.answer, 1))

    def as_pair(self) -> TextPoints:
        """The points in view of one another: something asked and an answer make a call."""
        has_given = bool(self.asked or self.prompt)
        if (self.answer > 1 and has_given) or (self.answer and self.asked > 1):
            return self._replace(answer=STRONG_TEXT)
        return self


class Evidence(NamedTuple):
    """What the rules look at in one run, found once."""

    view: RunView
    tokens: Tokens
    tokens_from: str  # where the tokens were logged
    asked_points: int  # how surely it holds what a user asked
    answer_points: int  # how surely it holds an answer
    prompt_points: int  # how surely it holds a prompt that the application's author wrote
    texts: tuple[Found, ...]  # the inputs and outputs that the points are for
    model: Found | None
    is_llm: bool  # the model is an LLM, by its name or its key
    latency: Found | None  # a duration that the call of an LLM can have
    failure: str  # the error that it logged; "failed" when it only failed; empty otherwise
    holds_many_answers: bool  # an output is a list of cases, each with its answer

    @classmethod
    def of(cls, view: RunView) -> Evidence:
        tokens, tokens_from = view.usage()
        given, got = view.inputs()[1], view.outputs()[1]
        model = view.model()
        is_llm = model is not None and _is_llm(model)
        points = _points_of_texts(view)
        if not is_llm and not tokens.are_known and got and all(map(is_report, got)):
            points = points.of_report(is_picked=_is_excerpt(got, given))
        points = points.as_pair()
        duration = view.duration_ms(None)
        is_plausible = duration is not None and LATENCY_MS[0] <= duration.ms <= LATENCY_MS[1]
        return cls(
            view=view,
            tokens=tokens,
            tokens_from=tokens_from,
            asked_points=points.asked,
            answer_points=points.answer,
            prompt_points=points.prompt,
            texts=(*given, *got),
            model=model,
            is_llm=is_llm,
            latency=duration.found if duration is not None and is_plausible else None,
            failure=_failure(view),
            holds_many_answers=any(
                are_answers(found.value, view.index.fields_of_param) for found in got
            ),
        )

    @property
    def text_points(self) -> int:
        """How surely it holds a text of a call. A prompt alone may be a version that is kept."""
        return max(self.asked_points, self.answer_points, self.prompt_points)

    @property
    def is_only_prompt(self) -> bool:
        """Whether a prompt is all there is: no question, no answer and nothing measured."""
        if self.asked_points or self.answer_points or self.failure or self.latency is not None:
            return False
        tokens = self.tokens
        is_length = self.tokens_from.startswith("param ")  # of the prompt, known beforehand
        if self.prompt_points == 0 or tokens.output or tokens.total:
            return False
        if tokens.input and not is_length:
            return False
        return not any(_is_answer_file(self.view, each.path) for each in self.run.artifacts)

    @property
    def is_only_report(self) -> bool:
        """Whether a report or a summary is all the text there is, and no tokens were counted."""
        is_report_only = bool(self.texts) and all(is_report(found) for found in self.texts)
        return is_report_only and not (self.tokens.input and self.tokens.output)

    @property
    def is_only_question(self) -> bool:
        """Whether nothing beside a question speaks of an LLM: no answer, model or tokens."""
        has_other = self.answer_points or self.is_llm or self.tokens.are_known
        return bool(self.asked_points) and not has_other

    @property
    def is_look_up(self) -> bool:
        """Whether its name is that of a look-up, and nothing in it speaks of an LLM."""
        has_call = self.is_llm or self.answer_points or self.prompt_points
        return not has_call and LOOKUP_NAME.search(self.run.name) is not None

    @property
    def run(self) -> RunRecord:
        return self.view.run


Rule = Callable[[Evidence], "Sign | None"]


def signs_of(view: RunView) -> Signs:
    """Weigh one run by itself."""
    evidence = Evidence.of(view)
    llm = _hits(LLM_RULES, evidence)
    is_timed = any(sign.kind == "time" for sign in llm)
    is_call = evidence.is_llm or evidence.text_points or evidence.tokens.are_known or is_timed
    if is_call or _holds_lengths_of_call(view.run):
        llm += _hits(CONTEXT_RULES, evidence)
    is_asked = evidence.asked_points > 0 and not evidence.is_only_prompt
    many_cases = _has_many_cases(view.run, is_asked=is_asked)
    return Signs(
        llm=tuple(llm),
        ml=tuple(_hits(ML_RULES, evidence)),
        own_text=_has_own_text(evidence, llm, many_cases=many_cases),
        is_only_prompt=evidence.is_only_prompt,
        many_cases=evidence.holds_many_answers or many_cases,
        has_failed=bool(evidence.failure),
        is_look_up=evidence.is_look_up,
        data_job=_works_on_data(evidence),
    )


def _has_own_text(evidence: Evidence, llm: Sequence[Sign], *, many_cases: bool) -> bool:
    """Whether a run holds what one user asked, or one answer."""
    if max(evidence.asked_points, evidence.answer_points) < FAIR_TEXT or evidence.is_look_up:
        return False
    if evidence.is_only_report and many_cases:
        return False  # what was found over many cases
    if not evidence.answer_points and any(
        SPREAD.search(normalise(key)) for key in evidence.run.metrics
    ):
        return False  # asked many times
    is_looked_up = any(sign.kind == "retrieval" for sign in llm)
    is_item = evidence.is_only_question and not is_looked_up  # of a survey, or of a benchmark
    return not (is_item and _counts_many(evidence.run))


def _points_of_texts(view: RunView) -> TextPoints:
    """Weigh the inputs and outputs of a run one by one."""
    given, got = view.inputs()[1], view.outputs()[1]
    loose = {found.at for found in view.loose().all()}
    is_pair = bool(given and got)
    points_of_loose = 1 if not is_pair and _only_kept(view.run) else WEAK_TEXT
    sure = _named_by_user(view)
    asked = prompt = answer = 0
    for found in given:
        points = STRONG_TEXT if found.at in sure else _asked_points(found)
        points = min(points, points_of_loose) if found.at in loose else points
        if not _is_prompt(found):
            asked = max(asked, points)
        elif _is_request(found) and not _keeps_versions(view):
            asked = max(asked, min(points, FAIR_TEXT))
        else:
            prompt = max(prompt, points)
    for found in got:
        points = STRONG_TEXT if found.at in sure else _answer_points(found)
        answer = max(answer, min(points, points_of_loose) if found.at in loose else points)
    if view.turn() is not None or view.every("calls"):
        asked = STRONG_TEXT
    return TextPoints(asked, prompt, answer)


def _hits(rules: Sequence[Rule], evidence: Evidence) -> list[Sign]:
    signs = [rule(evidence) for rule in rules]
    return [sign for sign in signs if sign is not None]


# ------------------------------------------------------------------------ rules for LLM work


def has_tokens(evidence: Evidence) -> Sign | None:
    """Token counts; less if all are 0, as when the logger could not read them."""
    tokens = evidence.tokens
    if not tokens.are_known or (not tokens.output and _only_embeds(evidence)):
        return None
    if tokens.input and tokens.output:
        return Sign("tokens", 4, f"tokens of a prompt and of its answer ({evidence.tokens_from})")
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
    """A model whose name, or whose key, is that of an LLM."""
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


def has_cost(evidence: Evidence) -> Sign | None:
    """A cost, where tokens were counted or an LLM is named."""
    is_of_llm = evidence.tokens.are_known or evidence.is_llm
    if is_of_llm and evidence.view.number("cost_usd"):
        return Sign("cost", 1, "a cost beside tokens or an LLM")
    return None


def has_time_of_llm(evidence: Evidence) -> Sign | None:
    """A duration whose name says that an LLM took it, for no more than a few things."""
    key = next((key for key in evidence.run.metrics if _is_time_of_llm(key)), None)
    if key is None or _counts_things(evidence.run):
        return None
    return Sign("time", 2, f"the time that an LLM took ({key})")


LLM_RULES: tuple[Rule, ...] = (
    has_tokens,
    has_text,
    names_llm,
    names_kind,
    has_cost,
    has_time_of_llm,
)
"""Evidence that speaks for LLM work by itself."""


# ------------------------------------------- rules that count beside tokens, a text or an LLM


def has_session(evidence: Evidence) -> Sign | None:
    if evidence.view.first("session") or evidence.view.first("user"):
        return Sign("session", 1, "a session or user id")
    return None


def has_latency(evidence: Evidence) -> Sign | None:
    """A duration that the call of an LLM can have: not 2 ms, and not an hour."""
    if evidence.latency is None:
        return None
    return Sign("latency", 1, f"a latency ({evidence.latency.origin})")


def has_failed(evidence: Evidence) -> Sign | None:
    """An error; more if it is one that the API of an LLM raises."""
    if not evidence.failure:
        return None
    if API_ERROR.search(evidence.failure):
        return Sign("failure", 2, "an error such as an LLM's API raises")
    return Sign("failure", 1, "it failed")


def has_retrieval(evidence: Evidence) -> Sign | None:
    """Settings or counts of a retrieval, beside what was asked."""
    if not evidence.asked_points:
        return None
    key = retrieval_key(evidence.run)
    return None if key is None else Sign("retrieval", 3, f"a retrieval beside the question ({key})")


def has_looked_up(evidence: Evidence) -> Sign | None:
    """A few documents that were looked up for a call, where no text of it was logged.

    The run names an LLM, or how long a question or an answer was. Whoever builds an index counts
    its parts, too, and logs the size of one.
    """
    run = evidence.run
    has_length = any(map(_is_length_of_call, (*run.metrics, *run.params)))
    if evidence.text_points or not (evidence.is_llm or has_length):
        return None
    if any(PART_OF_INDEX.search(normalise(key)) for key in run.params):
        return None
    points = 1 if evidence.is_llm else 2
    count = _count_of_looked_up(run)
    if count is not None and (has_length or evidence.latency is not None):
        return Sign("looked up", points, f"a few documents that were looked up ({count})")
    setting = retrieval_key(run)
    if setting is not None and has_length:
        return Sign("looked up", points, f"the settings of a look-up ({setting})")
    return None


def has_media(evidence: Evidence) -> Sign | None:
    """An image, a recording or a video that an LLM was given."""
    media = media_of(evidence.run) if evidence.is_llm else ()
    if not media:
        return None
    return Sign("media", 2, f"an image or a recording beside an LLM ({media[0].origin})")


def has_text_lengths(evidence: Evidence) -> Sign | None:
    """Lengths of texts that were not logged themselves; more if there are two."""
    names = [key for key in (*evidence.run.metrics, *evidence.run.params) if _is_text_length(key)]
    if not names:
        return None
    why = f"lengths of texts ({', '.join(sorted(names)[:3])})"
    return Sign("lengths", 1 if len(names) == 1 else 2, why)


def names_several_models(evidence: Evidence) -> Sign | None:
    """Two or more models under keys of their own, as the steps of a workflow have."""
    keys = {found.key for found in evidence.view.models()}
    if len(keys) < 2 or not evidence.is_llm:
        return None
    return Sign("models", 1, f"{len(keys)} models ({', '.join(sorted(keys)[:3])})")


def has_status(evidence: Evidence) -> Sign | None:
    if evidence.view.every("status") or evidence.view.every("success"):
        return Sign("status", 1, "a status of its own")
    return None


def has_sampling_settings(evidence: Evidence) -> Sign | None:
    if any(normalise(key) in SETTINGS for key in evidence.run.params):
        return Sign("settings", 1, "sampling settings")
    return None


CONTEXT_RULES: tuple[Rule, ...] = (
    has_session,
    has_latency,
    has_status,
    has_failed,
    has_sampling_settings,
    has_retrieval,
    has_looked_up,
    has_media,
    has_text_lengths,
    names_several_models,
)
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
    """The class that a model put a text into, where no user asked and no LLM answered."""
    has_call = evidence.is_llm or evidence.answer_points or evidence.tokens.are_known
    if has_call or any(not USER_WORDS.isdisjoint(each.stem.split("_")) for each in evidence.texts):
        return None
    classes = {key: text for key, text in evidence.run.params.items()} | {
        key: "" for key in evidence.run.metrics
    }
    for key, text in classes.items():
        is_class = not PREDICTED_WORDS.isdisjoint(normalise(key).split("_"))
        if is_class and kind_of_text(text) < Prose.PROSE:
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


# --------------------------------------------------------------------------- small readings


def _is_llm(model: Found) -> bool:
    kind = kind_of_model(str(model.value))
    kind_of_key = kind_of_model_key(normalise(model.key))
    if kind is ModelKind.VENDOR:
        return kind_of_key is not None or "llm" in model.key.lower()
    return kind is ModelKind.LLM or kind_of_key is ModelKey.OF_LLM


def _failure(view: RunView) -> str:
    status = run_status(view)
    if status.word != "ERROR":
        return ""
    return f"{status.error_type} {status.error_message}".strip() or "failed"


def _works_on_data(evidence: Evidence) -> Sign | None:
    """Counts of rows and the like, or embeddings, where nothing speaks of an LLM."""
    if evidence.is_llm or evidence.text_points or evidence.tokens.output:
        return None
    keys = (*evidence.run.params, *evidence.run.metrics)
    named = [key for key in keys if not DATA_WORDS.isdisjoint(normalise(key).split("_"))]
    if named:
        return Sign("data", -3, f"a job on data ({min(named)})")
    return Sign("data", -3, "a job on embeddings") if _only_embeds(evidence) else None


def _only_kept(run: RunRecord) -> bool:
    """Whether a run kept something and measured nothing, as one for a configuration does."""
    if run.metrics or run.start_ms is None or run.end_ms is None:
        return False
    return run.end_ms - run.start_ms < LEAST_LENGTH_MS


def _only_embeds(evidence: Evidence) -> bool:
    """Whether a run names a model of embeddings and no LLM, and holds no text of a call."""
    if evidence.is_llm or evidence.text_points:
        return False
    names = (*evidence.run.params, *evidence.run.tags)
    return any(not EMBEDDING_WORDS.isdisjoint(normalise(name).split("_")) for name in names)


def _is_prompt(found: Found) -> bool:
    """Whether an input is a prompt of the application's author: no user's words, no question."""
    parts = found.stem.split("_")
    if found.place == "artifact":
        parts += normalise(found.key.rpartition("/")[0]).split("_")  # prompts/planner.txt
    if PROMPT_WORDS.isdisjoint(parts) or not USER_WORDS.isdisjoint(parts):
        return False
    text = found.value
    is_question = isinstance(text, str) and len(text) < 300 and text.rstrip().endswith("?")
    return not is_question


def _named_by_user(view: RunView) -> frozenset[tuple[str, str, str]]:
    """Where the texts stand that a profile of the user's own lists for inputs and outputs."""
    places: set[tuple[str, str, str]] = set()
    for name in ("inputs", "outputs"):
        for source in view.profile.own.get(name, ()):
            places.update(found.at for found in view.all(source))
    return frozenset(places)


def _is_request(found: Found) -> bool:
    """Whether a prompt is what a user asked, and not a text that serves many questions."""
    return isinstance(found.value, str) and is_one_request(found.value)


def _keeps_versions(view: RunView) -> bool:
    """Whether a run is one version of a prompt among others: it says so, or scores it."""
    run = view.run
    if VERSION_NAME.search(run.name):
        return True
    for values in (run.params, run.tags):
        if any(_is_of_version(normalise(key), text) for key, text in values.items()):
            return True
    return any(_is_score(view, key) for key in run.metrics)


def _is_of_version(key: str, text: str) -> bool:
    """Whether a (normalised) key names a version, but not with a model in it."""
    return VERSION_KEY.search(key) is not None and kind_of_model(text) is not ModelKind.LLM


def _is_score(view: RunView, metric: str) -> bool:
    """Whether a metric is neither a known one of calls nor the length of a text."""
    name = normalise(metric)
    is_of_call = bool(view.index.fields_of("metric", name)) or OF_ONE_CALL.search(name) is not None
    return not is_of_call


def _is_excerpt(got: Sequence[Found], given: Sequence[Found]) -> bool:
    """Whether all sentences of an output stand in an input: nothing was written."""
    source = "\n".join(found.value for found in given if isinstance(found.value, str))
    written = "\n".join(str(found.value) for found in got)
    sentences = [sentence.strip() for sentence in _SENTENCE_END.split(written)]
    return bool(got) and all(sentence in source for sentence in sentences)


def _asked_points(found: Found) -> int:
    """How surely an input is a question, a request or a prompt: 0 to 4."""
    value = found.value
    if not isinstance(value, str):
        return STRONG_TEXT if encoding.is_chat(value) else WEAK_TEXT
    kind = kind_of_text(value)
    parts = found.stem.split("_")
    is_sure = not SURE_QUESTION_WORDS.isdisjoint(parts) or not PROMPT_WORDS.isdisjoint(parts)
    if found.place == "artifact":
        if is_sure and value.strip() and as_number(value) is None:
            return STRONG_TEXT
        return WEAK_TEXT if kind else 0
    is_foreign = len(value) > 3 and not value.isascii()
    if is_sure:
        if kind >= Prose.TERMS or (kind and is_foreign):
            return STRONG_TEXT
        return FAIR_TEXT if kind and "user" in parts else 0  # "hello" is a message of a user
    if kind is Prose.PROSE and parts[-1] in WORDS_OF_AIMS:
        return 1  # jobs of every kind have a task, a goal and a message in words
    if kind is Prose.REQUEST:
        is_of_user = not ASKING_WORDS.isdisjoint(parts)  # commits and jobs are told to do, too
        return STRONG_TEXT if is_of_user or asks(value) else FAIR_TEXT
    points_of_terms = WEAK_TEXT if parts[-1] == "topic" else 1  # what a text is to be about
    return {Prose.PROSE: FAIR_TEXT, Prose.TERMS: points_of_terms}.get(kind, 0)


def _answer_points(found: Found) -> int:
    """How surely an output is an answer: 0 to 4."""
    value = found.value
    if not isinstance(value, str):
        is_of_api = isinstance(value, Mapping) and answer_of(value) is not None
        return STRONG_TEXT if is_of_api else WEAK_TEXT
    parts = found.stem.split("_")
    kind = kind_of_text(value)
    if not SURE_ANSWER_WORDS.isdisjoint(parts):
        is_text = bool(value.strip()) and as_number(value) is None
        if found.place == "artifact" and is_text:
            return STRONG_TEXT
        is_foreign = len(value) > 3 and not value.isascii()
        return STRONG_TEXT if kind >= Prose.TERMS or (kind and is_foreign) else 0
    if kind >= Prose.PROSE:
        return FAIR_TEXT if found.place == "artifact" else WEAK_TEXT
    return WEAK_TEXT if found.place == "artifact" and value.strip() else 0


def _is_answer_file(view: RunView, path: str) -> bool:
    """Whether an artifact has the name of an answer, be it one that could not be read as text."""
    return any(source.field == "outputs" for source in view.index.sources_at(path))


def _has_many_cases(run: RunRecord, *, is_asked: bool) -> bool:
    """Whether a run holds totals or averages over several cases.

    ``is_asked``: whether it holds what was asked, for which several documents were looked up.
    """
    is_of_one_text = any(map(_is_text_length, run.metrics))
    is_of_one_call = is_of_one_text or any(map(_is_length_of_call, run.params))
    for key in run.metrics:
        name = normalise(key)
        is_of_parts = is_of_one_call and MEASURES.isdisjoint(name.split("_"))
        is_of_parts = is_of_parts or (is_asked and OF_LOOKED_UP.match(name) is not None)
        if MANY_CASES.search(name) and not is_of_parts:
            return True
    if not is_of_one_text and any(_counts_cases(run, *number) for number in _numbers(run)):
        return True
    return _counts_many(run)


def _counts_cases(run: RunRecord, key: str, count: float) -> bool:
    """Whether a (normalised) key counts several cases, and not the rounds of one loop."""
    if count <= 1 or not CASE_COUNT.match(key):
        return False
    return not any(normalise(param) == f"max_{key.rpartition('_')[2]}" for param in run.params)


def _counts_many(run: RunRecord) -> bool:
    """Whether a run counts documents, responses or results, and more than one request has."""
    for name, count in _numbers(run):
        if count >= LEAST_BULK and (BULK_COUNT.match(name) or RESULT_COUNT.match(name)):
            return True
    return False


def _counts_things(run: RunRecord) -> bool:
    """Whether a run counts more things, of any name, than one call has."""
    for name, count in _numbers(run):
        is_of_one = OF_ONE_CALL.search(name) or RETRIEVAL.match(name)
        if count >= LEAST_BULK and COUNT_OF_THINGS.match(name) and not is_of_one:
            return True
    return False


def _numbers(run: RunRecord) -> Iterator[tuple[str, float]]:
    """The metrics and the params of a run that are numbers, with normalised keys."""
    for key, points in run.metrics.items():
        yield normalise(key), last_value(points)
    for key, text in run.params.items():
        yield normalise(key), as_number(text) or 0


@lru_cache(maxsize=10_000)
def _is_text_length(key: str) -> bool:
    """Whether a key counts the characters or words of a text that was asked or answered."""
    name = normalise(key)
    return TEXT_LENGTH.match(name) is not None and PROMPT_WORDS.isdisjoint(name.split("_"))


def _is_length_of_call(key: str) -> bool:
    """Whether a key says how long a question or an answer was."""
    return _is_length_of(key, USER_WORDS | SURE_ANSWER_WORDS)


@lru_cache(maxsize=10_000)
def _is_length_of(key: str, nouns: frozenset[str]) -> bool:
    return _is_text_length(key) and not nouns.isdisjoint(normalise(key).split("_"))


def _holds_lengths_of_call(run: RunRecord) -> bool:
    """Whether a run says how long a question was, and its answer or what was looked up for it."""
    keys = (*run.metrics, *run.params)
    if not any(_is_length_of(key, USER_WORDS) for key in keys):
        return False
    is_answered = any(_is_length_of(key, SURE_ANSWER_WORDS) for key in keys)
    return is_answered or _count_of_looked_up(run) is not None


def _count_of_looked_up(run: RunRecord) -> str | None:
    """The (normalised) key that counts the few documents of one look-up; None without one."""
    for name, count in _numbers(run):
        if LOOKED_UP.match(name) and 0 < count < LEAST_BULK:
            return name
    return None


@lru_cache(maxsize=10_000)
def _is_time_of_llm(key: str) -> bool:
    parts = frozenset(normalise(key).split("_"))
    return "llm" in parts and not parts.isdisjoint(TIME_WORDS) and OF_MANY_CALLS.isdisjoint(parts)


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
    return name.startswith(("val_", "train_")) or not ML_WORDS.isdisjoint(parts)
