"""What many runs logged under one key, and what the words of its name hint at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from migrator.model import Json
from migrator.transformer.payloads import is_chat_log
from migrator.transformer.profiles import normalise
from migrator.transformer.values import as_number

MOST_RUNS = 0.8  # a rule that holds for this share of runs holds
MOST_NESTED = 2  # so many levels of the objects in a JSON file are looked into
LEAST_PAIRS = 3  # so many runs must agree before a rule is believed

HINTS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"(?:^|_)(?:{pattern})(?:_|$)")
    for name, pattern in {
        "inputs": r"question|query|prompt|request|input|ask(ed)?|user_\w+|message|task|instruction",
        "outputs": r"answer|response|reply|output|completion|result|generated|summary|said|text",
        "session": r"session|conversation|conv|thread|chat|dialog(ue)?|call_id|ticket|case",
        "user": r"users?|customer|client|email|member|account|owner",
        "input_tokens": r"in|input|prompt|sent|question|read|given",
        "output_tokens": r"out|output|completion|generated|answer|response|written|got",
        "total_tokens": r"total|all|sum|tokens?|toks?|used",
        "cost_usd": r"costs?|usd|price|dollars?|spend|spent|bill",
        "duration": r"time|latency|duration|elapsed|secs?|seconds|ms|took|wait",
        "score": r"scores?|rating|grade|quality|relevance|faithful\w*|stars|points|confidence",
        "error": r"error|err|exception|failure|traceback|reason",
    }.items()
}  # fmt: skip


@dataclass(slots=True)
class LoggedKey:
    """The values that were seen of a key."""

    source: str  # as in a profile: "param:question"
    values: dict[str, Json] = field(default_factory=dict)  # by run
    roots: set[str] = field(default_factory=set)  # runs that are roots
    failed: int = 0  # of the runs with it

    @property
    def name(self) -> str:
        """The plain key, without its place and the ending of a file."""
        text = self.source.partition(":")[2]
        inside = text.rpartition("#")[2]
        return normalise(inside.rpartition("/")[2].rsplit(".", 1)[0] if "#" not in text else inside)

    def texts(self) -> list[str]:
        """The values that are texts."""
        return [value for value in self.values.values() if isinstance(value, str)]

    def numbers(self) -> dict[str, float]:
        """The values that are numbers, by run."""
        found = {run_id: as_number(value) for run_id, value in self.values.items()}
        return {run_id: number for run_id, number in found.items() if number is not None}


def values_inside(
    value: Mapping[str, Json], depth: int = MOST_NESTED
) -> Iterator[tuple[str, Json]]:
    """Yield the values of a JSON object by their keys, as a profile names them: ``request.text``.

    An object inside it gives its own values, unless it holds a chat.
    """
    for key, inside in value.items():
        if not re.fullmatch(r"[\w-]+", str(key)):
            continue
        if depth > 1 and isinstance(inside, Mapping) and not is_chat_log(inside):
            for inner, each in values_inside(inside, depth - 1):
                yield f"{key}.{inner}", each
        else:
            yield str(key), inside
