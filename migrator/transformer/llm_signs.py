"""Rules for evidence of LLM work: one looks at one run's ``Evidence`` and gives a ``Sign`` or None.

To add one, write it and list it: in ``LLM_RULES`` if it speaks for LLM work by itself, in
``CONTEXT_RULES`` if it does so only beside other evidence. Words that mean one thing in LLM work
and another in ordinary machine learning (``session_id`` is PyCaret's random seed, ``cost`` that of
a path) count for nothing alone.
"""

from __future__ import annotations

import re

from migrator.transformer.counted_cases import (
    calls_of_llm,
    count_of_looked_up,
    counts_things,
    is_length_of_call,
    is_text_length,
    steps_with_tokens,
    times_of_llm,
)
from migrator.transformer.evidence import Evidence, Rule, Sign
from migrator.transformer.media import media_of
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.profiles import normalise
from migrator.transformer.text_names import retrieval_key
from migrator.transformer.values import words

SETTINGS = words("temperature max_tokens top_p llm_temperature max_output_tokens")
PART_OF_INDEX = re.compile(r"^chunk_?(size|overlap|length)|_chunk_(size|overlap)$")
"""Params of who builds an index."""

API_ERROR = re.compile(
    r"(?i)openai|anthropic|gemini|langchain|litellm|ollama|bedrock|\bllm\b|rate.?limit|quota"
    r"|context.?length|max.?tokens|too many (tokens|requests)|api.?key|\b429\b|prompt|completion"
)
"""What errors of an LLM's API say."""


def has_tokens(evidence: Evidence) -> Sign | None:
    """Token counts; less if all are 0, as when the logger could not read them."""
    tokens = evidence.tokens
    if not tokens.are_known or (not tokens.output and evidence.is_embedding_only):
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


def has_work_of_llm(evidence: Evidence) -> Sign | None:
    """What a run measured of an LLM: tokens of a step, a few calls, a time; not for many things."""
    run = evidence.run
    if counts_things(run):
        return None
    if steps := steps_with_tokens(run):
        return Sign("work", 4, f"the tokens of a step and its time ({steps[0]})")
    if (calls := calls_of_llm(run)) is not None:
        return Sign("work", 3, f"a few calls of an LLM ({calls})")
    times = times_of_llm(run)
    return Sign("work", 2, f"the time that an LLM took ({times[0]})") if times else None


LLM_RULES: tuple[Rule, ...] = (
    has_tokens,
    has_text,
    names_llm,
    names_kind,
    has_cost,
    has_work_of_llm,
)
"""Evidence that speaks for LLM work by itself."""


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
    has_length = any(map(is_length_of_call, (*run.metrics, *run.params)))
    if evidence.text_points or not (evidence.is_llm or has_length):
        return None
    if any(PART_OF_INDEX.search(normalise(key)) for key in run.params):
        return None
    points = 1 if evidence.is_llm else 2
    count = count_of_looked_up(run)
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
    names = [key for key in (*evidence.run.metrics, *evidence.run.params) if is_text_length(key)]
    if not names:
        return None
    why = f"lengths of texts ({', '.join(sorted(names)[:3])})"
    return Sign("lengths", 1 if len(names) == 1 else 2, why)


def names_several_models(evidence: Evidence) -> Sign | None:
    """Two or more models under keys of their own, as a workflow's steps have, or one's vendor."""
    kinds = {each.key: kind_of_model(str(each.value)) for each in evidence.view.models()}
    keys = [key for key, kind in kinds.items() if kind in (ModelKind.LLM, ModelKind.VENDOR)]
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
