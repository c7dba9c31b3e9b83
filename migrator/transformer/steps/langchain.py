"""Steps from the event files that LangChain's MLflow callback handler wrote.

LangChain's ``MlflowCallbackHandler`` (``langchain_community.callbacks.mlflow_callback``, and
``langchain.callbacks`` of 2023; ``mlflow.langchain.autolog`` of 2.10 to 2.13 drives it) writes one
flat run: a JSON file for each event, with counters of all kinds of events in each, and the same
counters as metrics. The counter ``step`` orders all events, and its metric gives their times. The
tree follows from matching starts and ends, like brackets. An error leaves no file, only a gap in
``step``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

from migrator.model import Json, MetricPoint, SpanEvent, SpanType
from migrator.transformer.found import NO_TOKENS, Found, Status, Step, Tokens
from migrator.transformer.run_view import RunView
from migrator.transformer.values import as_number, natural

STEP = "step"
COUNTERS = (
    "starts", "ends", "errors", "text_ctr", "chain_starts", "chain_ends", "llm_starts", "llm_ends",
    "llm_streams", "tool_starts", "tool_ends", "agent_ends", "retriever_starts", "retriever_ends",
)  # fmt: skip
LEAVES = ("llm", "retriever")  # nothing happens inside them that the handler would hear of
NEVER_ENDED = "it started, and no end was logged"
MS = 1_000_000  # ns


@dataclass(slots=True)
class _Event:
    step: int
    action: str  # chain_start, llm_end, text, …
    values: dict[str, Json]
    texts: list[Json]  # the prompts of a model's start, one for each file
    origin: str
    time_ms: int | None = None


@dataclass(slots=True)
class _Span:
    """A span whose start was seen."""

    kind: str  # chain | llm | tool | retriever
    start: _Event
    end: _Event | None = None
    tokens: list[str] = field(default_factory=list)
    marks: list[_Event] = field(default_factory=list)  # texts and an agent's decisions
    outputs: Json = None
    below: list[_Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Recording:
    """What is known of the calls of one folder, beside their events."""

    prefix: str  # of the keys of its steps
    session: str | None
    answers: Mapping[tuple[str, int], str]  # texts of the table, by action and step


@dataclass(frozen=True, slots=True)
class _Content:
    """What the event files of a span say of its content."""

    inputs: Json
    outputs: Json
    usage: Tokens = NO_TOKENS
    model: Found | None = None


def langchain_steps(view: RunView) -> tuple[Step, ...]:
    """The outermost calls that LangChain's handler recorded, oldest first.

    Nothing when there are no files of events that can be read.
    """
    groups = _events_by_folder(view)
    if not groups:
        return ()
    segments = _segments(view.run.metrics.get(STEP, ()))
    steps: list[Step] = []
    for number, (folder, times, notes) in enumerate(_matched(view, groups, segments)):
        events = sorted(groups[folder].values(), key=lambda e: (e.step, e.action))
        for event in events:
            event.time_ms = times.get(event.step)
        if not times:
            notes = [*notes, "times: the handler's counters have no history; the run's are taken"]
        tops, nested = _brackets(events)
        if not nested:
            notes = [*notes, "tree: calls ran at the same time, so what lies in what is not known"]
        prefix = f"call-{number + 1}" if len(groups) > 1 else "call"
        recording = _Recording(prefix, session_of(folder), _table_texts(view, folder))
        for top in tops:
            steps.append(_step_of(top, recording, notes))
            notes = []  # they stand on the folder's first call
    return tuple(steps)


def _events_by_folder(view: RunView) -> dict[str, dict[tuple[int, str], _Event]]:
    """The events of each folder by step and action; the files of one event are joined."""
    groups: dict[str, dict[tuple[int, str], _Event]] = {}
    for found in view.every("events"):
        if not isinstance(found.value, Mapping):
            continue
        step = as_number(found.value.get(STEP))
        action = str(found.value.get("action", "")).removeprefix("on_")
        if step is None or not action:
            continue
        values = dict(found.value)
        events = groups.setdefault(found.key.rpartition("/")[0], {})
        event = _Event(int(step), action, values, [], found.origin)
        event = events.setdefault((int(step), action), event)
        if "prompt" in values:
            event.texts.append(values["prompt"])
    return groups


# ----------------------------------------------------------------------------- which times


def _segments(points: Sequence[MetricPoint]) -> list[list[MetricPoint]]:
    """Split the history of ``step`` where the handler began to count anew."""
    segments: list[list[MetricPoint]] = []
    numbers = [point for point in points if math.isfinite(point.value)]
    for point in sorted(numbers, key=lambda p: p.timestamp_ms):  # stable: file order in a ms
        if not segments or point.value <= segments[-1][-1].value:
            segments.append([])
        segments[-1].append(point)
    return segments


def _matched(
    view: RunView,
    groups: dict[str, dict[tuple[int, str], _Event]],
    segments: Sequence[Sequence[MetricPoint]],
) -> Iterable[tuple[str, dict[int, int], list[str]]]:
    """Yield every folder of events with the times of its steps, and what was assumed.

    Autologging makes a folder for each call, so folders and segments go in the same order. Without
    folders a later call overwrote the files of an earlier one: only the last segment is whole.
    """
    folders = sorted(groups, key=natural)
    if len(folders) == 1:
        folder = folders[0]
        if not segments:
            yield folder, {}, []
            return
        last = segments[-1]
        notes = []
        if len(segments) > 1:
            _drop_stale(view, groups[folder], last)
            earlier = len(segments) - 1
            calls, their = ("call", "its") if earlier == 1 else ("calls", "their")
            notes = [
                f"calls: the handler overwrote {earlier} earlier {calls} of this run; "
                f"{their} counters stay in the metrics"
            ]
        yield folder, {int(p.value): p.timestamp_ms for p in last}, notes
        return
    unused = list(segments)
    for folder in folders:
        most = max(step for step, _ in groups[folder])
        fit = next((s for s in unused if int(s[-1].value) == most), None)
        if fit is not None:
            unused.remove(fit)
        yield folder, {int(p.value): p.timestamp_ms for p in fit or ()}, []


def _drop_stale(
    view: RunView, events: dict[tuple[int, str], _Event], segment: Sequence[MetricPoint]
) -> None:
    """Drop the files that an earlier, longer call left: their counters are not this one's."""
    times = {int(point.value): point.timestamp_ms for point in segment}
    known = {
        key: {(point.timestamp_ms, point.value) for point in view.run.metrics[key]}
        for key in COUNTERS
        if key in view.run.metrics
    }

    def is_stale(event: _Event) -> bool:
        if event.step not in times:
            return True
        for name, points in known.items():
            number = as_number(event.values.get(name))
            if number is not None and (times[event.step], number) not in points:
                return True
        return False

    stale = [key for key, event in events.items() if is_stale(event)]
    if len(stale) < len(events):
        for key in stale:
            del events[key]


def session_of(folder: str) -> str | None:
    """The session in the name of a folder ``artifacts-<session>-<n>`` of MLflow's autologging."""
    match = re.search(r"(?:^|/)artifacts-([0-9a-f]{8,})-\d+$", folder)
    return match[1] if match else None


# -------------------------------------------------------------------------------- brackets


def _brackets(events: Sequence[_Event]) -> tuple[list[_Span], bool]:
    """Match starts and ends: the outermost spans, and whether the spans below them form a tree.

    A gap in ``step`` is as many errors: each closes what was open innermost.
    """
    matching = _Matching()
    for event in events:
        matching.take(event)
    if not matching.is_nested:
        for top in matching.tops:
            top.below = _below(top)
            for span in top.below:
                span.below = []
    _take_texts(events, matching.tops)
    return matching.tops, matching.is_nested


@dataclass(slots=True)
class _Matching:
    """The spans that the events so far have opened and ended."""

    tops: list[_Span] = field(default_factory=list)
    is_nested: bool = True  # each end was that of the span opened last
    _open: list[_Span] = field(default_factory=list)  # innermost last
    _last_step: int = 0

    def take(self, event: _Event) -> None:
        """Open or end a span, or add the event to the one that is open."""
        if self._last_step:
            errors = event.step - self._last_step - 1
            del self._open[max(0, len(self._open) - errors) :]
        self._last_step = event.step
        kind, _, what = event.action.rpartition("_")
        if what == "start":
            self._start(_Span(kind, event))
        elif what == "end":
            self._end(kind, event)
        elif event.action == "llm_new_token":
            model = self._innermost(lambda span: span.kind == "llm")
            if model is not None:
                model.tokens.append(str(event.values.get("token", "")))
        elif self._open or self.tops:  # on_text, on_agent_action, on_agent_finish
            owner = self._open[-1] if self._open else self.tops[-1]
            owner.marks.append(event)

    def _start(self, span: _Span) -> None:
        inside = self._innermost(lambda each: each.kind not in LEAVES)
        if self._open and self._open[-1].kind in LEAVES:
            self.is_nested = False
        siblings = self.tops if inside is None else inside.below
        siblings.append(span)
        self._open.append(span)

    def _end(self, kind: str, event: _Event) -> None:
        ended = self._innermost(lambda span: span.kind == kind)
        if ended is None:
            return
        if ended is not self._open[-1]:
            self.is_nested = False
        self._open = [span for span in self._open if span is not ended]
        ended.end = event

    def _innermost(self, is_wanted: Callable[[_Span], bool]) -> _Span | None:
        return next(filter(is_wanted, reversed(self._open)), None)


def _below(top: _Span) -> list[_Span]:
    found: list[_Span] = []
    todo = list(reversed(top.below))
    while todo:
        span = todo.pop()
        found.append(span)
        todo.extend(reversed(span.below))
    return found


def _take_texts(events: Sequence[_Event], tops: Sequence[_Span]) -> None:
    """Give models the text that the next event repeats: the handler leaves it out of its files."""
    following = {event.step: after for event, after in pairwise(events)}
    for top in tops:
        for span in (top, *_below(top)):
            if span.kind != "llm" or span.end is None:
                continue
            after = following.get(span.end.step)
            if span.tokens:
                span.outputs = "".join(span.tokens)
            elif after is None:
                continue
            elif after.action in ("agent_action", "agent_finish"):
                span.outputs = after.values.get("log")
            elif after.action == "chain_start" and "Parser" in _name(after):
                span.outputs = after.values.get("inputs")
            elif after.action == "chain_end":
                text = str(after.values.get("outputs", ""))
                if text.startswith("text=") and not text.startswith(("text='", 'text="')):
                    span.outputs = text.removeprefix("text=")


# ----------------------------------------------------------------------------------- spans


def _step_of(top: _Span, recording: _Recording, notes: Sequence[str]) -> Step:
    """Make the step of an outermost span, with the steps of the spans below it."""
    made: dict[int, Step] = {}
    for span in reversed([top, *_below(top)]):  # children before parents
        below = tuple(made.pop(id(child)) for child in span.below)
        made[id(span)] = _step(span, recording, below, notes if span is top else ())
    return made[id(top)]


def _step(
    span: _Span, recording: _Recording, below: tuple[Step, ...], notes: Sequence[str]
) -> Step:
    start, end = span.start, span.end
    inferences = list(notes)
    content = _CONTENTS.get(span.kind, _model_content)(span, recording)
    if end is not None:
        status = Status("OK", end.origin, True)
        end_ms: float | None = end.time_ms
    else:
        status = Status("ERROR", NEVER_ENDED, True)
        inferences.append("status: an end is missing where the handler counted on: an error")
        end_ms = max((s.end_ms for s in below if s.end_ms is not None), default=start.time_ms)
    facts: dict[str, Json] = {
        "events": [e.origin.removeprefix("artifact ") for e in (start, end) if e is not None]
    }
    if recording.session:
        facts["session_kind"] = "process"
    return Step(
        key=f"{recording.prefix}-{start.step}-{span.kind}",
        name=_name(start) or span.kind,
        type=_type(span.kind, start),
        start_ms=start.time_ms,
        end_ms=end_ms,
        inputs=content.inputs,
        outputs=content.outputs,
        usage=content.usage,
        model=content.model,
        session=recording.session,
        status=status,
        events=tuple(_mark(mark) for mark in span.marks if mark.time_ms is not None),
        facts=facts,
        origins=_origins(span, content, recording),
        inferences=tuple(inferences),
        steps=below,
    )


def _chain_content(span: _Span, recording: _Recording) -> _Content:
    outputs = _pairs(span.end.values.get("outputs")) if span.end else None
    return _Content(_pairs(span.start.values.get("inputs")), outputs)


def _tool_content(span: _Span, recording: _Recording) -> _Content:
    outputs = span.end.values.get("output") if span.end else None
    return _Content({"input": span.start.values.get("input_str")}, outputs)


def _retriever_content(span: _Span, recording: _Recording) -> _Content:
    outputs = span.end.values.get("documents") if span.end else None
    return _Content({"query": span.start.values.get("query")}, outputs)


def _model_content(span: _Span, recording: _Recording) -> _Content:
    start, end = span.start, span.end
    texts = start.texts
    inputs: Json = {"prompt": texts[0]} if len(texts) == 1 else {"prompts": texts}
    model = _found(start, ("kwargs_model_name", "kwargs_model", "kwargs_repo_id"))
    if end is None:
        return _Content(inputs, span.outputs, model=model)
    usage = Tokens(
        as_number(end.values.get("token_usage_prompt_tokens")),
        as_number(end.values.get("token_usage_completion_tokens")),
        as_number(end.values.get("token_usage_total_tokens")),
    )
    outputs = _table_text(recording.answers, start, end) or span.outputs
    return _Content(inputs, outputs, usage, _found(end, ("model_name",)) or model)


_CONTENTS = {"chain": _chain_content, "tool": _tool_content, "retriever": _retriever_content}


def _origins(span: _Span, content: _Content, recording: _Recording) -> dict[str, str]:
    """Where the content of a span stands."""
    start, end = span.start, span.end
    origins = {"type": "event file", "name": start.origin, "inputs": start.origin}
    if end is None:
        return origins
    is_model = span.kind not in _CONTENTS
    if is_model:
        origins["tokens"] = end.origin
    if content.outputs is not None:
        is_of_table = is_model and content.outputs == _table_text(recording.answers, start, end)
        origins["outputs"] = "artifact table_action_records.html" if is_of_table else end.origin
    return origins


def _name(start: _Event) -> str:
    name = start.values.get("name")
    if isinstance(name, str) and name.strip():
        return name.strip()
    path = start.values.get("id")
    return str(path[-1]) if isinstance(path, list) and path else ""


def _type(kind: str, start: _Event) -> str:
    if kind == "tool":
        return SpanType.TOOL
    if kind == "retriever":
        return SpanType.RETRIEVER
    path = start.values.get("id")
    parts = [str(part) for part in path] if isinstance(path, list) else []
    if kind == "llm":
        chat = "chat_models" in parts or (parts and parts[-1].startswith("Chat"))
        return SpanType.CHAT_MODEL if chat else SpanType.LLM
    name = parts[-1] if parts else _name(start)
    if name.endswith("AgentExecutor") or (name.endswith("Agent") and "agents" in parts):
        return SpanType.AGENT
    return SpanType.PARSER if "output_parsers" in parts else SpanType.CHAIN


def _found(event: _Event, keys: Sequence[str]) -> Found | None:
    for key in keys:
        value = event.values.get(key)
        if isinstance(value, str) and value.strip():
            return Found(value, "artifact", event.origin.removeprefix("artifact "))
    return None


def _pairs(text: Json) -> Json:
    """Read the handler's ``key=value``. Several pairs can't be told apart: they stay text."""
    if not isinstance(text, str) or not text:
        return None if text == "" else text
    match = re.match(r"([A-Za-z_]\w*)=", text)
    if match is None or re.search(r",[A-Za-z_]\w*=", text):
        return text
    return {match[1]: text[match.end() :]}


def _mark(event: _Event) -> SpanEvent:
    skip = {"action", STEP, *COUNTERS}
    values = {key: value for key, value in event.values.items() if key not in skip}
    return SpanEvent(f"on_{event.action}", (event.time_ms or 0) * MS, values)


# ---------------------------------------------------------------------- the table of texts


class _Cells(HTMLParser):
    """Reads the rows of a page's table, as pandas writes it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def _table_texts(view: RunView, folder: str) -> dict[tuple[str, int], str]:
    """Prompts and answers by action and step, from ``table_action_records.html``.

    pandas writes a line end as a backslash and an n.
    """
    texts: dict[tuple[str, int], str] = {}
    for found in view.every("tables"):
        if not isinstance(found.value, str) or found.key.rpartition("/")[0] != folder:
            continue
        cells = _Cells()
        cells.feed(found.value)
        header, *rows = cells.rows or [[]]
        if not {"action", STEP, "text"} <= set(header):
            continue
        for row in rows:
            values = dict(zip(header, row, strict=False))
            step = as_number(values.get(STEP))
            for action, column in (("on_llm_start", "prompt"), ("on_llm_end", "text")):
                if values.get("action") == action and step is not None and column in values:
                    text = values[column].replace("\\n", "\n")
                    texts.setdefault((action, int(step)), text)
    return texts


def _table_text(texts: Mapping[tuple[str, int], str], start: _Event, end: _Event) -> str | None:
    """A model's answer from the table, if the table has this call's prompt."""
    prompt = texts.get(("on_llm_start", start.step))
    asked = str(start.texts[0]).replace("\\n", "\n") if start.texts else None
    if prompt is None or asked is None or prompt.split() != asked.split():
        return None
    return texts.get(("on_llm_end", end.step))
