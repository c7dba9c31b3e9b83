"""Messages of recorded chats: reading them, and finding the turn that a run is about.

A chat is a list of messages, or an object with the list under one of ``LISTS``. Roles, texts and
times go by several names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import NamedTuple

from migrator.model import Json
from migrator.transformer.profiles import normalise
from migrator.transformer.values import as_number

LISTS = ("conversation", "messages", "chat_history", "history", "contents")
ASKING = frozenset({"user", "human", "customer"})
FRAMING = frozenset({"system", "developer"})  # stands before what is asked
ANSWERING = frozenset({"assistant", "ai", "bot", "model", "agent", "chatbot", "gpt"})
TOOLS = frozenset({"tool", "function"})
ROLES = ASKING | ANSWERING | FRAMING | TOOLS
ROLE_KEYS = ("role", "message_type", "type", "sender", "speaker", "from")
TEXT_KEYS = ("content", "text", "message", "value", "parts")
TIME_KEYS = ("timestamp", "time", "created_at")
PARTS = frozenset({"text", "textblock", "text_block", "output_text", "input_text"})
"""Types of the parts of one message, which are not the roles of several."""

OTHER_KEYS = frozenset({*ROLE_KEYS, *TIME_KEYS, "name", "model", "error", "stderr"})
BESIDE_A_PAIR = OTHER_KEYS | {"id", "turn", "turn_id", "turn_number", "index"}
"""Keys that may stand beside a question and its answer in one item of a chat."""

EARLIEST_S = 100_000_000.0  # 1973; a smaller number is not a time
_MESSAGE_CLASS = re.compile(r"(?<=[a-z])_?message(_?chunk)?$")  # HumanMessage, AIMessageChunk


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a recorded chat."""

    role: str
    text: str
    time_ms: float | None
    in_zone: bool  # its time names its zone
    raw: Mapping[str, Json]

    def as_chat(self) -> Json:
        """The message in the form of MLflow's chats."""
        role = "assistant"
        if self.role in ASKING:
            role = "user"
        elif self.role in FRAMING:
            role = self.role
        return {"role": role, "content": self.text}


def messages_of(value: Json) -> list[Message]:
    """Read a list of messages, or an object that holds one; empty when the value is not a chat.

    An item may also be a question with its answer: ``{"user": "…", "assistant": "…"}``. In an
    object it may be a list of two texts: a role and what it said, or as Gradio writes it, a
    question and its answer.
    """
    is_history = False
    if isinstance(value, Mapping):
        key = next((key for key in LISTS if key in value), None)
        if key is None:
            return _question_and_answer(value)
        value, is_history = value[key], True
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    messages: list[Message] = []
    for item in value:
        read = _messages_in(item, is_history=is_history)
        if not read:
            return []
        messages += read
    return _with_known_roles(messages)


def _messages_in(item: Json, *, is_history: bool) -> list[Message]:
    """The messages of one item of a chat; empty when it is none."""
    if isinstance(item, Mapping):
        message = _message_of(item)
        if message is not None:
            return [message]
        pair = _question_and_answer(item)
        others = [key for key in item if not (_role_of_key(key) or key.lower() in BESIDE_A_PAIR)]
        return [] if others else pair
    if not is_history or not isinstance(item, list) or len(item) != 2:
        return []
    first, second = item
    if not isinstance(first, str) or not isinstance(second, str | None):
        return []
    if speaker_of(first) in ROLES:
        return [_said(first, second or "")]
    if " " not in first.strip() + (second or ""):
        return []  # a name and its value
    return [_said("user", first), *([_said("assistant", second)] if second else [])]


def _question_and_answer(item: Mapping[str, Json]) -> list[Message]:
    """The messages of ``{"user": "…", "assistant": "…"}``; empty for any other object."""
    asked = next((key for key in item if _role_of_key(key) in ASKING), None)
    answered = next((key for key in item if _role_of_key(key) in ANSWERING), None)
    if asked is None or answered is None:
        return []
    question, answer = item[asked], item[answered]
    if not isinstance(question, str) or not isinstance(answer, str):
        return []
    return [_said("user", question), _said("assistant", answer)]


def _role_of_key(key: str) -> str:
    """The role that a key names: ``user`` for ``user``, ``user_message`` and ``user_messages``."""
    role, _, noun = key.lower().partition("_")
    is_role = noun.removesuffix("s") in ("", "message", "text") and role in ROLES
    return role if is_role else ""


def _said(role: str, text: str) -> Message:
    """A message that was logged without a time."""
    raw = {"role": speaker_of(role), "content": text}
    return Message(speaker_of(role), text, None, True, raw)


def _with_known_roles(messages: list[Message]) -> list[Message]:
    """Take the one other speaker of a chat with an assistant for its user, whatever the name."""
    roles = {message.role for message in messages}
    others = roles - ANSWERING - FRAMING
    if len(others) != 1 or not roles & ANSWERING or others <= ASKING | TOOLS:
        return messages
    return [
        replace(message, role="user") if message.role in others else message for message in messages
    ]


def _message_of(item: Json) -> Message | None:
    if not isinstance(item, Mapping) or isinstance(item.get("function"), Mapping):
        return None  # {"type": "function", "function": {…}} is a call of a tool
    role = first_of(item, *ROLE_KEYS)
    if not isinstance(role, str) or is_part(item):
        return None
    text = _text_of(item)
    time_ms, in_zone = _time(first_of(item, *TIME_KEYS))
    return Message(speaker_of(role), text, time_ms, in_zone, item)


def is_part(item: Mapping[str, Json]) -> bool:
    """Whether an object is a part of a message with a text, as Anthropic and OpenAI send it."""
    kind = first_of(item, *ROLE_KEYS)
    return isinstance(kind, str) and normalise(kind) in PARTS and isinstance(item.get("text"), str)


def speaker_of(role: str) -> str:
    """A role in lower case, also from the name of a message's class: ``ai`` of ``AIMessage``."""
    return _MESSAGE_CLASS.sub("", normalise(role))


def first_of(item: Mapping[str, Json], *names: str) -> Json:
    """The first value of an object that is not null under one of the names."""
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


def _text_of(item: Mapping[str, Json]) -> str:
    """The text of a message; empty when it has none, as one that only calls tools.

    It may stand in parts, or under a key of its own: then the longest text is taken.
    """
    content = first_of(item, *TEXT_KEYS)
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "\n".join(part for part in parts if isinstance(part, str))
    if any(key in item for key in TEXT_KEYS):
        return ""
    texts = [
        value
        for key, value in item.items()
        if isinstance(value, str) and key not in OTHER_KEYS and not key.endswith(("id", "time"))
    ]
    return max(texts, key=len, default="")


class Turn(NamedTuple):
    """A question, its answer (None: there is none), and the messages up to the question."""

    asked: str
    answer: str | None
    before: tuple[Message, ...]


def turn_of(messages: Sequence[Message], questions: Sequence[str]) -> Turn | None:
    """Find the turn of a chat that a run is about.

    That is the last one that asks one of ``questions``, or the last one of all when a run has no
    question of its own. None when nobody asks, or nobody asks what the run asked.
    """
    asked = [at for at, message in enumerate(messages) if message.role in ASKING]
    if questions:
        asked = [at for at in asked if _is_one_of(messages[at].text, questions)]
    if not asked:
        return None
    at = asked[-1]
    answer: str | None = None
    for message in messages[at + 1 :]:
        if message.role in ASKING:
            break
        if message.role in ANSWERING and message.text.strip():
            answer = message.text
    return Turn(messages[at].text, answer, tuple(messages[:at]))


def turn_of_texts(value: Json, questions: Sequence[str]) -> Turn | None:
    """Find the turn in the bare texts of a chat: they begin with what the run asked."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    texts = [str(text) for text in value if str(text).strip()]
    if len(texts) < 2 or not questions or not _is_one_of(texts[0], questions):
        return None
    return Turn(texts[0], texts[-1], ())


def _is_one_of(text: str, questions: Sequence[str]) -> bool:
    """Whether a text is a question, or one of the two holds the other."""
    plain = " ".join(text.split())
    for question in questions:
        other = " ".join(question.split()).removesuffix("...")
        if plain == other or (plain and other and (plain in other or other in plain)):
            return True
    return False
