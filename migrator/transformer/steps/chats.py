"""Steps from a recorded conversation: a step for each question with its answer.

Some chat applications keep one run for a whole chat and write its messages into one JSON file: a
list, or an object with the list under one of ``LISTS``. Roles and texts go by several names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise

from migrator.model import Json, RunRecord, SpanType
from migrator.transformer.found import Found, Step, Tokens
from migrator.transformer.profiles import normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.values import as_number

LISTS = ("conversation", "messages", "chat_history", "history")
ASKING = frozenset({"user", "human", "customer"})
FRAMING = frozenset({"system", "developer"})  # stands before what is asked
QUARTER_MS = 15 * 60_000  # the zones of the world lie whole quarters of an hour apart
EARLIEST_S = 100_000_000.0  # 1973; a smaller number is not a time


@dataclass(frozen=True, slots=True)
class _Shift:
    """By how much the times of a chat are moved, and why (empty when they are sure)."""

    ms: float
    note: str


@dataclass(frozen=True, slots=True)
class _Message:
    role: str
    text: str
    time_ms: float | None
    in_zone: bool  # its time names its zone
    raw: Mapping[str, Json]


def conversation_steps(view: RunView) -> tuple[Step, ...]:
    """A step for each question and its answer, from the first file that holds a chat.

    Nothing when no file holds one: a message has no text, say, or nobody asks.
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
    """Read a time (seconds, ms or ISO 8601) as ms, and whether its zone is known."""
    if (number := as_number(value)) is not None:
        ms = number if number > EARLIEST_S * 1000 else number * 1000
        return (ms, True) if ms > EARLIEST_S * 1000 else (None, True)
    if not isinstance(value, str):
        return None, True
    try:
        time = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        return None, True
    if time.tzinfo is not None:
        return time.timestamp() * 1000, True
    return time.replace(tzinfo=timezone.utc).timestamp() * 1000, False


def _steps(view: RunView, found: Found, messages: Sequence[_Message]) -> Iterator[Step]:
    asked = [i for i, message in enumerate(messages) if message.role in ASKING]
    # A question begins where someone asks who has not just asked.
    begins = [i for i in asked if i == 0 or messages[i - 1].role not in ASKING]
    begins[0] = 0  # a greeting or a system prompt belongs to the first
    shift = _shift(view.run, messages)
    for number, (begin, end) in enumerate(pairwise([*begins, len(messages)]), 1):
        yield _step(view, found, number, messages[begin:end], shift)


def _step(
    view: RunView, found: Found, number: int, messages: Sequence[_Message], shift: _Shift
) -> Step:
    last_asked = max(i for i, message in enumerate(messages) if message.role in ASKING)
    given = [_chat(message) for message in messages[: last_asked + 1]]
    answers = messages[last_asked + 1 :]
    times_ms = [m.time_ms + shift.ms for m in messages[last_asked:] if m.time_ms is not None]
    has_start = bool(times_ms) and messages[last_asked].time_ms is not None
    tokens = _sum(answers, "tokens_used", "total_tokens", "tokens")
    models = [_first(answer.raw, "model", "model_used") for answer in answers]
    model = next((name for name in models if isinstance(name, str)), None)
    where = f"{found.origin} turn {number}"
    origins = {
        "type": found.origin,
        "name": "its place in the conversation",
        "inputs": where,
        "outputs": where,
    }
    if times_ms:
        origins |= {"start": where, "end": where}
    if tokens:
        origins["tokens"] = where
    return Step(
        key=f"{found.key}/turn-{number}",
        name=f"turn_{number}",
        type=SpanType.CHAT_MODEL,
        start_ms=times_ms[0] if has_start else None,
        end_ms=max(times_ms) if times_ms else None,
        inputs={"messages": given},
        outputs=_answer(answers),
        usage=Tokens(total=tokens),
        cost_usd=_sum(answers, "cost_usd", "cost"),
        model=Found(model, "artifact", found.key) if model else view.first("model"),
        facts={"messages": [dict(message.raw) for message in messages]},
        origins=origins,
        inferences=(shift.note,) if shift.note and times_ms else (),
    )


def _answer(answers: Sequence[_Message]) -> Json:
    """The text of the answer, or all of them as a chat; None when nobody answered."""
    if len(answers) > 1:
        return [_chat(message) for message in answers]
    return answers[0].text if answers else None


def _chat(message: _Message) -> Json:
    """A message in the form of MLflow's chats."""
    role = "assistant"
    if message.role in ASKING:
        role = "user"
    elif message.role in FRAMING:
        role = message.role
    return {"role": role, "content": message.text}


def _sum(messages: Sequence[_Message], *names: str) -> float | None:
    """The sum of a number over messages; None if no message has it."""
    numbers = [as_number(_first(message.raw, *names)) for message in messages]
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _shift(run: RunRecord, messages: Sequence[_Message]) -> _Shift:
    """Find the zone of times without one: they are those of the machine's clock.

    The zone is the one that puts the first time next to the run's start.
    """
    first = next((message for message in messages if message.time_ms is not None), None)
    if first is None or first.in_zone or first.time_ms is None or not run.start_ms:
        return _Shift(0.0, "")
    quarters = round((run.start_ms - first.time_ms) / QUARTER_MS)
    if abs(quarters) > 14 * 4:  # no zone is so far from UTC: the chat is of another time
        return _Shift(0.0, "times: those of the messages name no zone; UTC is taken")
    return _Shift(
        float(quarters * QUARTER_MS),
        "times: those of the messages name no zone; the one that fits the run's start is taken",
    )
