"""What is found in runs: values with their place, and statuses, judgements and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from migrator.model import Json, SpanEvent, SpanType
from migrator.transformer.profiles import normalise


class Found(NamedTuple):
    """A value and the place where it was logged. (A NamedTuple: there are dozens for each run.)"""

    value: Json
    place: str  # param | metric | tag | artifact
    key: str  # as the run spells it; an artifact's path
    inside: str = ""  # the key inside the logged value; empty: all of it
    is_of_call: bool = False  # a part of a whole call, which was known by its shape

    @property
    def origin(self) -> str:
        """The place in words, such as ``metric latency_ms``."""
        at = f"{self.place} {self.key}"
        return f"{at}#{self.inside}" if self.inside else at

    @property
    def at(self) -> tuple[str, str, str]:
        """Where it was logged, for comparisons."""
        return self.place, self.key, self.inside

    @property
    def stem(self) -> str:
        """The normalised key; of an artifact its file name without the ending."""
        if self.inside:
            return normalise(self.inside)
        name = self.key
        if self.place == "artifact":
            parts = name.split("/")
            name = parts[-1]
            if len(parts) > 1 and "." in parts[-2]:  # a file in a folder with the wanted name
                name = parts[-2]
            name = name.rsplit(".", 1)[0]
        return normalise(name)


class Tokens(NamedTuple):
    """Token counts as they were logged; None where there is no count."""

    input: float | None = None
    output: float | None = None
    total: float | None = None

    @property
    def are_known(self) -> bool:
        """Whether at least one count was logged, be it 0."""
        return self.input is not None or self.output is not None or self.total is not None


LONGEST_MS = 7 * 86_400_000.0  # a logged duration above a week is not believed
MOST_TOKENS = 10**12  # a larger number is not a count of tokens
MOST_USD = 10.0**9  # a larger number is not a cost


class Duration(NamedTuple):
    """A logged duration in ms, where it was logged, and what was assumed about its unit."""

    ms: float
    found: Found
    assumed: str  # empty when the unit is known


NO_TOKENS = Tokens()


@dataclass(frozen=True, slots=True)
class Status:
    """How a run or a call ended, by the best evidence there is."""

    word: str  # OK | ERROR | UNSET
    because: str  # the evidence, as "metric status = 0"
    explicit: bool  # more than the run's own status
    error_type: str = ""
    error_message: str = ""
    stack_trace: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A value that says how good something was (feedback), or what it should have been."""

    name: str
    value: Json
    type: str  # feedback | expectation
    source_type: str  # HUMAN | LLM_JUDGE | CODE
    source_id: str
    rationale: str
    origin: str
    recorded: str = ""  # the text that a verdict was read from


@dataclass(frozen=True, slots=True)
class Step:
    """A call that a run recorded in its own metrics or files: a metric's point, an event, a row.

    What is not known is None; times are in ms. ``steps`` are the calls made inside this one.
    """

    key: str  # unique in its run; the span's id is made from it
    name: str
    type: str = SpanType.LLM
    start_ms: float | None = None
    end_ms: float | None = None
    duration_ms: float | None = None
    inputs: Json = None
    outputs: Json = None
    usage: Tokens = NO_TOKENS
    token_details: Mapping[str, float] = field(default_factory=dict)  # by the profile's field
    cost_usd: float | None = None
    model: Found | None = None
    provider: Found | None = None
    session: str | None = None
    status: Status | None = None  # None: nothing speaks against success
    events: tuple[SpanEvent, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)  # attributes below "legacy."
    judged: tuple[Judged, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    inferences: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
