"""What a node of a trace was made from: a run, or a call that a run recorded in its own files.

``RunSource`` and ``StepSource`` answer the same questions, so the passes over a trace's nodes and
``spans.plan_span`` never ask which of the two they have. Where the two differ by nature, the
answer says how: a run can be completed from the runs below it, while a recorded call says all there
is about itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from migrator import encoding
from migrator.model import Json, RunRecord, SpanEvent, SpanType
from migrator.transformer.chat_messages import FRAMING, Turn
from migrator.transformer.clocks import EARLIEST_MS, LATEST_MS, MS
from migrator.transformer.found import (
    LONGEST_MS,
    MOST_TOKENS,
    MOST_USD,
    NO_TOKENS,
    Duration,
    Found,
    Judged,
    Status,
    Step,
    Tokens,
)
from migrator.transformer.input_parts import SYSTEM_STEMS, joined
from migrator.transformer.judgements import judgements
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.profiles import Source, SpanRule, normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.statuses import run_status
from migrator.transformer.steps.pairs import Pair, without
from migrator.transformer.text_names import is_for_next_step, judges
from migrator.transformer.values import as_number

NOTHING: Mapping[str, Any] = MappingProxyType({})
MODEL_TYPES = (SpanType.LLM, SpanType.CHAT_MODEL, SpanType.EMBEDDING)
COSTS = (
    ("input_cost", "input_cost_usd"),
    ("output_cost", "output_cost_usd"),
    ("total_cost", "cost_usd"),
)
"""The keys of MLflow's cost attribute, each with the profile's field."""


@dataclass(frozen=True, slots=True)
class NativeTraces:
    """The traces of the source that MLflow wrote itself."""

    by_run: Mapping[str, tuple[str, ...]]
    ids: frozenset[str]  # all of them, for runs that name theirs in a tag, a param or a file

    def written_in(self, run: RunRecord) -> tuple[str, ...]:
        """The traces that MLflow wrote while the run was active."""
        return self.by_run.get(run.run_id, ())

    def of(self, view: RunView) -> tuple[str, ...]:
        """The traces that were written in a run; without any, those that the run names."""
        written = self.written_in(view.run)
        if written or not self.ids:
            return written
        named = [str(found.value).strip() for found in view.every("native_trace")]
        return tuple(name for name in named if name in self.ids or f"tr-{name}" in self.ids)


@dataclass(slots=True)
class Times:
    """Start and end as recorded (None: not recorded), and what was found on reading them."""

    start_ns: int | None = None
    end_ns: int | None = None
    origins: dict[str, str] = field(default_factory=dict)
    inferences: list[str] = field(default_factory=list)
    implausible: str = ""  # what is wrong with the recorded times; empty: nothing


class Content(NamedTuple):
    """Inputs and outputs of a span, and where they were logged."""

    inputs: Json
    outputs: Json
    used: tuple[Found, ...] = ()  # the values that they were made of
    origins: Mapping[str, str] = NOTHING
    is_for_next_step: bool = False  # the outputs, by their name
    is_judgement: bool = False  # on the outputs of other steps


class Answer(NamedTuple):
    """A text about a node, and the reason for it or the place it comes from."""

    text: str
    origin: str


class Counted(NamedTuple):
    """Tokens of a node itself, where they were logged, and what is odd about them."""

    tokens: Tokens = NO_TOKENS
    origin: str = ""
    inference: str = ""


class Priced(NamedTuple):
    """Cost in USD of a node itself under MLflow's keys (empty: unknown), and its place."""

    cost: Mapping[str, Json] = NOTHING
    origin: str = ""


class Place(NamedTuple):
    """Where a node stands in its trace."""

    is_root: bool
    is_leaf: bool


@dataclass(slots=True, eq=False)
class NodeSource(ABC):
    """What a node was made from. ``view`` is the run itself, or the run that recorded the call."""

    view: RunView
    natives: NativeTraces

    is_run: ClassVar[bool]

    @property
    def is_of_tool(self) -> bool:
        """Whether it is a tool's call that a run lists."""
        return False

    @property
    def run(self) -> RunRecord:
        return self.view.run

    @abstractmethod
    def key(self) -> str:
        """A key that is unique in the store, from which the span's id is made."""

    @abstractmethod
    def name(self, place: Place) -> Answer: ...

    @abstractmethod
    def times(self) -> Times:
        """Start and end as the source recorded them itself."""

    @abstractmethod
    def recorded_ms(self) -> tuple[float | None, float | None]:
        """Start and end exactly as recorded, in ms."""

    @abstractmethod
    def logged_duration(self, length_ms: float | None) -> Duration | None:
        """The duration that was logged beside the times; ``length_ms`` is what the times say."""

    @abstractmethod
    def reversed_times(self) -> str:
        """What to report of an end that was recorded before the start; empty when there is none."""

    @abstractmethod
    def reported(self, what: str) -> str:
        """Words about the node that follow "Run <id> "."""

    @abstractmethod
    def status(self) -> Status:
        """How the run or call ended, by what it recorded itself."""

    @abstractmethod
    def settle(self, own: Status, below: Sequence[Status]) -> tuple[Status, str]:
        """The status in view of the nodes below, and the inference that it is (empty: none)."""

    @abstractmethod
    def usage(self, total_below: float | None) -> Counted:
        """The tokens that the node's span carries.

        ``total_below`` is the sum of the tokens of the spans below it, None if they have none.
        """

    @abstractmethod
    def token_details(self) -> Mapping[str, float]:
        """Tokens that are part of the node's own counts, by the profile's field."""

    @abstractmethod
    def cost(self, *, is_counted_below: bool) -> Priced:
        """The cost that the node's span carries."""

    @abstractmethod
    def content(self) -> Content:
        """Inputs and outputs."""

    @abstractmethod
    def documents(self) -> tuple[Json, Found] | None:
        """Retrieved documents, where a retriever's span shows those."""

    @abstractmethod
    def type(self, place: Place, content: Content, *, has_usage: bool) -> Answer:
        """The span's type. (An empty origin: ``content`` has it.)"""

    @abstractmethod
    def model(
        self, span_type: str, place: Place, *, has_usage: bool, is_named_below: bool
    ) -> Found | None:
        """The model that the span's own work was done with.

        A model that a workflow names stands on its own span where no span below names one.
        """

    @abstractmethod
    def names_model(self) -> bool:
        """Whether the source itself names a model."""

    @abstractmethod
    def provider(self) -> Found | None: ...

    @abstractmethod
    def tools(self) -> Found | None: ...

    @abstractmethod
    def session(self) -> str | None:
        """The session that the source names beside the profile's fields."""

    @abstractmethod
    def facts(self) -> Mapping[str, Json]:
        """What else the source says of itself, by the end of the attribute's name."""

    @abstractmethod
    def notes(self) -> Sequence[str]:
        """What was assumed on reading the source."""

    @abstractmethod
    def events(self) -> tuple[SpanEvent, ...]: ...

    @abstractmethod
    def judgements(self) -> Iterable[Judged]: ...

    @abstractmethod
    def judged_ms(self) -> int | None:
        """When the judgements were made; None: unknown."""

    def metric_times_ns(self) -> list[int]:
        """The times of all points of the run's metrics that can be true."""
        return [
            point.timestamp_ms * MS
            for points in self.run.metrics.values()
            for point in points
            if EARLIEST_MS <= point.timestamp_ms <= LATEST_MS
        ]

    def native_traces(self) -> tuple[str, ...]:
        """MLflow's own traces of the run."""
        return self.natives.of(self.view)


@dataclass(slots=True, eq=False)
class RunSource(NodeSource):
    """A run of the trace."""

    pairs: Sequence[Pair] = ()  # the texts of calls that it wrote down, which are spans below it

    is_run = True

    def key(self) -> str:
        return self.run.run_id

    def name(self, place: Place) -> Answer:
        rule = self._rule(place, is_naming=True)
        if rule is not None and rule.name is not None and (name := self.view.fill(rule.name)):
            return Answer(encoding.clean_text(name), f"profile {self.view.profile.name}")
        name = encoding.clean_text(self.run.name).strip()
        return Answer(name, "run name") if name else Answer(self.run.run_id, "run id")

    # --------------------------------------------------------------------------- times

    def times(self) -> Times:
        times = Times()
        start_ms = _believed_ms("start", self.run.start_ms, times)
        end_ms = _believed_ms("end", self.run.end_ms, times)
        if start_ms is not None and end_ms is not None:
            if start_ms < EARLIEST_MS <= end_ms:  # a clock that was set while the run was open
                times.implausible = f"starts at {start_ms} ms, before 1973, and ends at {end_ms} ms"
                times.inferences.append("start: before 1973, and the end is not")
                start_ms = None
            elif end_ms < start_ms:
                times.inferences.append("end: the run's end lies before its start")
                end_ms = start_ms
        if start_ms is not None:
            times.start_ns = start_ms * MS
            times.origins["start"] = "run start_time"
        if end_ms is not None:
            times.end_ns = end_ms * MS
            times.origins["end"] = "run end_time"
        return times

    def recorded_ms(self) -> tuple[float | None, float | None]:
        return self.run.start_ms, self.run.end_ms

    def logged_duration(self, length_ms: float | None) -> Duration | None:
        return self.view.duration_ms(length_ms)

    def reversed_times(self) -> str:
        start_ms, end_ms = self.run.start_ms, self.run.end_ms
        if start_ms and end_ms and end_ms < start_ms:
            return f"ends at {end_ms}, before its start at {start_ms}"
        return ""

    def reported(self, what: str) -> str:
        return what

    # -------------------------------------------------------------------------- status

    def status(self) -> Status:
        return run_status(self.view)

    def settle(self, own: Status, below: Sequence[Status]) -> tuple[Status, str]:
        """Let the steps below and the output decide where the run itself says nothing clear."""
        failed = next((status for status in below if status.word == "ERROR"), None)
        if own.word == "ERROR":
            return _with_text_of(own, below)
        if own.explicit:
            return own, ""
        has_output = self.view.outputs()[0] is not None
        went_on = bool(below) and below[-1].word == "OK"  # the failure was caught, or tried again
        if failed is not None and not has_output and not went_on:
            because = "a step below it failed, and it has no output"
            status = Status(
                "ERROR", because, False, failed.error_type, failed.error_message, failed.stack_trace
            )
            return status, f"status: {because}"
        all_good = bool(below) and all(status.word == "OK" for status in below)
        if own.word == "UNSET" and (has_output or all_good):
            return (
                Status("OK", "it has output, or steps that ended well", False),
                f"status: the run was left {self.run.status}, but has output or good steps",
            )
        return own, ""

    def is_step_named(self, source: Source, name: str) -> bool:
        """Whether the run has the name of a step at a source."""
        return any(str(found.value) == name for found in self.view.all(source))

    def is_silent(self) -> bool:
        """Whether the run logged neither metrics nor outputs."""
        return not self.run.metrics and not self.view.outputs()[1]

    # ------------------------------------------------------------------ tokens and cost

    def usage(self, total_below: float | None) -> Counted:
        if self.natives.written_in(self.run):  # counted in MLflow's own trace
            return Counted()
        tokens, origin = self.view.usage()
        if total_below is None:
            return Counted(tokens, origin)
        own = usage_of(tokens).get("total_tokens")
        if own is not None and own != total_below and not self.view.counts_each_call():
            return Counted(
                inference=f"tokens: the run's total of {own} is not the sum of its steps, "
                f"{total_below:.0f}"
            )
        return Counted()

    def token_details(self) -> Mapping[str, float]:
        return self.view.token_details()

    def cost(self, *, is_counted_below: bool) -> Priced:
        if is_counted_below or self.natives.written_in(self.run):
            return Priced()
        cost: dict[str, Json] = {}
        origins = []
        for key, name in COSTS:
            found = self.view.number(name)
            if found is not None and 0 < found[0] <= MOST_USD:
                cost[key] = found[0]
                origins.append(found[1].origin)
        if "total_cost" not in cost and len(cost) == 2:
            cost["total_cost"] = sum(as_number(value) or 0 for value in cost.values())
        return Priced(cost, ", ".join(origins)) if "total_cost" in cost else Priced()

    # ------------------------------------------------------------------- content and type

    def content(self) -> Content:
        inputs, given = self.view.inputs()
        if not given:
            inputs, given = self.view.few_words()
        outputs, got = self.view.outputs()
        is_only_framing = all(found.stem in SYSTEM_STEMS for found in given)
        if is_only_framing and (turn := self.view.turn()) is not None:
            inputs, given = {"messages": _chat(turn[0], given)}, (*given, turn[1])
        elif not got and isinstance(inputs, Mapping) and encoding.is_chat(inputs.get("messages")):
            inputs, outputs = _split_chat(inputs["messages"])
            got = given if outputs is not None else ()
        if self.pairs:
            return self._beside_pairs(given, got)
        origins = {}
        if given:
            origins["inputs"] = ", ".join(found.origin for found in given)
        if got:
            origins["outputs"] = ", ".join(found.origin for found in got)
        is_for_next = any(map(is_for_next_step, got))
        is_judgement = any(judges(found.stem) for found in got)
        return Content(inputs, outputs, (*given, *got), origins, is_for_next, is_judgement)

    def _beside_pairs(self, given: Iterable[Found], got: Iterable[Found]) -> Content:
        """What the run was asked and answered beside the calls that it wrote down as pairs."""
        asked, answered = without(given, self.pairs), without(got, self.pairs)
        inputs = joined({found.stem: found for found in asked}) if asked else None
        outputs: Json = {found.stem: found.value for found in answered} or None
        if len(answered) == 1:
            outputs = answered[0].value
        origins = {
            "inputs": ", ".join(found.origin for found in asked),
            "outputs": ", ".join(found.origin for found in answered),
        }
        used = [each for pair in self.pairs for each in (pair.asked, pair.answered)]
        known = {name: origin for name, origin in origins.items() if origin}
        return Content(inputs, outputs, (*asked, *answered, *used), known)

    def documents(self) -> tuple[Json, Found] | None:
        return self.view.documents()

    def type(self, place: Place, content: Content, *, has_usage: bool) -> Answer:
        rule = self._rule(place, is_naming=False)
        if rule is not None and rule.type is not None:
            return Answer(rule.type, f"profile {self.view.profile.name}")
        return Answer(self._type_by_content(place, content, has_usage), "what the run holds")

    def _type_by_content(self, place: Place, content: Content, has_usage: bool) -> str:
        if not place.is_leaf:
            return SpanType.CHAIN
        has_model = self.view.model() is not None
        inputs = content.inputs
        if isinstance(inputs, Mapping) and encoding.is_chat(inputs.get("messages")):
            return SpanType.CHAT_MODEL if has_usage or has_model else SpanType.CHAIN
        # inputs.json and outputs.json are any step's; a prompt, a model or tokens are an LLM's.
        given = (*self.view.inputs()[1], *self.view.renderings())
        if has_usage or any("prompt" in found.stem for found in given):
            return SpanType.LLM
        if has_model and (inputs is not None or content.outputs is not None):
            return SpanType.LLM
        if has_model and self.view.usage()[0].are_known:
            return SpanType.LLM
        has_own_answer = place.is_root and content.outputs is not None
        if self.view.documents() is not None and not has_own_answer:
            return SpanType.RETRIEVER
        return SpanType.CHAIN if place.is_root else SpanType.UNKNOWN

    def _rule(self, place: Place, *, is_naming: bool) -> SpanRule | None:
        """The profile's first span rule that fits the run and gives a name, or a type."""
        kind = self.view.first("kind")
        word = normalise(str(kind.value)) if kind is not None else None
        for rule in self.view.span_rules():
            given = rule.name if is_naming else rule.type
            if given is not None and self._fits(rule, place, word):
                return rule
        return None

    def _fits(self, rule: SpanRule, place: Place, kind: str | None) -> bool:
        if rule.root is not None and rule.root != place.is_root:
            return False
        if rule.leaf is not None and rule.leaf != place.is_leaf:
            return False
        if rule.kinds and kind not in rule.kinds:
            return False
        if rule.run_name is not None and not rule.run_name.search(self.run.name.strip()):
            return False
        return all(map(self.view.has, rule.has))

    def model(
        self, span_type: str, place: Place, *, has_usage: bool, is_named_below: bool
    ) -> Found | None:
        found = self.view.model() if has_usage or not is_named_below else None
        if found is None or span_type in MODEL_TYPES:
            return found
        is_own = found.key in self.run.params or found.key in self.run.tags
        if place.is_leaf and is_own:
            return found
        is_vendor = kind_of_model(str(found.value)) is ModelKind.VENDOR
        return None if is_vendor else found  # all that is known of a call, but no workflow's model

    def names_model(self) -> bool:
        return self.view.model() is not None

    def provider(self) -> Found | None:
        return self.view.vendor()

    def tools(self) -> Found | None:
        return self.view.first("tools")

    # ---------------------------------------------------------------------------- the rest

    def session(self) -> str | None:
        return None

    def facts(self) -> Mapping[str, Json]:
        facts: dict[str, Json] = {}
        turn = self.view.turn()
        if turn is not None and turn[0].before and self.view.inputs()[1]:
            facts["messages"] = [dict(message.raw) for message in turn[0].before]
        files = [each for each in self.view.renderings() if each.place == "artifact"]
        if files:  # params and tags have attributes of their own
            facts["prompt"] = files[0].value
        return facts

    def notes(self) -> Sequence[str]:
        loose = self.view.loose().all()
        if not loose:
            return ()
        names = ", ".join(found.origin for found in loose)
        return (f"text: no profile lists {names}; taken for a text of the call by its form",)

    def events(self) -> tuple[SpanEvent, ...]:
        # Where a profile reads steps, its files of events are those steps.
        return self.view.moments() if self.view.profile.steps is None else ()

    def judgements(self) -> Iterable[Judged]:
        return judgements(self.view)

    def judged_ms(self) -> int | None:
        return self.run.end_ms


@dataclass(slots=True, eq=False)
class StepSource(NodeSource):
    """A call that a run recorded."""

    step: Step

    is_run = False

    @property
    def is_of_tool(self) -> bool:
        return self.step.type == SpanType.TOOL

    def key(self) -> str:
        return f"{self.run.run_id}/{self.step.key}"

    def name(self, place: Place) -> Answer:
        name = encoding.clean_text(self.step.name).strip() or self.step.key
        return Answer(name, self.step.origins.get("name", "its place in the run"))

    def times(self) -> Times:
        step, origins = self.step, self.step.origins
        times = Times()
        start_ms, end_ms = _plausible_ms(step.start_ms), _plausible_ms(step.end_ms)
        if start_ms is not None:
            times.origins["start"] = "metric timestamp"
        if end_ms is not None:
            times.origins["end"] = "metric timestamp"
        times.origins.update({key: origins[key] for key in ("start", "end") if key in origins})
        if end_ms is None:
            end_ms = start_ms
        if end_ms is None:
            end_ms = _usable_ms(self.run.end_ms) or _usable_ms(self.run.start_ms)
            times.inferences.append("end: the call has no time of its own; its run's is taken")
        if end_ms is None:
            return times
        times.end_ns = round(end_ms * MS)
        if start_ms is not None:
            times.start_ns = min(round(start_ms * MS), times.end_ns)
        elif step.duration_ms is not None and 0 <= step.duration_ms <= LONGEST_MS:
            times.start_ns = times.end_ns - round(step.duration_ms * MS)
            times.origins["start"] = "metric timestamp less its duration"
        else:
            times.start_ns = times.end_ns
            times.inferences.append("start: the call's duration is not known")
        return times

    def recorded_ms(self) -> tuple[float | None, float | None]:
        return self.step.start_ms, self.step.end_ms

    def logged_duration(self, length_ms: float | None) -> Duration | None:
        return None  # it is part of the times already

    def reversed_times(self) -> str:
        return ""

    def reported(self, what: str) -> str:
        return f"holds {self.step.key}, which {what}"

    def status(self) -> Status:
        return self.step.status or Status("OK", "its metrics were logged", False)

    def settle(self, own: Status, below: Sequence[Status]) -> tuple[Status, str]:
        return own, ""

    def usage(self, total_below: float | None) -> Counted:
        if self.natives.written_in(self.run):
            return Counted()
        return Counted(self.step.usage, self.step.origins.get("tokens", ""))

    def token_details(self) -> Mapping[str, float]:
        return self.step.token_details

    def cost(self, *, is_counted_below: bool) -> Priced:
        is_priced = 0 < (self.step.cost_usd or 0) <= MOST_USD
        if not is_priced or self.natives.written_in(self.run):
            return Priced()
        return Priced({"total_cost": self.step.cost_usd}, self.step.origins.get("cost", ""))

    def content(self) -> Content:
        of_content = ("inputs", "outputs", "type")
        origins = {key: text for key, text in self.step.origins.items() if key in of_content}
        return Content(self.step.inputs, self.step.outputs, (), origins)

    def documents(self) -> tuple[Json, Found] | None:
        return None

    def type(self, place: Place, content: Content, *, has_usage: bool) -> Answer:
        return Answer(self.step.type, "")

    def names_model(self) -> bool:
        is_of_model = self.step.type in MODEL_TYPES
        return is_of_model and (self.step.model or self.view.model()) is not None

    def model(
        self, span_type: str, place: Place, *, has_usage: bool, is_named_below: bool
    ) -> Found | None:
        if span_type not in MODEL_TYPES:
            return None
        return self.step.model or self.view.model()

    def provider(self) -> Found | None:
        return self.step.provider or self.view.vendor()

    def tools(self) -> Found | None:
        return None

    def session(self) -> str | None:
        return self.step.session

    def facts(self) -> Mapping[str, Json]:
        return self.step.facts

    def notes(self) -> Sequence[str]:
        return self.step.inferences

    def events(self) -> tuple[SpanEvent, ...]:
        return self.step.events

    def judgements(self) -> Iterable[Judged]:
        return self.step.judged

    def judged_ms(self) -> int | None:
        return None


def _with_text_of(own: Status, below: Sequence[Status]) -> tuple[Status, str]:
    """Give a failed run that says nothing of its error the text of the step that failed."""
    if own.error_message or own.error_type or own.stack_trace:
        return own, ""
    failed = next((each for each in below if each.word == "ERROR" and each.error_message), None)
    if failed is None:
        return own, ""
    status = replace(
        own,
        error_type=failed.error_type,
        error_message=failed.error_message,
        stack_trace=failed.stack_trace,
    )
    return status, "error: its text is that of the step below that failed"


def usage_of(tokens: Tokens) -> dict[str, Json]:
    """Token usage under MLflow's keys; empty when all counts are 0 or missing."""
    given, got, total = (_count(number) for number in tokens)
    if not given and not got and not total:
        return {}
    usage: dict[str, Json] = {}
    if given is not None:
        usage["input_tokens"] = given
    if got is not None:
        usage["output_tokens"] = got
    if given is not None and got is not None:
        usage["total_tokens"] = total or given + got
    elif total:
        usage["total_tokens"] = total
    return usage


def has_only_zeros(tokens: Tokens) -> bool:
    """Whether counts were logged and all of them are 0: nothing was captured."""
    counts = [_count(number) for number in tokens]
    return not any(counts) and any(count is not None for count in counts)


def _count(number: float | None) -> int | None:
    return int(number) if number is not None and 0 <= number <= MOST_TOKENS else None


def _chat(turn: Turn, framing: Sequence[Found]) -> Json:
    """The messages of a turn up to its question, in the form of MLflow's chats.

    ``framing`` are the system prompts that were logged apart from the chat.
    """
    before = [message.as_chat() for message in turn.before]
    is_framed = any(message.role in FRAMING for message in turn.before)
    system = [] if is_framed else [{"role": "system", "content": each.value} for each in framing]
    return [*system, *before, {"role": "user", "content": turn.asked}]


def _split_chat(messages: Json) -> tuple[Json, Json]:
    """Split a recorded conversation into what was asked and the last answer."""
    assert isinstance(messages, Sequence)
    last = messages[-1]
    if len(messages) > 1 and isinstance(last, Mapping) and last.get("role") == "assistant":
        return {"messages": list(messages[:-1])}, last.get("content")
    return {"messages": list(messages)}, None


def _believed_ms(name: str, recorded_ms: int | None, times: Times) -> int | None:
    """A run's time, if a span can have it; else the reason goes to the inferences."""
    usable_ms = _usable_ms(recorded_ms)
    if recorded_ms and usable_ms is None:
        times.inferences.append(
            f"{name}: the run's, {recorded_ms} ms, is none that a span can have"
        )
    return usable_ms


def _usable_ms(time_ms: int | None) -> int | None:
    """A run's time if a span can have it."""
    return time_ms if time_ms is not None and 0 < time_ms <= LATEST_MS else None


def _plausible_ms(time_ms: float | None) -> float | None:
    """A call's time if it can be true."""
    return time_ms if time_ms is not None and EARLIEST_MS <= time_ms <= LATEST_MS else None
