"""Steps from a recorded conversation: a step for each question with its answer.

Some chat applications keep one run for a whole chat and write its messages into one JSON file: a
list, or an object with the list under one of ``LISTS``. Roles and texts go by several names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from migrator.model import Json, RunRecord, SpanType
from migrator.transformer.chat_messages import ASKING, Message, first_of, messages_of
from migrator.transformer.found import Found, Step, Tokens
from migrator.transformer.run_view import RunView
from migrator.transformer.values import as_number

QUARTER_MS = 15 * 60_000  # the zones of the world lie whole quarters of an hour apart


@dataclass(frozen=True, slots=True)
class _Shift:
    """By how much the times of a chat are moved, and why (empty when they are sure)."""

    ms: float
    note: str


def conversation_steps(view: RunView) -> tuple[Step, ...]:
    """A step for each question and its answer, from the first file that holds a chat.

    Nothing when no file holds one: a message has no text, say, or nobody asks.
    """
    for found in view.every("events"):
        messages = messages_of(found.value)
        if any(message.role in ASKING and message.text for message in messages):
            answer = view.answer_beside(found.value)
            if answer and messages[-1].role in ASKING:
                messages.append(Message("assistant", answer, None, in_zone=False, raw={}))
            return tuple(_steps(view, found, messages))
    return ()


def _steps(view: RunView, found: Found, messages: Sequence[Message]) -> Iterator[Step]:
    asked = [i for i, message in enumerate(messages) if message.role in ASKING]
    # A question begins where someone asks who has not just asked.
    begins = [i for i in asked if i == 0 or messages[i - 1].role not in ASKING]
    begins[0] = 0  # a greeting or a system prompt belongs to the first
    shift = _shift(view.run, messages)
    for number, (begin, end) in enumerate(pairwise([*begins, len(messages)]), 1):
        yield _step(view, found, number, messages[begin:end], shift)


def _step(
    view: RunView, found: Found, number: int, messages: Sequence[Message], shift: _Shift
) -> Step:
    last_asked = max(i for i, message in enumerate(messages) if message.role in ASKING)
    given = [message.as_chat() for message in messages[: last_asked + 1]]
    answers = messages[last_asked + 1 :]
    times_ms = [m.time_ms + shift.ms for m in messages[last_asked:] if m.time_ms is not None]
    has_start = bool(times_ms) and messages[last_asked].time_ms is not None
    tokens = _sum(answers, "tokens_used", "total_tokens", "tokens")
    models = [first_of(answer.raw, "model", "model_used") for answer in answers]
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
        model=Found(model, "artifact", found.key) if model else view.model(),
        facts={"messages": [dict(message.raw) for message in messages]},
        origins=origins,
        inferences=(shift.note,) if shift.note and times_ms else (),
    )


def _answer(answers: Sequence[Message]) -> Json:
    """The text of the answer, or all of them as a chat; None when nobody answered."""
    if len(answers) > 1:
        return [message.as_chat() for message in answers]
    return answers[0].text if answers else None


def _sum(messages: Sequence[Message], *names: str) -> float | None:
    """The sum of a number over messages; None if no message has it."""
    numbers = [as_number(first_of(message.raw, *names)) for message in messages]
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _shift(run: RunRecord, messages: Sequence[Message]) -> _Shift:
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
