"""Token counts, wherever a library put them: attributes, dictionaries, old and new names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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
# Anthropic counts these beside its input tokens; everybody else counts them in.
BESIDE_INPUT_KEYS = ("cache_read_input_tokens", "cache_creation_input_tokens")
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


class Usage(NamedTuple):
    """Tokens of one call or several."""

    input_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens

    def plus(self, other: Usage) -> Usage:
        """Add the counts of another."""
        return Usage(
            self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens
        )

    def as_attribute(self) -> dict[str, int]:
        """Convert to the form of the attribute ``mlflow.chat.tokenUsage``."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
        }


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
        usage = Usage((given or 0) + _beside_input(response), got or 0)
        return usage if usage.total_tokens else None
    for holder in HOLDERS:
        found = usage_of(_get(response, holder), depth - 1)
        if found is not None:
            return found
    return None


def _beside_input(response: Any) -> int:
    """Tokens that were read from a cache or written to it and aren't among the input tokens."""
    if _get(response, "total_tokens") is not None:  # MLflow's own counts: they are among them
        return 0
    return sum(_first(response, (key,)) or 0 for key in BESIDE_INPUT_KEYS)


def model_of(response: Any, depth: int = 2) -> str | None:
    """Read the name of the model that gave a response; None where it doesn't say."""
    if response is None or depth == 0:
        return None
    for key in MODEL_KEYS:
        value = _get(response, key)
        if isinstance(value, str) and value:
            return value
    return model_of(_get(response, "response_metadata"), depth - 1)


def _get(holder: Any, key: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(key)
    return None if isinstance(holder, str | list | tuple) else getattr(holder, key, None)


def _first(holder: Any, keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = _get(holder, key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            return int(value)
    return None
