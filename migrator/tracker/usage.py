"""Token counts, wherever a library put them: attributes, dictionaries, old and new names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from migrator import conventions as conv
from migrator.tracker.values import attribute_of

INPUT_KEYS = (
    "input_tokens",  # LangChain, Anthropic, OpenAI's responses, MLflow
    "prompt_tokens",  # OpenAI's chat completions
    "prompt_token_count",  # Google
    "promptTokenCount",  # its REST form
    "inputTokens",  # Bedrock
)
OUTPUT_KEYS = (
    "output_tokens",
    "completion_tokens",
    "candidates_token_count",
    "candidatesTokenCount",
    "outputTokens",
)
TOTAL_KEYS = ("total_tokens", "total_token_count", "totalTokenCount", "totalTokens")
# Kinds of tokens. A dot leads into the object that holds the details.
CACHE_READ_KEYS = (
    "cache_read_input_tokens",  # Anthropic, MLflow, LiteLLM
    "prompt_tokens_details.cached_tokens",  # OpenAI's chat completions
    "input_tokens_details.cached_tokens",  # OpenAI's responses
    "input_token_details.cache_read",  # LangChain
    "cached_content_token_count",  # Google
    "cachedContentTokenCount",
    "cacheReadInputTokens",  # Bedrock
    "prompt_cache_hit_tokens",  # DeepSeek
)
CACHE_WRITE_KEYS = (
    "cache_creation_input_tokens",
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "input_token_details.cache_creation",
    "cacheWriteInputTokens",
)
# Anthropic keeps what is written for an hour apart from what is written for five minutes.
CACHE_WRITE_1H_KEYS = (
    "cache_creation_input_tokens_above_1hr",  # MLflow
    "cache_creation.ephemeral_1h_input_tokens",  # Anthropic
    "input_token_details.ephemeral_1h_input_tokens",  # LangChain, which then leaves the sum at 0
)
CACHE_WRITE_5M_KEYS = (
    "cache_creation.ephemeral_5m_input_tokens",
    "input_token_details.ephemeral_5m_input_tokens",
)
REASONING_KEYS = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_token_details.reasoning",
    "thoughts_token_count",
    "thoughtsTokenCount",
    "reasoning_tokens",
)
# Where a response keeps its counts; asked in this order.
HOLDERS = (
    "usage_metadata",
    "usageMetadata",
    "usage",
    "token_usage",
    "response_metadata",
    "llm_output",
)
MODEL_KEYS = ("model", "model_name", "model_id", "model_version")

# Attributes of a tracked span with tokens of its own.
CALLS = "calls"  # how many calls they are
UNPRICED = "unpriced_models"  # names that the price table doesn't know; its cost leaves them out
REPORTED = "reported_tokens"  # tokens that a node reported of calls recorded below it


class Usage(NamedTuple):
    """Tokens of one call or several. The kinds are parts of the input or of the output."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0  # of the input
    cache_write_tokens: int = 0  # of the input
    cache_write_1h_tokens: int = 0  # of those written to a cache: to be kept for an hour
    reasoning_tokens: int = 0  # of the output

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def plus(self, other: Usage) -> Usage:
        """Add the counts of another."""
        return Usage(*(mine + its for mine, its in zip(self, other, strict=True)))

    def is_same_call(self, other: Usage) -> bool:
        """Return True if both have the same input and output: a report may leave out the kinds."""
        return self[:2] == other[:2]

    def as_attribute(self) -> dict[str, int]:
        """Convert to the form of the attribute ``mlflow.chat.tokenUsage``, without empty kinds."""
        kinds = {
            conv.USAGE_CACHED: self.cache_read_tokens,
            conv.USAGE_CACHE_WRITTEN: self.cache_write_tokens,
            conv.USAGE_CACHE_WRITTEN_1H: self.cache_write_1h_tokens,
            conv.PLAIN_REASONING: self.reasoning_tokens,
        }
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
        } | {kind: tokens for kind, tokens in kinds.items() if tokens}


NO_TOKENS = Usage(0, 0)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model, as a node or another span reports it."""

    usage: Usage  # both 0: not captured
    model: str | None
    provider: str | None
    start_ns: int  # not before the end of what the span did before
    end_ns: int  # when it was reported
    prompt: Any = None  # as far as it may be recorded
    response: Any = None


def usage_of(response: Any, depth: int = 3) -> Usage | None:
    """Read the token counts of a response; None where there are none.

    Reads dictionaries and objects alike: LangChain's ``usage_metadata`` is a dictionary, and the
    legacy tracker, which took it for an object, always found 0. Counts that are both 0 were not
    captured.
    """
    if response is None or depth == 0:
        return None
    given, got = _first(response, INPUT_KEYS), _first(response, OUTPUT_KEYS)
    if given is not None or got is not None:
        usage = _with_kinds(response, given or 0, got or 0)
        return usage if usage.total_tokens else None
    for holder in HOLDERS:
        found = usage_of(attribute_of(response, holder), depth - 1)
        if found is not None:
            return found
    return None


def _with_kinds(response: Any, given: int, got: int) -> Usage:
    """Read the kinds, and add those that are counted beside the input or output.

    Anthropic and Bedrock count cached tokens beside their input, Google and xAI reasoning tokens
    beside their output. A total tells: it is larger than input and output by just these.
    """
    read = _first(response, CACHE_READ_KEYS) or 0
    written_1h = _first(response, CACHE_WRITE_1H_KEYS) or 0
    written_5m = _first(response, CACHE_WRITE_5M_KEYS) or 0
    written = max(_first(response, CACHE_WRITE_KEYS) or 0, written_1h + written_5m)
    reasoning = _first(response, REASONING_KEYS) or 0
    total = _first(response, TOTAL_KEYS)
    if total is None:  # Anthropic: all others state a total, or no kinds
        is_beside_input = _first(
            response, ("cache_read_input_tokens", "cache_creation_input_tokens")
        )
        beside_input, beside_output = (read + written if is_beside_input is not None else 0), 0
    else:
        beside_input, beside_output = _beside(total - given - got, read + written, reasoning)
    given, got = given + beside_input, got + beside_output
    read = min(read, given)
    written = min(written, given - read)
    return Usage(given, got, read, written, min(written_1h, written), min(reasoning, got))


def _beside(missing: int, cached: int, reasoning: int) -> tuple[int, int]:
    """Name the kinds that the total has beside input and output: ``missing`` tokens in all."""
    if missing <= 0:
        return 0, 0
    for beside in ((cached, 0), (0, reasoning), (cached, reasoning)):
        if sum(beside) == missing:
            return beside
    return 0, reasoning if reasoning <= missing else 0  # Google: tokens of tools are missing, too


def model_of(response: Any, depth: int = 2) -> str | None:
    """Read the name of the model that gave a response; None where it doesn't say."""
    if response is None or depth == 0:
        return None
    for key in MODEL_KEYS:
        value = attribute_of(response, key)
        if isinstance(value, str) and value:
            return value
    return model_of(attribute_of(response, "response_metadata"), depth - 1)


def _first(holder: Any, keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = holder
        for step in key.split("."):
            value = None if value is None else attribute_of(value, step)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            return int(value)
    return None
