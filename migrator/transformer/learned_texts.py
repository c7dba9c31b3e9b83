"""Tells questions from answers among the texts that runs logged under names nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from migrator.model import Json
from migrator.transformer.chat_messages import ANSWERING, ASKING, messages_of
from migrator.transformer.logged_keys import HINTS, LEAST_PAIRS, MOST_RUNS, LoggedKey
from migrator.transformer.notes import noted_turn
from migrator.transformer.payloads import is_chat_log
from migrator.transformer.prose import Prose, asks, kind_of_text
from migrator.transformer.unlisted import is_about_something_else
from migrator.transformer.values import parse_json

MOST_TEXTS = 0.5  # a key whose texts are for a larger part of a kind is of that kind


@dataclass(frozen=True, slots=True)
class TextRole:
    """A key whose texts were asked or answered, and why it is believed."""

    key: LoggedKey
    why: str
    is_sure: bool  # it says by itself that a language model was at work


@dataclass(frozen=True, slots=True)
class TextRoles:
    """The keys of an experiment that hold texts, each list with the best first."""

    asked: Sequence[TextRole]
    answered: Sequence[TextRole]
    chats: Sequence[TextRole]
    transcripts: Sequence[TextRole]  # notes with a question and its answer


@dataclass(frozen=True, slots=True)
class _Text:
    """What the texts of a key look like."""

    key: LoggedKey
    asking: float  # the share of texts that ask
    telling: float  # the share of texts that are prose or ask
    wording: float  # the share of texts that have several words
    is_named_asked: bool
    is_named_answered: bool
    is_doubtful: bool  # its name is that of notes or settings, or it is always the same text

    @property
    def chars(self) -> float:
        """The length of the text in the middle."""
        return median(len(text) for text in self.key.texts())

    @property
    def asks(self) -> bool:
        """Whether it holds questions or requests, or prose under a name that says so."""
        is_prose_asked = self.telling >= MOST_TEXTS and self.is_named_asked
        return self.asking >= MOST_TEXTS or (is_prose_asked and not self.is_named_answered)

    def role(self, why: str, *, is_sure: bool) -> TextRole:
        """The role of the key; notes and settings are never sure."""
        return TextRole(self.key, why, is_sure and not self.is_doubtful)


def roles_of_texts(keys: Sequence[LoggedKey]) -> TextRoles:
    """Find what was asked and what was answered: by chats, by form, by name and by length."""
    chats = [key for key in keys if _is_chat(key)]
    transcripts = [key for key in keys if key not in chats and _is_transcript(key)]
    others = [key for key in keys if key not in chats and key not in transcripts]
    texts = [_looked_at(key) for key in others if key.texts()]
    asked: list[TextRole] = []
    answered: list[TextRole] = []
    rest: list[_Text] = []
    for text in texts:
        role = _role_in_chats(text.key, chats)
        if role == "asked":
            asked.append(text.role("what the user says in the chat", is_sure=True))
        elif role == "answered":
            answered.append(text.role("what the model says in the chat", is_sure=True))
        elif text.telling >= MOST_TEXTS or text.wording >= MOST_TEXTS:
            rest.append(text)
    _by_form(rest, asked, answered)
    why = "chats: the last question and its answer are taken"
    return TextRoles(
        asked,
        answered,
        chats=[TextRole(key, why, True) for key in chats],
        transcripts=[TextRole(key, "a question and its answer", True) for key in transcripts],
    )


def _by_form(rest: Sequence[_Text], asked: list[TextRole], answered: list[TextRole]) -> None:
    """Add keys to those that a chat told, from the form of their texts."""
    asking = [text for text in rest if text.asks]
    telling = [text for text in rest if not text.asks and text.telling >= MOST_TEXTS]
    if not asked and all(text.is_doubtful for text in asking) and (telling or not asking):
        asking += _short_inputs(rest, [*asking, *telling])
    if not answered and not telling:
        telling = _answers_among(asking)
        asking = [text for text in asking if text not in telling]
    if not asked and not asking and len(telling) > 1:
        shortest = min(telling, key=lambda text: (text.is_doubtful, text.chars, text.key.source))
        telling.remove(shortest)
        asking.append(shortest)
    for text in _clear_if_any(sorted(asking, key=_order_of_asked)):
        asked.append(text.role(f"{text.asking:.0%} of its texts ask", is_sure=text.asking > 0))
    for text in sorted(telling, key=_order_of_answered):
        answered.append(text.role("texts that tell", is_sure=False))


def _short_inputs(rest: Sequence[_Text], known: Sequence[_Text]) -> list[_Text]:
    """Short texts by their names, such as search terms, beside what was answered."""
    named = [text for text in rest if text.is_named_asked and not text.is_named_answered]
    return [text for text in named if text not in known]


def _clear_if_any(texts: Sequence[_Text]) -> Sequence[_Text]:
    """The texts that are not doubtful; all of them if every one is."""
    return [text for text in texts if not text.is_doubtful] or texts


def _answers_among(asking: Sequence[_Text]) -> list[_Text]:
    """The one of several texts that ask which answers: a model may ask back."""
    clear = [text for text in asking if not text.is_doubtful]
    if len(clear) < 2:
        return []
    answers = [text for text in clear if text.is_named_answered]
    candidates = answers or [text for text in clear if not text.is_named_asked]
    candidates.sort(key=lambda text: (-text.chars, text.key.source))
    return candidates[:1]


def _order_of_asked(text: _Text) -> tuple[bool, float, str]:
    return (text.is_doubtful, -(text.asking + text.is_named_asked), text.key.source)


def _order_of_answered(text: _Text) -> tuple[bool, float, str]:
    return (text.is_doubtful, -(text.telling + text.is_named_answered), text.key.source)


def _looked_at(key: LoggedKey) -> _Text:
    texts = key.texts()
    kinds = [kind_of_text(text) for text in texts]
    asking = 0
    for kind, text in zip(kinds, texts, strict=True):
        asking += kind is Prose.REQUEST or asks(text)
    is_constant = len(set(texts)) == 1 and len(texts) >= LEAST_PAIRS
    name = key.name.split("_")
    is_prompt = "prompt" in name and "system" not in name
    is_of_notes = is_about_something_else("param", key.name)  # also of a file's name
    return _Text(
        key,
        asking=asking / len(texts),
        telling=sum(kind >= Prose.PROSE for kind in kinds) / len(texts),
        wording=sum(kind >= Prose.TERMS for kind in kinds) / len(texts),
        is_named_asked=HINTS["inputs"].search(key.name) is not None,
        is_named_answered=HINTS["outputs"].search(key.name) is not None,
        is_doubtful=is_constant or (is_of_notes and not is_prompt),
    )


def _is_chat(key: LoggedKey) -> bool:
    values = [parse_json(v) if isinstance(v, str) else v for v in key.values.values()]
    chats = sum(not isinstance(value, str) and is_chat_log(value) for value in values)
    return chats >= MOST_RUNS * len(values)


def _is_transcript(key: LoggedKey) -> bool:
    texts = key.texts()
    pairs = sum("\n" in text and noted_turn(text) is not None for text in texts)
    return bool(texts) and pairs >= MOST_RUNS * len(key.values)


def _role_in_chats(key: LoggedKey, chats: Sequence[LoggedKey]) -> str | None:
    """Whether nearly all texts of a key are what users, or what models, say in the run's chats."""
    asked = answered = compared = 0
    for run_id, text in key.values.items():
        messages = [each for chat in chats for each in messages_of(_read(chat, run_id))]
        if not isinstance(text, str) or not text.strip() or not messages:
            continue
        compared += 1
        asked += any(each.role in ASKING and each.text == text for each in messages)
        answered += any(each.role in ANSWERING and each.text == text for each in messages)
    if not compared:
        return None
    if asked >= MOST_RUNS * compared:
        return "asked"
    return "answered" if answered >= MOST_RUNS * compared else None


def _read(chat: LoggedKey, run_id: str) -> Json:
    value = chat.values.get(run_id)
    return parse_json(value) if isinstance(value, str) else value
