"""Steps that a recorded conversation tells of: what was asked, and what was answered to it.

Some chat applications keep one run for a whole chat and write its messages into one JSON file: a
list, or an object with the list under one of ``LISTS``. Roles and texts go by several names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise

from migrator.model import Json, RunRecord, SpanType
from migrator.transformer.profiles import normalise
from migrator.transformer.run_view import Found, RunView, Step, as_number

LISTS = ("conversation", "messages", "chat_history", "history")
ASKING = frozenset({"user", "human", "customer"})
FRAMING = frozenset({"system", "developer"})  # stands before what is asked
QUARTER_MS = 15 * 60_000  # the zones of the world lie whole quarters of an hour apart
EARLIEST_S = 100_000_000.0  # 1973; a smaller number is no time


@dataclass(frozen=True, slots=True)
class _Message:
    role: str
    text: str
    time_ms: float | None
    in_zone: bool  # its time says in which zone
    raw: Mapping[str, Json]


def conversation_steps(view: RunView) -> tuple[Step, ...]:
    """Return a step for each question and its answer, from the first file that holds a chat.

    Nothing when there is none: when a message has no text, say, or nobody asks.
    """
    for found in view.every("events"):
        messages = _messages(found.value)
        if any(message.role in ASKING for message in messages):
            return tuple(_steps(view, found, messages))
    return ()


def _messages(value: Json) -> list[_Message]:
    if isinstance(value, Mapping):
        value = next((value[key] for key in LISTS if key in value), None)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    messages = [_message(item) for item in value]
    return [message for message in messages if message is not None] if all(messages) else []


def _message(item: Json) -> _Message | None:
    if not isinstance(item, Mapping):
        return None
    role = _first(item, "role", "message_type", "type", "sender", "speaker")
    text = _first(item, "content", "text", "message")
    if not isinstance(role, str) or not isinstance(text, str):
        return None
    time_ms, in_zone = _time(_first(item, "timestamp", "time", "created_at"))
    return _Message(normalise(role), text, time_ms, in_zone, item)


def _first(item: Mapping[str, Json], *names: str) -> Json:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _time(value: Json) -> tuple[float | None, bool]:
    """Return a time in ms, and whether its zone is known: seconds, ms or ISO 8601."""
    if (number := as_number(value)) is not None:
        ms = number if number > EARLIEST_S * 1000 else number * 1000
        return (ms, True) if ms > EARLIEST_S * 1000 else (None, True)
    if not isinstance(value, str):
        return None, True
    try:
        time = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        return None, True
    in_zone = time.tzinfo is not None
    return (time if in_zone else time.replace(tzinfo=timezone.utc)).timestamp() * 1000, in_zone


def _steps(view: RunView, found: Found, messages: Sequence[_Message]) -> Iterator[Step]:
    asked = [i for i, message in enumerate(messages) if message.role in ASKING]
    # A question begins where someone asks who has not just asked.
    begins = [i for i in asked if i == 0 or messages[i - 1].role not in ASKING]
    begins[0] = 0  # a greeting or a system prompt belongs to the first
    shift_ms, note = _shift(view.run, messages)
    for number, (begin, end) in enumerate(pairwise([*begins, len(messages)]), 1):
        yield _step(view, found, number, messages[begin:end], shift_ms, note)


def _step(
    view: RunView,
    found: Found,
    number: int,
    messages: Sequence[_Message],
    shift_ms: float,
    note: str,
) -> Step:
    last_asked = max(i for i, message in enumerate(messages) if message.role in ASKING)
    given = [_chat(message) for message in messages[: last_asked + 1]]
    answers = messages[last_asked + 1 :]
    outputs: Json = None
    if answers:
        outputs = answers[-1].text if len(answers) == 1 else [_chat(message) for message in answers]
    times = [m.time_ms + shift_ms for m in messages[last_asked:] if m.time_ms is not None]
    start_ms = times[0] if times and messages[last_asked].time_ms is not None else None
    tokens = _sum(answers, "tokens_used", "total_tokens", "tokens")
    model = next(
        (m for a in answers if isinstance(m := _first(a.raw, "model", "model_used"), str)), None
    )
    where = f"{found.origin} turn {number}"
    return Step(
        key=f"{found.key}/turn-{number}",
        name=f"turn_{number}",
        type=SpanType.CHAT_MODEL,
        start_ms=start_ms,
        end_ms=max(times) if times else None,
        inputs={"messages": given},
        outputs=outputs,
        usage=(None, None, tokens),
        cost_usd=_sum(answers, "cost_usd", "cost"),
        model=Found(model, "artifact", found.key) if model else view.first("model"),
        facts={"messages": [dict(message.raw) for message in messages]},
        origins={
            "type": found.origin,
            "name": "its place in the conversation",
            "inputs": where,
            "outputs": where,
            **({"start": where, "end": where} if times else {}),
            **({"tokens": where} if tokens else {}),
        },
        inferences=(note,) if note and times else (),
    )


def _chat(message: _Message) -> Json:
    framed = message.role in ASKING or message.role in FRAMING
    role = "user" if message.role in ASKING else message.role if framed else "assistant"
    return {"role": role, "content": message.text}


def _sum(messages: Sequence[_Message], *names: str) -> float | None:
    numbers = [n for m in messages if (n := as_number(_first(m.raw, *names))) is not None]
    return sum(numbers) if numbers else None


def _shift(run: RunRecord, messages: Sequence[_Message]) -> tuple[float, str]:
    """Return by how many ms the times of a chat are moved, and why.

    Times without a zone are those of the machine's clock. Its zone is what puts the first of them
    next to the run's start.
    """
    first = next((m for m in messages if m.time_ms is not None), None)
    if first is None or first.in_zone or first.time_ms is None or not run.start_ms:
        return 0.0, ""
    quarters = round((run.start_ms - first.time_ms) / QUARTER_MS)
    if abs(quarters) > 14 * 4:  # no zone is so far from UTC: the chat is of another time
        return 0.0, "times: those of the messages name no zone; UTC is taken"
    return float(quarters * QUARTER_MS), (
        "times: those of the messages name no zone; the one that fits the run's start is taken"
    )
