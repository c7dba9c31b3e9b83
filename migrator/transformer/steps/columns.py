"""The meaning of a table's columns: inputs, outputs, expectations, feedback and the rest.

A column is sorted by its name and by the type of its cells, in view of the other columns:
``correct`` is the right answer when it holds letters and a score when it holds yes and no;
``answer`` is what was expected when a ``response`` stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from migrator import encoding
from migrator.model import Json
from migrator.transformer.logged_tables import Row
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.named_models import MODEL_RANKS, models_at
from migrator.transformer.profiles import Profile, Source, normalise
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.steps.cells import Cells, cell_type, is_empty
from migrator.transformer.steps.column_words import (
    ACTUAL,
    ANSWER,
    ANSWERS,
    BARE_SCORE,
    COMMENTS,
    COUNTED,
    EXPECTED,
    EXPECTED_FIRST,
    EXPLAINING,
    GRADERS,
    IDS,
    MEASURED,
    NEUTRAL,
    OUTCOMES,
    PEOPLE,
    PREDICTED,
    QUESTIONS,
    REASON_KEYS,
    REASON_WORDS,
    REASONS,
    SCORE_OBJECTS,
    SCORE_PREFIXES,
    SCORE_SUFFIXES,
    SCORES,
    VALUE_KEYS,
    plain_name,
)
from migrator.transformer.values import as_number, parse_json
from migrator.transformer.verdicts import plain_words, verdict


class Meaning(Enum):
    """What the cells of a column are to a row's trace."""

    INPUT = "input"
    OUTPUT = "output"
    EXPECTATION = "expectation"
    FEEDBACK = "feedback"
    RATIONALE = "rationale"  # of the feedback that the column's name begins or ends with
    ID = "id"
    FIELD = "field"  # tokens, cost, duration, model, session, error: a field of the profile
    RULED = "ruled"  # an [[assessments]] rule of the profile reads it
    FACT = "fact"  # everything else: kept as an attribute


FIELDS_OF_ROWS = (
    "model", "provider", "session", "user", "input_tokens", "output_tokens", "total_tokens",
    "cached_tokens", "reasoning_tokens", "cost_usd", "input_cost_usd", "output_cost_usd",
    "duration_ns", "duration_us", "duration_ms", "duration_s", "duration_min", "duration_h",
    "duration_unknown", "error", "error_type", "error_message", "stack_trace",
)  # fmt: skip
"""The profile's fields that a row's own cells fill, besides inputs and outputs."""
MOST_NUMBERED = 10  # of columns that differ in a number only; more are features or an embedding
WEAK_ANSWERS = frozenset({"summary", "result", "results"})
"""Names of answers that reports and findings have, too."""
PASSED = frozenset({"pass", "passed", "partial"})  # words of tests, not of runs
MOST_CELLS = 0.5  # a column is of the kind that more of its cells are of
_VERSION = re.compile(r"\Av\d+\Z")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by meaning; ``scored`` gives the name of each feedback column.

    ``reasons`` gives the column with the rationale of a feedback's name, and ``worded`` are the
    names whose rationales are words of a judge in at least one row. ``asks`` says
    whether an input is surely what somebody asked, ``speaks`` whether one is named as a question,
    or an input or answer is prose, and ``judges`` whether the name of a feedback says so.
    """

    meanings: Mapping[str, Meaning]
    scored: Mapping[str, str]
    reasons: Mapping[str, str]
    worded: frozenset[str] = frozenset()
    asks: bool = False
    speaks: bool = False
    judges: bool = False

    def of(self, *meanings: Meaning) -> tuple[str, ...]:
        """The columns with one of these meanings, in the order of the table."""
        return tuple(name for name, meaning in self.meanings.items() if meaning in meanings)


class Sorter:
    """Sorts the columns of one table. ``read_by_fields`` and ``ruled`` are the profile's."""

    def __init__(
        self,
        names: Sequence[str],
        rows: Sequence[Row],
        profile: Profile,
        read_by_fields: set[str],
        ruled: set[str],
    ) -> None:
        self.names = names
        self.rows = rows
        self.profile = profile
        self.read_by_fields = read_by_fields
        self.ruled = ruled
        self.types = {name: cell_type(row.get(name) for row in rows) for name in self.names}
        self.scored: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.unnamed: list[str] = []  # texts whose column's name says nothing
        self.guessed: set[str] = set()  # scores by their type alone

    def sort(self) -> Columns:
        """Sort all columns."""
        meanings = {name: self._meaning(name) for name in self.names}
        self._find_answer(meanings)
        scores = [name for name, meaning in meanings.items() if meaning is Meaning.FEEDBACK]
        self._give_reasons(meanings, scores)
        worded = {name for name, column in self.reasons.items() if self._share(column, _is_worded)}
        inputs = [name for name, meaning in meanings.items() if meaning is Meaning.INPUT]
        outputs = [name for name, meaning in meanings.items() if meaning is Meaning.OUTPUT]
        asks = any(self._is_question(name) for name in inputs)
        is_prose = any(self._share(name, _is_prose) > MOST_CELLS for name in inputs)
        is_named = any(self._is_named_question(name) for name in inputs)
        speaks = is_named or is_prose or any(self._is_answer_in_words(name) for name in outputs)
        judges = bool(self.scored.keys() - self.guessed)
        return Columns(meanings, self.scored, self.reasons, frozenset(worded), asks, speaks, judges)

    def _is_question(self, name: str) -> bool:
        """Whether an input is surely what somebody asked: longer texts so named, or that ask."""
        asks = self._share(name, _asks) > MOST_CELLS
        if self._is_named_question(name):
            return asks or self.types[name] in (Cells.TEXT, Cells.STRUCTURE)
        return asks and self.types[name] is not Cells.WORD

    def _is_named_question(self, name: str) -> bool:
        return name not in self.unnamed and not self._is_unknown_structure(name)

    def _is_unknown_structure(self, name: str) -> bool:
        is_structure = self.types[name] is Cells.STRUCTURE
        return is_structure and QUESTIONS.search(plain_name(name)) is None

    def _is_answer_in_words(self, name: str) -> bool:
        """Whether an output is surely an answer: sentences, under a name that says so."""
        plain = plain_name(name)
        if plain in WEAK_ANSWERS or REASONS.search(plain):
            return False
        return self.types[name] in (Cells.TEXT, Cells.STRUCTURE)

    def _meaning(self, name: str) -> Meaning:
        own = self._by_own_fields(name)
        if own is not None:
            return own
        if name in self.ruled:
            return Meaning.RULED
        if name in self.read_by_fields:
            return Meaning.FIELD
        return self._by_parts(name) or self._by_name(name, plain_name(name))

    def _by_own_fields(self, name: str) -> Meaning | None:
        """The meaning that the user's own profile gives the column by its key."""
        own, plain = self.profile.own, normalise(name)
        if _is_named(own.get("not_inputs", ()), plain):
            meaning = Meaning.OUTPUT if _is_named(own.get("outputs", ()), plain) else None
            return meaning or (None if self._is_other_field(plain) else Meaning.FACT)
        if _is_named(own.get("outputs", ()), plain):
            return Meaning.OUTPUT
        return Meaning.INPUT if _is_named(own.get("inputs", ()), plain) else None

    def _is_other_field(self, plain: str) -> bool:
        fields = self.profile.own
        return any(_is_named(fields.get(field, ()), plain) for field in FIELDS_OF_ROWS)

    def _by_parts(self, name: str) -> Meaning | None:
        """The meaning by a prefix or suffix at ``/`` or ``.``, as in ``outputs.groundedness``."""
        parts = [part for part in re.split(r"[./]", name.strip()) if part]
        if len(parts) < 2:
            return None
        first, last, inner = parts[0].lower(), parts[-1].lower(), plain_name("_".join(parts[1:]))
        if first == "metadata":
            return Meaning.FACT
        if last in REASON_WORDS:
            self.reasons[_bare(parts[:-1])] = name
            return Meaning.RATIONALE
        if first in REASON_WORDS:
            self.reasons[_bare(parts[1:])] = name
            return Meaning.RATIONALE
        is_short = self.types[name] not in (Cells.TEXT, Cells.STRUCTURE)
        if "llm_judged" in parts and last not in SCORE_SUFFIXES and is_short:
            return self._feedback(name, _bare(parts[1:]))
        if last in SCORE_SUFFIXES and is_short and first not in ("inputs", "input"):
            return self._feedback(name, _bare(parts[:-1]))
        if first in SCORE_PREFIXES and is_short:
            return self._feedback(name, _bare(parts[1:]))
        if first in ("outputs", "output", "response"):
            is_score = is_short and SCORES.search(inner) is not None
            if is_score or self.types[name] in (Cells.NUMBER, Cells.YES_NO):
                return self._feedback(name, ".".join(parts[1:]))
            return Meaning.OUTPUT
        return _by_prefix(first, inner)

    def _by_name(self, name: str, plain: str) -> Meaning:
        if IDS.search(plain):
            return Meaning.ID
        if plain in ("correct", "right"):
            return self._correct(name)
        if self.types[name] is Cells.STRUCTURE and self._holds_scores(name, plain):
            return self._feedback(name, name)
        if self.types[name] is Cells.STRUCTURE and plain in SCORE_OBJECTS:
            return Meaning.FACT  # the names of metrics
        companion = self._scored_by(plain)
        if companion is not None:
            self.reasons[companion] = name
            return Meaning.RATIONALE
        return self._by_words(name, plain)

    def _by_words(self, name: str, plain: str) -> Meaning:
        kind = self.types[name]
        is_short = kind in (Cells.NUMBER, Cells.YES_NO, Cells.WORD)
        if COMMENTS.search(plain) or (REASONS.search(plain) and GRADERS.search(plain)):
            return self._comment(name, plain)
        if OUTCOMES.search(plain) and self._says_passed(name):
            return self._feedback(name, name)
        is_neutral = NEUTRAL.search(plain) and self._share(name, _asks) <= MOST_CELLS
        if is_neutral or self._is_grader(name, plain) or self._is_measured(name, plain):
            return Meaning.FACT
        if self._is_expected(name, plain):
            return Meaning.EXPECTATION
        if SCORES.search(plain):
            return self._feedback(name, name) if is_short else self._long_score(plain)
        if REASONS.search(plain):
            return Meaning.OUTPUT
        if ANSWERS.search(plain) or ANSWER.search(plain):
            return self._answer(name, plain)
        is_about = kind in (Cells.NUMBER, Cells.YES_NO) and QUESTIONS.fullmatch(plain) is None
        if QUESTIONS.search(plain) and not is_about:
            return Meaning.INPUT
        return self._unknown(name)

    def _is_expected(self, name: str, plain: str) -> bool:
        """Whether a column says what was right, not how near the answer came to it."""
        if EXPECTED_FIRST.search(plain):
            return True
        if PREDICTED.search(plain):
            return False
        if ACTUAL.search(plain):
            return any(PREDICTED.search(plain_name(other)) for other in self.names)
        is_score = SCORES.search(plain) and self.types[name] in (Cells.NUMBER, Cells.YES_NO)
        return EXPECTED.search(plain) is not None and not is_score

    def _says_passed(self, name: str) -> bool:
        """Whether a column says of each row whether it passed, in yes and no or in such words."""
        if self.types[name] is Cells.YES_NO:
            return True
        cells = [row[name] for row in self.rows if not is_empty(row.get(name))]
        said = {plain_words(cell) for cell in cells if isinstance(cell, str)}
        return bool(said & PASSED) and self._share(name, _is_verdict) > MOST_CELLS

    def _is_measured(self, name: str, plain: str) -> bool:
        """Whether a column is a number of things, a time or a cost, or the number of a reason."""
        if self.types[name] is not Cells.NUMBER:
            return False
        return any(words.search(plain) for words in (COUNTED, MEASURED, REASONS))

    def _is_grader(self, name: str, plain: str) -> bool:
        """Whether a column says who judged: a person, or a model."""
        if self.types[name] is not Cells.WORD or GRADERS.search(plain) is None:
            return False
        return PEOPLE.search(plain) is not None or self._share(name, _has_name_of_llm) == 1

    def _holds_scores(self, name: str, plain: str) -> bool:
        """Whether all cells are scores: objects of them under a name that says so, or one each."""
        for row in self.rows:
            cell = row.get(name)
            if is_empty(cell):
                continue
            value = parse_json(cell) if isinstance(cell, str) else cell
            entries = value if isinstance(value, list) else [value]
            if plain in SCORE_OBJECTS:
                is_scores = all(isinstance(each, Mapping) for each in entries)
            else:
                is_scores = _is_one_score(value) or _are_verdicts(value)
            if not is_scores:
                return False
        return True

    def _comment(self, name: str, plain: str) -> Meaning:
        """The words of a grader; without a question beside it a comment may be what was asked."""
        kind = self.types[name]
        is_text = kind in (Cells.TEXT, Cells.WORD)
        others = [plain_name(other) for other in self.names if other != name]
        has_question = any(QUESTIONS.search(other) for other in others)
        if is_text and (has_question or GRADERS.search(plain)):
            return Meaning.FACT  # until it is known which score it explains
        return self._unknown(name)

    def _correct(self, name: str) -> Meaning:
        """``correct`` is a score when its cells say yes or no, else the right answer."""
        cells = [row[name] for row in self.rows if not is_empty(row.get(name))]
        if all(verdict(cell) is not None for cell in cells):
            return self._feedback(name, name)
        numbers = [as_number(cell) for cell in cells]
        if all(number is not None and 0 <= number <= 1 for number in numbers):
            return self._feedback(name, name)
        return Meaning.EXPECTATION

    def _scored_by(self, plain: str) -> str | None:
        """The score whose rationale a column is: ``tone_reason`` beside ``tone``."""
        head, _, tail = plain.rpartition("_")
        if not head or tail not in EXPLAINING:
            return None
        names = (head, f"{head}_score", f"{head}_rating", f"{head}_grade")
        for other in self.names:
            is_short = self.types[other] in (Cells.NUMBER, Cells.YES_NO, Cells.WORD)
            if is_short and plain_name(other) in names and plain_name(other) != plain:
                return other
        return None

    def _long_score(self, plain: str) -> Meaning:
        """A long text whose name speaks of a score: a judge's words, or an answer."""
        if ANSWERS.search(plain) or ANSWER.search(plain):
            return Meaning.OUTPUT
        return Meaning.INPUT if QUESTIONS.search(plain) else Meaning.FACT

    def _answer(self, name: str, plain: str) -> Meaning:
        is_plain_answer = ANSWERS.search(plain) is None
        if not is_plain_answer or plain not in ("answer", "answers"):
            return Meaning.OUTPUT
        others = [plain_name(other) for other in self.names if other != name]
        has_other = any(self._is_answer(other) for other in others)
        return Meaning.EXPECTATION if has_other else Meaning.OUTPUT

    def _is_answer(self, plain: str) -> bool:
        """Whether a column is surely what the model answered."""
        if SCORES.search(plain) or NEUTRAL.search(plain) or EXPECTED.search(plain):
            return False
        is_model_answer = ANSWER.search(plain) is not None and plain not in ("answer", "answers")
        return ANSWERS.search(plain) is not None or is_model_answer

    def _unknown(self, name: str) -> Meaning:
        """A column whose name says nothing: by the type of its cells."""
        kind = self.types[name]
        if kind is Cells.YES_NO or (kind is Cells.NUMBER and self._is_from_0_to_1(name)):
            self.guessed.add(name)
            return self._feedback(name, name)
        if kind is Cells.NUMBER:
            return Meaning.FACT
        if kind is Cells.EMPTY or self._holds_numbers(name):
            return Meaning.FACT
        if kind is Cells.WORD and self._share(name, _is_llm) == 1:
            return Meaning.FIELD
        if kind is not Cells.STRUCTURE:
            self.unnamed.append(name)
        return Meaning.INPUT

    def _holds_numbers(self, name: str) -> bool:
        """Whether all cells are lists or objects of numbers, such as latencies or embeddings."""
        cells = [row[name] for row in self.rows if not is_empty(row.get(name))]
        for cell in cells:
            inner = list(cell.values()) if isinstance(cell, Mapping) else cell
            if not isinstance(inner, list) or not all(_is_number(each) for each in inner):
                return False
        return True

    def _is_from_0_to_1(self, name: str) -> bool:
        """Whether all numbers of a column, and of those numbered like it, are from 0 to 1."""
        alike = [other for other in self.names if _unnumbered(other) == _unnumbered(name)]
        for other in alike:
            numbers = [as_number(row.get(other)) for row in self.rows]
            if not all(0 <= number <= 1 for number in numbers if number is not None):
                return False
        return len(alike) <= MOST_NUMBERED

    def _share(self, name: str, fits: Callable[[str, str], bool]) -> float:
        """The share of a column's texts that fit; ``fits`` gets the plain name and the text."""
        cells = [row.get(name) for row in self.rows]
        texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
        plain = plain_name(name)
        return sum(fits(plain, text) for text in texts) / len(texts) if texts else 0.0

    def _find_answer(self, meanings: dict[str, Meaning]) -> None:
        """Take for the answer the one text beside a question, where no column's name tells.

        So the columns of any language are understood. Words that may be a category do not count,
        nor does a text in a table that names what was expected: there an answer has a name, too.
        """
        is_english = any(EXPECTED.search(plain_name(name)) for name in self.names)
        if is_english or Meaning.OUTPUT in meanings.values():
            return
        asking = [name for name in self.unnamed if self._share(name, _asks) > MOST_CELLS]
        named = [name for name, meaning in meanings.items() if meaning is Meaning.INPUT]
        has_question = bool(asking) or any(name not in self.unnamed for name in named)
        others = [name for name in self.unnamed if name not in asking]
        telling = [name for name in others if self._share(name, _tells) > MOST_CELLS]
        if has_question and len(telling) == 1:
            meanings[telling[0]] = Meaning.OUTPUT

    def _feedback(self, column: str, name: str) -> Meaning:
        self.scored[column] = name
        return Meaning.FEEDBACK

    def _give_reasons(self, meanings: dict[str, Meaning], scores: Sequence[str]) -> None:
        """Give the words of a grader to the one score beside them.

        A column ``reason`` beside one bare ``score`` is a grader's, too; else it is an output.
        """
        bare = [name for name in scores if BARE_SCORE.search(plain_name(name))]
        for name, meaning in meanings.items():
            plain = plain_name(name)
            explained: Sequence[str] = ()
            if meaning is Meaning.OUTPUT and plain in REASON_WORDS:
                before = self._judged_before(name, meanings)
                if before:
                    meanings[name] = Meaning.RATIONALE
                    for score in before:
                        self.reasons.setdefault(self.scored.get(score, score), name)
                    continue
                is_alone = not any(self._is_asked_or_answered(*each) for each in meanings.items())
                explained = scores if is_alone else bare
            elif meaning is Meaning.FACT and self._is_by_grader(name, plain):
                explained = scores
            if len(explained) == 1:
                meanings[name] = Meaning.RATIONALE
                self.reasons.setdefault(self.scored[explained[0]], name)

    def _is_asked_or_answered(self, name: str, meaning: Meaning) -> bool:
        is_reason = plain_name(name) in REASON_WORDS
        return meaning in (Meaning.INPUT, Meaning.OUTPUT) and not is_reason

    def _judged_before(self, reason: str, meanings: Mapping[str, Meaning]) -> list[str]:
        """The scores that a judge wrote before the reason for them, all after the answer.

        A model's own reasoning stands before its answer, or beside one verdict on it.
        """
        before = list(self.names[: list(self.names).index(reason)])
        answers = [
            name
            for name, meaning in meanings.items()
            if meaning is Meaning.OUTPUT and plain_name(name) not in REASON_WORDS
        ]
        if not answers or not all(name in before for name in answers):
            return []
        last = max(before.index(name) for name in answers)
        scores = [n for n in before[last + 1 :] if meanings[n] in (Meaning.FEEDBACK, Meaning.RULED)]
        return scores if len(scores) > 1 else []

    def _is_by_grader(self, name: str, plain: str) -> bool:
        if self.types[name] not in (Cells.TEXT, Cells.WORD):
            return False
        is_reason = REASONS.search(plain) is not None and GRADERS.search(plain) is not None
        return is_reason or COMMENTS.search(plain) is not None or plain.endswith("feedback")


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_one_score(value: Json) -> bool:
    """Whether an object is one score with its rationale, whatever else the grader said."""
    if not isinstance(value, Mapping) or set(value).isdisjoint(VALUE_KEYS):
        return False
    return not set(value).isdisjoint(REASON_KEYS)


def _are_verdicts(value: Json) -> bool:
    """Whether an object says yes or no under each name, or nothing."""
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(each, bool) or each is None for each in value.values())


def _unnumbered(name: str) -> str:
    return re.sub(r"\d+", "#", plain_name(name))


def _is_llm(plain: str, text: str) -> bool:
    return any(rank == MODEL_RANKS[ModelKind.LLM] for rank, _ in models_at(plain, text))


def _is_verdict(plain: str, text: str) -> bool:
    return verdict(text) is not None


def _has_name_of_llm(plain: str, text: str) -> bool:
    return kind_of_model(text) is ModelKind.LLM


def _is_worded(plain: str, text: str) -> bool:
    return " " in text.strip()


def _asks(plain: str, text: str) -> bool:
    return kind_of_text(text) is Prose.REQUEST


def _is_prose(plain: str, text: str) -> bool:
    return kind_of_text(text) >= Prose.PROSE


def _tells(plain: str, text: str) -> bool:
    return kind_of_text(text) >= Prose.TERMS


def _by_prefix(first: str, inner: str) -> Meaning | None:
    """The meaning of ``inputs.question``, ``expectations/answer`` and the like."""
    if first in ("expectations", "expectation", "expected"):
        return Meaning.EXPECTATION
    if first not in ("inputs", "input", "request"):
        return None
    if IDS.search(inner):
        return Meaning.ID
    return Meaning.EXPECTATION if EXPECTED.search(inner) else Meaning.INPUT


def _is_named(sources: Sequence[Source], plain: str) -> bool:
    """Whether one of the sources names a row's column, other than by ``*`` alone."""
    for source in sources:
        if source.place not in ("param", "metric") or source.key == "*":
            continue
        is_same = source.key == plain if source.pattern is None else source.pattern.match(plain)
        if is_same:
            return True
    return False


def _bare(parts: Sequence[str]) -> str:
    """The name of a score from the parts of a column's name, without ``v1`` and ``llm_judged``."""
    kept = [part for part in parts if not _VERSION.match(part) and part != "llm_judged"]
    drop = ("response", "outputs") if len(kept) > 1 else ()
    return encoding.cut("/".join(part for part in kept if part not in drop) or parts[0], 250)
