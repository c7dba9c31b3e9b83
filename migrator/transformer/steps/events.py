"""Steps that a run's files of events tell of: LangChain's callback handler, OpenAI's autologging.

LangChain's ``MlflowCallbackHandler`` (``langchain_community.callbacks.mlflow_callback``, and
``langchain.callbacks`` of 2023; ``mlflow.langchain.autolog`` of 2.10 to 2.13 drives it) writes one
flat run: a JSON file for each event, with counters of all kinds of events in each, and the same
counters as metrics. The counter ``step`` orders all events and its metric gives their times; the
rest is a matter of brackets. An error leaves no file, only a gap in ``step``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

from migrator.model import Json, MetricPoint, SpanEvent, SpanType
from migrator.transformer.run_view import Found, RunView, Status, Step, as_number, natural

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
class _Open:
    """A span whose start was seen."""

    kind: str  # chain | llm | tool | retriever
    start: _Event
    end: _Event | None = None
    tokens: list[str] = field(default_factory=list)
    marks: list[_Event] = field(default_factory=list)  # texts and an agent's decisions
    outputs: Json = None
    below: list[_Open] = field(default_factory=list)


def langchain_steps(view: RunView) -> tuple[Step, ...]:
    """Return the outermost calls that LangChain's handler recorded, oldest first.

    Nothing when there are no files of events that can be read.
    """
    groups: dict[str, dict[tuple[int, str], _Event]] = {}
    for found in view.every("events"):
        folder = found.key.rpartition("/")[0]
        if not isinstance(found.value, Mapping):
            continue
        step = as_number(found.value.get(STEP))
        action = str(found.value.get("action", "")).removeprefix("on_")
        if step is None or not action:
            continue
        values = dict(found.value)
        event = groups.setdefault(folder, {}).setdefault(
            (int(step), action), _Event(int(step), action, values, [], found.origin)
        )
        if "prompt" in values:
            event.texts.append(values["prompt"])
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
        texts = _table_texts(view, folder)
        prefix = f"call-{number + 1}" if len(groups) > 1 else "call"
        session = _session(folder)
        steps.extend(
            _steps(view, top, texts, prefix, session, notes if i == 0 else [])
            for i, top in enumerate(tops)
        )
    return tuple(steps)


# ----------------------------------------------------------------------------- which times


def _segments(points: Sequence[MetricPoint]) -> list[list[MetricPoint]]:
    """Split the history of ``step`` where the handler began to count anew."""
    segments: list[list[MetricPoint]] = []
    for point in sorted(points, key=lambda p: p.timestamp_ms):  # stable: file order in a ms
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
            notes = [
                f"calls: {len(segments) - 1} earlier call(s) of this run were overwritten by the "
                "handler; their counters stay in the metrics"
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
        key: {(p.timestamp_ms, p.value) for p in view.run.metrics[key]}
        for key in COUNTERS
        if key in view.run.metrics
    }
    stale = [
        key
        for key, event in events.items()
        if event.step not in times
        or any(
            (number := as_number(event.values.get(name))) is not None
            and (times[event.step], number) not in points
            for name, points in known.items()
        )
    ]
    if len(stale) < len(events):
        for key in stale:
            del events[key]


def _session(folder: str) -> str | None:
    match = re.search(r"(?:^|/)artifacts-([0-9a-f]{8,})-\d+$", folder)
    return match[1] if match else None


# -------------------------------------------------------------------------------- brackets


def _brackets(events: Sequence[_Event]) -> tuple[list[_Open], bool]:
    """Match starts and ends; return the outermost spans, and whether the rest is a true tree.

    A gap in ``step`` is as many errors: each closes what was open innermost.
    """
    tops: list[_Open] = []
    stack: list[_Open] = []
    nested = True
    last = 0

    for event in events:
        if last:
            for _ in range(min(event.step - last - 1, len(stack))):
                stack.pop()
        last = event.step
        kind, _, what = event.action.rpartition("_")
        if what == "start":
            inside = next((s for s in reversed(stack) if s.kind not in LEAVES), None)
            if stack and stack[-1].kind in LEAVES:
                nested = False
            span = _Open(kind, event)
            (inside.below if inside is not None else tops).append(span)
            stack.append(span)
        elif what == "end":
            at = next((i for i in range(len(stack) - 1, -1, -1) if stack[i].kind == kind), None)
            if at is None:
                continue
            nested = nested and at == len(stack) - 1
            stack.pop(at).end = event
        elif event.action == "llm_new_token":
            model = next((s for s in reversed(stack) if s.kind == "llm"), None)
            if model is not None:
                model.tokens.append(str(event.values.get("token", "")))
        elif stack or tops:  # on_text, on_agent_action, on_agent_finish
            (stack[-1] if stack else tops[-1]).marks.append(event)
    if not nested:
        for top in tops:
            top.below = [span for span in _below(top)]
            for span in top.below:
                span.below = []
    _take_texts(events, tops)
    return tops, nested


def _below(top: _Open) -> list[_Open]:
    found: list[_Open] = []
    todo = list(reversed(top.below))
    while todo:
        span = todo.pop()
        found.append(span)
        todo.extend(reversed(span.below))
    return found


def _take_texts(events: Sequence[_Event], tops: Sequence[_Open]) -> None:
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


def _steps(
    view: RunView,
    top: _Open,
    texts: Mapping[tuple[str, int], str],
    prefix: str,
    session: str | None,
    notes: Sequence[str],
) -> Step:
    made: dict[int, Step] = {}
    for span in reversed([top, *_below(top)]):  # children before parents
        below = tuple(made.pop(id(child)) for child in span.below)
        made[id(span)] = _step(
            view, span, texts, prefix, below, session, notes if span is top else ()
        )
    return made[id(top)]


def _step(
    view: RunView,
    span: _Open,
    texts: Mapping[tuple[str, int], str],
    prefix: str,
    below: tuple[Step, ...],
    session: str | None,
    notes: Sequence[str],
) -> Step:
    start, end = span.start, span.end
    inferences = list(notes)
    outputs = span.outputs
    origins = {"type": "event file", "name": start.origin, "inputs": start.origin}
    usage: tuple[float | None, float | None, float | None] = (None, None, None)
    model: Found | None = None
    inputs: Json = None
    if span.kind == "chain":
        inputs = _pairs(start.values.get("inputs"))
        outputs = _pairs(end.values.get("outputs")) if end else None
    elif span.kind == "tool":
        inputs = {"input": start.values.get("input_str")}
        outputs = end.values.get("output") if end else None
    elif span.kind == "retriever":
        inputs = {"query": start.values.get("query")}
        outputs = end.values.get("documents") if end else None
    else:
        inputs = {"prompt": start.texts[0]} if len(start.texts) == 1 else {"prompts": start.texts}
        model = _found(start, ("kwargs_model_name", "kwargs_model", "kwargs_repo_id"))
        if end is not None:
            outputs = _table_text(texts, start, end) or outputs
            usage = (
                as_number(end.values.get("token_usage_prompt_tokens")),
                as_number(end.values.get("token_usage_completion_tokens")),
                as_number(end.values.get("token_usage_total_tokens")),
            )
            model = _found(end, ("model_name",)) or model
            origins["tokens"] = end.origin
    if end is not None and outputs is not None:
        taken = span.kind == "llm" and outputs == _table_text(texts, start, end)
        origins["outputs"] = "artifact table_action_records.html" if taken else end.origin
    status = Status("OK", end.origin if end else "", True)
    end_ms: float | None = end.time_ms if end is not None else None
    if end is None:
        status = Status("ERROR", NEVER_ENDED, True)
        inferences.append("status: an end is missing where the handler counted on: an error")
        end_ms = max((s.end_ms for s in below if s.end_ms is not None), default=start.time_ms)
    return Step(
        key=f"{prefix}-{start.step}-{span.kind}",
        name=_name(start) or span.kind,
        type=_type(span.kind, start),
        start_ms=start.time_ms,
        end_ms=end_ms,
        inputs=inputs,
        outputs=outputs,
        usage=usage,
        model=model,
        session=session,
        status=status,
        events=tuple(_mark(mark) for mark in span.marks if mark.time_ms is not None),
        facts={
            "events": [e.origin.removeprefix("artifact ") for e in (start, end) if e is not None],
            **({"session_kind": "process"} if session else {}),
        },
        origins=origins,
        inferences=tuple(inferences),
        steps=below,
    )


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
    """Read the handler's ``key=value``. Of several pairs none is certain, so they stay text."""
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
    """The rows of the first table of a page, as pandas writes it."""

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
    """Return prompts and answers by action and step, from ``table_action_records.html``.

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
    """Return a model's answer from the table, if the table is of this call: its prompt is there."""
    prompt = texts.get(("on_llm_start", start.step))
    asked = str(start.texts[0]).replace("\\n", "\n") if start.texts else None
    if prompt is None or asked is None or prompt.split() != asked.split():
        return None
    return texts.get(("on_llm_end", end.step))


# ------------------------------------------------------------------------- OpenAI's autologging

NOT_GIVEN = "NOT_GIVEN"  # how openai's client spells an argument that was left out


def openai_steps(view: RunView) -> tuple[Step, ...]:
    """Return the calls that ``mlflow.openai.autolog`` wrote down, oldest first.

    MLflow 2.14 (``mlflow.openai._openai_autolog``) keeps a run for each client object and a folder
    ``artifacts-<session>-<n>`` for each call, with the arguments and the response, or its chunks.
    """
    folders: dict[str, dict[str, Found]] = {}
    for found in view.every("events"):
        folder, _, file = found.key.rpartition("/")
        folders.setdefault(folder, {})[file.lower()] = found
    calls = []
    for number, folder in enumerate(sorted(folders, key=natural)):
        asked, answered = (folders[folder].get(f"{name}.json") for name in ("input", "output"))
        if asked is None or not isinstance(asked.value, Mapping):
            continue
        response, created = _response(answered.value if answered is not None else None)
        calls.append((created or 0, number, folder, asked, answered, response))
    run = view.run
    alone = len(calls) == 1 and not run.params and not run.metrics
    return tuple(
        _openai_step(view, folder, asked, answered, response, created, alone)
        for created, _, folder, asked, answered, response in sorted(calls, key=lambda c: c[:2])
    )


def _openai_step(
    view: RunView,
    folder: str,
    asked: Found,
    answered: Found | None,
    response: Json,
    created_s: float,
    alone: bool,
) -> Step:
    assert isinstance(asked.value, Mapping)
    given = {k: v for k, v in asked.value.items() if v is not None and v != NOT_GIVEN}
    kinds = {"messages": SpanType.CHAT_MODEL, "prompt": SpanType.LLM, "input": SpanType.EMBEDDING}
    kind = next((kinds[key] for key in kinds if key in given), SpanType.UNKNOWN)
    of_response = response if isinstance(response, Mapping) else {}
    usage = of_response.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    model = of_response.get("model") or given.get("model")
    start_ms: float | None = created_s * 1000 or None
    end_ms = start_ms
    inferences = []
    if alone and view.run.start_ms and view.run.end_ms:
        start_ms, end_ms = view.run.start_ms, view.run.end_ms  # opened and ended by the call
    elif start_ms is not None:
        inferences.append("times: only the second in which the response was made is known")
    origins = {
        "type": asked.origin,
        "inputs": asked.origin,
        "start": "run start_time" if alone else "created",
        "end": "run end_time" if alone else "created",
    }
    if answered is not None:
        origins |= {"outputs": answered.origin, "tokens": answered.origin}
    session = _session(folder)
    return Step(
        key=folder,
        name="Embeddings" if kind == SpanType.EMBEDDING else "Completions",
        type=kind,
        start_ms=start_ms,
        end_ms=end_ms,
        inputs=given,
        outputs=response,
        usage=(
            as_number(counts.get("prompt_tokens")),
            as_number(counts.get("completion_tokens")),
            as_number(counts.get("total_tokens")),
        ),
        model=Found(str(model), "artifact", (answered or asked).key) if model else None,
        provider=Found("openai", "tag", "mlflow.autologging"),
        session=session,
        status=Status("OK", answered.origin, True)
        if answered is not None
        else Status("UNSET", "no response was logged", True),
        facts={"session_kind": "process"} if session else {},
        origins=origins,
        inferences=tuple(inferences),
    )


def _response(value: Json) -> tuple[Json, float | None]:
    """Return a response, a streamed one put together, and the second it was made in."""
    if isinstance(value, Mapping):
        return value, as_number(value.get("created"))
    if not isinstance(value, list):
        return None, None
    chunks = [chunk for chunk in value if isinstance(chunk, Mapping)]
    if not chunks:
        return None, None
    pieces = []
    for chunk in chunks:
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if isinstance(choice, Mapping):
            delta = choice.get("delta")
            piece = delta.get("content") if isinstance(delta, Mapping) else choice.get("text")
            pieces.append(piece if isinstance(piece, str) else "")
    message = {"role": "assistant", "content": "".join(pieces)}
    whole: dict[str, Json] = {"choices": [{"index": 0, "message": message}]}
    for chunk in chunks:
        whole |= {key: chunk[key] for key in ("model", "usage") if chunk.get(key)}
    return whole, as_number(chunks[0].get("created"))
