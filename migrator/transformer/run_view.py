"""A run as a profile reads it: what was asked and answered, and all that is below that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from migrator import encoding
from migrator.model import Json
from migrator.transformer.answers import (
    answer_in_note,
    find_answers,
    has_short_answer,
    names_llm,
    predicted_class,
    structured_answer,
)
from migrator.transformer.chat_messages import (
    Turn,
    turn_of,
    turn_of_texts,
)
from migrator.transformer.found import Found
from migrator.transformer.input_parts import (
    SYSTEM_STEMS,
    as_chat_if_one,
    cut_part,
    is_new,
    is_same_text,
    joined,
    renderings_of,
    templates_of,
)
from migrator.transformer.loose_texts import (
    NO_TEXTS,
    KnownParts,
    LooseTexts,
    loose_texts,
    worked_on,
)
from migrator.transformer.media import media_of
from migrator.transformer.notes import NotedTurn, noted_turn
from migrator.transformer.payloads import said_in
from migrator.transformer.prose import Prose, asks
from migrator.transformer.python_repr import parse_value
from migrator.transformer.run_facts import RunFacts
from migrator.transformer.text_names import (
    ASKED_AT_LAST,
    QUESTIONS,
    SUBJECTS,
    is_by_model,
    messages_at,
    retrieval_key,
)
from migrator.transformer.unlisted import (
    is_named_by_model,
)
from migrator.transformer.values import (
    OK_WORDS,
    parse_json,
)
from migrator.transformer.verdicts import verdict

MOST_CHARS_OF_TOKEN = 10
CHARS_OF_TOKEN = 4  # in English, about
LEAST_CUT = 80  # so many characters of a longer text may have been logged


@dataclass(slots=True)
class RunView(RunFacts):
    """A run read through a profile, with the question and the answer that it logged.

    ``RunFacts`` finds its model, tokens and times, ``FieldValues`` the values of each field.
    """

    _listed_made: tuple[Json, tuple[Found, ...]] | None = None
    _renderings: tuple[Found, ...] = ()
    _loose: LooseTexts | None = None
    _answers_made: tuple[Found, ...] | None = None
    _turns: tuple[tuple[Turn, Found], ...] | None = None  # one or none
    _inputs_made: tuple[Json, tuple[Found, ...]] | None = None
    _outputs_made: tuple[Json, tuple[Found, ...]] | None = None

    def forget(self) -> None:
        """Forget what was found. It is found again when it is asked for."""
        RunFacts.forget(self)  # super() does not know a dataclass with slots
        self._listed_made = self._loose = self._answers_made = self._turns = None
        self._inputs_made = self._outputs_made = None
        self._renderings = ()

    def inputs(self) -> tuple[Json, tuple[Found, ...]]:
        """The span's inputs and the values they were made of; None when there are none."""
        if self._inputs_made is None:
            self._inputs_made = self._inputs()
        return self._inputs_made

    def outputs(self) -> tuple[Json, tuple[Found, ...]]:
        """The span's outputs and the values they were made of; None when there are none."""
        if self._outputs_made is None:
            self._outputs_made = self._outputs()
        return self._outputs_made

    def renderings(self) -> tuple[Found, ...]:
        """The prompts that were made of what was asked: they hold all of it, and more."""
        self.listed_inputs()
        return self._renderings

    def loose(self) -> LooseTexts:
        """Texts under unlisted names, where the profile's names and whole calls lead to nothing.

        Where only a question is known, or only an answer, they complete it.
        """
        if self._loose is None:
            self._loose = self._find_loose()
        return self._loose

    def turn(self) -> tuple[Turn, Found] | None:
        """The turn of a recorded chat that the run is about, and where the chat was logged."""
        if self._turns is None:
            self._turns = tuple(islice(self._find_turns(), 1))
        return self._turns[0] if self._turns else None

    def listed_inputs(self) -> tuple[Json, tuple[Found, ...]]:
        """Inputs from the profile's sources and from whole calls."""
        if self._listed_made is None:
            self._listed_made = self._find_listed_inputs()
        return self._listed_made

    def _find_listed_inputs(self) -> tuple[Json, tuple[Found, ...]]:
        candidates = self._candidates()
        parts: dict[str, Found] = {}
        for found in candidates:
            value = found.value
            if value is None:
                continue
            if not isinstance(value, str):
                is_chat = encoding.is_chat(value)
                if is_chat or found.place == "artifact":  # it says all by itself, or nothing
                    if parts:
                        continue
                    return ({"messages": value} if is_chat else value), (found,)
                value = encoding.encode(value)
            cut = cut_part(value, found.stem, parts)
            if cut is not None:
                del parts[cut]
                parts[found.stem] = found._replace(value=value)
            elif is_new(value, found.stem, parts):
                parts[found.stem] = found._replace(value=as_chat_if_one(value))
        self._renderings = renderings_of(parts)
        for rendering in self._renderings:
            del parts[rendering.stem]
        for template in templates_of(parts):
            del parts[template]
        return (joined(parts), tuple(parts.values())) if parts else (None, ())

    def _candidates(self) -> list[Found]:
        """The values that may be inputs, in the order of the profile's sources."""
        ignored = {found.at for found in self.every("not_inputs")}
        ignored.update(found.at for found in self.best("outputs"))
        listed = [found for found in self.every("inputs") if found.at not in ignored]
        if len(listed) > 1:  # a message may be "ok"
            listed = [found for found in listed if not _tells_success(found)]
        uncertain = self._uncertain(has_listed=bool(listed))
        candidates = [*listed, *(found for found in uncertain if found.at not in ignored)]
        if not candidates:
            candidates = [found for found in self._subjects() if found.at not in ignored]
        if not all(found.is_of_call for found in candidates):
            return [found for found in candidates if not found.is_of_call]  # the listed come first
        return candidates

    def _uncertain(self, *, has_listed: bool) -> list[Found]:
        """The values under names that may ask, and read as if they do."""
        is_answered = any(not messages_at(found) for found in self.best("outputs"))
        least = Prose.PROSE
        if (is_answered or has_short_answer(self)) and not has_listed:
            least = Prose.TERMS  # beside an answer a few words are what was asked
        return [found for found in self.maybe("maybe_inputs", least) if not is_by_model(found)]

    def _subjects(self) -> list[Found]:
        """The few words that a call is about, where nothing else was asked."""
        is_made = any(is_by_model(found) for found in self.maybe("maybe_inputs"))
        if is_made or self.maybe("maybe_outputs") or self.usage()[0].are_known:
            return self._named(SUBJECTS, Prose.TERMS)
        if names_llm(self):
            return self._named(QUESTIONS, Prose.WORD)
        if retrieval_key(self.run) is not None:
            return self._named(QUESTIONS, Prose.TERMS)
        return []

    def _named(self, last_words: frozenset[str], least: Prose) -> list[Found]:
        """The values of uncertain names that end in one of some words, and read as no less."""
        return [
            found
            for found in self.maybe("maybe_inputs", least)
            if found.stem.rpartition("_")[2] in last_words
            and not is_by_model(found)
            and verdict(found.value) is None  # off_topic = False
        ]

    def few_words(self) -> tuple[Json, tuple[Found, ...]]:
        """The words under a name that asks, too few to tell by themselves that someone asked."""
        for found in self._named(ASKED_AT_LAST | SUBJECTS, Prose.WORD):
            return {found.stem: found.value}, (found,)
        return None, ()

    def _inputs(self) -> tuple[Json, tuple[Found, ...]]:
        listed = self.listed_inputs()
        turn, note = self.note() or (None, None)
        if listed[1] and (note is None or note not in listed[1]):
            return listed
        if turn is not None and note is not None:
            others = [found.value for found in self._answers() if found.at != note.at]
            is_other = not any(is_same_text(turn.answer, other) for other in others)
            if others and is_other:  # a dialogue that another text was made of
                return {note.stem: note.value}, (note,)
            asked = dict(turn.asked)
            return asked, tuple(note._replace(value=asked[name], inside=name) for name in asked)
        loose = self.loose()
        if texts := (*loose.asked, *loose.unclear):
            return {found.stem: found.value for found in texts}, texts
        if names_llm(self) and (media := media_of(self.run)):
            return {found.stem: found.value for found in media}, media
        return None, ()

    def _outputs(self) -> tuple[Json, tuple[Found, ...]]:
        founds = self._answers()
        if len(founds) > 1:
            return {found.stem: found.value for found in founds}, founds
        turn, note = self.note() or (None, None)
        is_only = not founds or (note in founds and not self.listed_inputs()[1])
        if turn is not None and note is not None and is_only:
            answered = note._replace(value=turn.answer, inside=turn.answered_under)
            return turn.answer, (answered,)
        founds = founds or self.loose().answered or structured_answer(self)
        founds = founds or answer_in_note(self) or predicted_class(self)
        if not founds:
            return None, ()
        value = founds[0].value
        if isinstance(value, str):
            value = parse_value(self._without_question(value))
        said = said_in(value)
        if said is None:
            return value, founds[:1]
        return said.value, (founds[0]._replace(inside=said.inside),)

    def _without_question(self, text: str) -> str:
        """The answer of a note that holds what was asked, too; any other text unchanged."""
        turn = noted_turn(text)
        if turn is None:
            return text
        known = self.listed_inputs()[1]
        for question in turn.asked.values():
            if not known or any(is_same_text(question, found.value) for found in known):
                return turn.answer
        return text

    def _find_loose(self) -> LooseTexts:
        if self.profile.steps is not None or self.every("calls") or self.turn() is not None:
            return NO_TEXTS
        is_asked = bool(self.listed_inputs()[1])
        is_answered = bool(self._answers())
        if is_asked and is_answered:
            return NO_TEXTS
        known = KnownParts(names_llm(self), is_asked, is_answered)
        texts = loose_texts(self.run, self.index, known)
        is_written = any(is_named_by_model(found.key) for found in texts.answered)
        is_bare = not is_asked and not is_answered and not is_written
        if is_bare and structured_answer(self):
            given = worked_on(self.run, self.index)
            return LooseTexts(asked=given or texts.all())  # an object answers, and no text
        if is_asked:  # an uncertain name that does not ask may hold the answer itself
            return texts if self._is_surely_asked(texts.answered) else NO_TEXTS
        if texts.answered and not texts.asked and self._is_no_answer(texts.answered[0]):
            return LooseTexts(asked=texts.answered)
        if len(texts.asked) == 1 and not texts.answered and self._fits_answer(texts.asked[0]):
            return LooseTexts(answered=texts.asked)
        return texts

    def _is_surely_asked(self, answered: Sequence[Found]) -> bool:
        """Whether the listed inputs are what was asked, in view of a text that may answer."""
        asked = self.listed_inputs()[1]
        if self.ranked("inputs") or any(asks(str(found.value)) for found in asked):
            return True
        if any(is_named_by_model(found.key) for found in answered):
            return True
        is_param = all(found.place != "artifact" for found in asked)  # and the answer is a file
        return is_param and all(found.place == "artifact" for found in answered)

    def _is_no_answer(self, text: Found) -> bool:
        """Whether the tokens of the run's answer can't be those of a text: too few, or too many.

        A text under a model's name may be the end of long thoughts, or the beginning of an answer.
        Where the run failed, another param or tag is not its answer.
        """
        is_by_name = is_named_by_model(text.key)
        if self.run.status == "FAILED" and text.place != "artifact" and not is_by_name:
            return True
        tokens = self.number("output_tokens")
        if tokens is None or tokens[0] <= 0:
            return False
        chars = len(str(text.value))
        is_too_short = chars < tokens[0] and chars < LEAST_CUT and text.place != "artifact"
        if is_too_short and not is_by_name:
            return True
        return chars > tokens[0] * MOST_CHARS_OF_TOKEN

    def _fits_answer(self, text: Found) -> bool:
        """Whether a file is as long as the answer by the counted tokens, rather than the prompt."""
        given, got = self.number("input_tokens"), self.number("output_tokens")
        if given is None or got is None or text.place != "artifact" or asks(str(text.value)):
            return False
        tokens = len(str(text.value)) / CHARS_OF_TOKEN
        return abs(tokens - got[0]) < abs(tokens - given[0])

    def _answers(self) -> tuple[Found, ...]:
        """The values that the outputs are made of: of a chat's history only the run's answer."""
        if self._answers_made is None:
            self._answers_made = find_answers(self)
        return self._answers_made

    def _find_turns(self) -> Iterator[tuple[Turn, Found]]:
        questions = self._questions()
        for found in (*self.every("outputs"), *self.every("maybe_outputs")):
            messages = messages_at(found)
            if messages and (turn := turn_of(messages, questions)) is not None:
                answer = turn.answer if turn.answer is not None else self.answer_beside(found.value)
                yield turn._replace(answer=answer), found
        for found in self.every("maybe_outputs"):
            value = parse_json(found.value) if isinstance(found.value, str) else found.value
            if (turn := turn_of_texts(value, questions)) is not None:
                yield turn, found

    def answer_beside(self, value: Json) -> str | None:
        """The answer in an object that holds it beside the messages: ``{"messages", "response"}``.

        None when the object holds no such text, or several.
        """
        body = parse_json(value) if isinstance(value, str) else value
        if not isinstance(body, Mapping):
            return None
        beside = [
            text
            for key, text in body.items()
            if isinstance(text, str) and "outputs" in self.index.fields_of_param(key)
        ]
        return beside[0] if len(beside) == 1 else None

    def _questions(self) -> list[str]:
        """The texts that the run logged as asked, beside any chat."""
        texts = []
        for found in self.listed_inputs()[1]:
            is_framing = found.stem in SYSTEM_STEMS or "prompt" in found.stem
            if isinstance(found.value, str) and found.value.strip() and not is_framing:
                texts.append(found.value)
        return texts

    def note(self) -> tuple[NotedTurn, Found] | None:
        """The run's one note, answer or question, if it holds both a question and its answer."""
        notes = self.every("calls") or self._answers() or self._asked_notes()
        if len(notes) != 1 or not isinstance(notes[0].value, str):
            return None
        turn = noted_turn(notes[0].value)
        return (turn, notes[0]) if turn is not None else None

    def _asked_notes(self) -> Sequence[Found]:
        """What the run was asked, under a name of notes on a question: ``query_1.txt``."""
        given = self.listed_inputs()[1]
        return [found for found in given if not QUESTIONS.isdisjoint(found.stem.split("_"))]


def _tells_success(found: Found) -> bool:
    return isinstance(found.value, str) and found.value.strip().lower() in OK_WORDS
