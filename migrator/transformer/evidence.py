"""What the rules for evidence look at in one run, and how surely its texts are those of a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from migrator import encoding
from migrator.model import RunRecord
from migrator.transformer.counted_cases import OF_ONE_CALL, has_text_length
from migrator.transformer.found import Found, Tokens
from migrator.transformer.model_names import (
    ModelKey,
    ModelKind,
    kind_of_model,
    kind_of_model_key,
)
from migrator.transformer.payloads import answer_of, are_answers
from migrator.transformer.profiles import normalise
from migrator.transformer.prose import Prose, asks, is_one_request, kind_of_text
from migrator.transformer.run_view import RunView
from migrator.transformer.statuses import run_status
from migrator.transformer.text_names import (
    PROMPT_WORDS,
    SURE_ANSWER_WORDS,
    SURE_QUESTION_WORDS,
    USER_WORDS,
    is_by_model,
    is_report,
)
from migrator.transformer.values import as_number, words

VERSION_KEY = re.compile(
    r"(^|_)(version|variant|template|revision|baseline|experiment_type|strategy)(_|$)"
    r"|^prompt_(id|name|type|style|hash|key)$"
)
VERSION_NAME = re.compile(
    r"(?i)(^|[\s_-])(v\d+|versions?|variants?|templates?|baseline|prompts?)(?=$|[\s_\d-])"
)
ASKING_WORDS = USER_WORDS - {"message", "request"}
WORDS_OF_AIMS = words("task goal objective message")
EXPECTED_WORDS = words("expected gold golden truth")
EMBEDDING_WORDS = words("embed embedding embeddings embedder")

_TURN_FOLDER = re.compile(
    r"(?i)(turn|step|round|iteration|message|agent|call|query|queries|request|interaction|attempt)s?"
    r"[\s_/-]?\d"
)
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s*|\n")
LATENCY_MS = (30.0, 20 * 60_000.0)  # an answer of an LLM takes neither less nor more
LEAST_LENGTH_MS = 300  # a shorter run only logged something
STRONG_TEXT = 4  # a prompt, a question or an answer that is surely one
FAIR_TEXT = 3  # prose under a name that asks or answers
WEAK_TEXT = 2  # a text that may be one


class TextPoints(NamedTuple):
    """How surely a run holds what a user asked, a prompt of the author, and an answer."""

    asked: int
    prompt: int
    answer: int

    def of_report(self, *, is_picked: bool) -> TextPoints:
        """The points where the answer is a report, and no LLM is named: jobs write those, too.

        ``is_picked``: whether its sentences are those of the text that was given.
        """
        asked = min(self.asked, 1) if is_picked else self.asked
        return self._replace(asked=asked, answer=min(self.answer, 1))

    def as_pair(self) -> TextPoints:
        """The points in view of one another: something asked and an answer make a call."""
        has_given = bool(self.asked or self.prompt)
        if (self.answer > 1 and has_given) or (self.answer and self.asked > 1):
            return self._replace(answer=STRONG_TEXT)
        return self


class Evidence(NamedTuple):
    """What the rules look at in one run, found once."""

    view: RunView
    tokens: Tokens
    tokens_from: str  # where the tokens were logged
    asked_points: int  # how surely it holds what a user asked
    answer_points: int  # how surely it holds an answer
    prompt_points: int  # how surely it holds a prompt that the application's author wrote
    texts: tuple[Found, ...]  # the inputs and outputs that the points are for
    model: Found | None
    is_llm: bool  # the model is an LLM, by its name or its key
    latency: Found | None  # a duration that the call of an LLM can have
    failure: str  # the error that it logged; "failed" when it only failed; empty otherwise
    holds_many_answers: bool  # an output is a list of cases, each with its answer
    holds_cases: bool  # files of several cases: folders of their own, or what was expected of each

    @classmethod
    def of(cls, view: RunView) -> Evidence:
        tokens, tokens_from = view.usage()
        given, got = view.inputs()[1], view.outputs()[1]
        model = view.model()
        is_llm = model is not None and _is_llm(model)
        points = _points_of_texts(view)
        if not is_llm and not tokens.are_known and got and all(map(is_report, got)):
            points = points.of_report(is_picked=_is_excerpt(got, given))
        points = points.as_pair()
        duration = view.duration_ms(None)
        is_plausible = duration is not None and LATENCY_MS[0] <= duration.ms <= LATENCY_MS[1]
        return cls(
            view=view,
            tokens=tokens,
            tokens_from=tokens_from,
            asked_points=points.asked,
            answer_points=points.answer,
            prompt_points=points.prompt,
            texts=(*given, *got),
            model=model,
            is_llm=is_llm,
            latency=duration.found if duration is not None and is_plausible else None,
            failure=_failure(view),
            holds_many_answers=any(
                are_answers(found.value, view.index.fields_of_param) for found in got
            ),
            holds_cases=_holds_cases(view),
        )

    @property
    def text_points(self) -> int:
        """How surely it holds a text of a call. A prompt alone may be a version that is kept."""
        return max(self.asked_points, self.answer_points, self.prompt_points)

    @property
    def is_only_prompt(self) -> bool:
        """Whether a prompt is all there is: no question, no answer and nothing measured."""
        if self.asked_points or self.answer_points or self.failure or self.latency is not None:
            return False
        tokens = self.tokens
        is_length = self.tokens_from.startswith("param ")  # of the prompt, known beforehand
        if self.prompt_points == 0 or tokens.output or tokens.total:
            return False
        if tokens.input and not is_length:
            return False
        return not any(_is_answer_file(self.view, each.path) for each in self.run.artifacts)

    @property
    def is_only_report(self) -> bool:
        """Whether a report or a summary is all the text there is, and no tokens were counted."""
        is_report_only = bool(self.texts) and all(is_report(found) for found in self.texts)
        return is_report_only and not (self.tokens.input and self.tokens.output)

    @property
    def is_only_question(self) -> bool:
        """Whether nothing beside a question speaks of an LLM: no answer, model or tokens."""
        has_other = self.answer_points or self.is_llm or self.tokens.are_known
        return bool(self.asked_points) and not has_other

    @property
    def is_of_one_request(self) -> bool:
        """Whether it tells of one request: by what was asked, its tokens, or a text's length."""
        if self.asked_points and not self.is_only_prompt:
            return True
        return bool(self.tokens.input and self.tokens.output) or has_text_length(self.run)

    @property
    def is_embedding_only(self) -> bool:
        """Whether it names a model of embeddings and no LLM, and holds no text of a call."""
        if self.is_llm or self.text_points:
            return False
        names = (*self.run.params, *self.run.tags)
        return any(not EMBEDDING_WORDS.isdisjoint(normalise(name).split("_")) for name in names)

    @property
    def run(self) -> RunRecord:
        return self.view.run


class Sign(NamedTuple):
    """Something that speaks for LLM work (points above 0) or for ordinary training (below)."""

    kind: str
    points: int
    why: str


Rule = Callable[[Evidence], "Sign | None"]


def _points_of_texts(view: RunView) -> TextPoints:
    """Weigh the inputs and outputs of a run one by one."""
    given, got = view.inputs()[1], view.outputs()[1]
    loose = {found.at for found in view.loose().all()}
    is_pair = bool(given and got)
    points_of_loose = 1 if not is_pair and _only_kept(view.run) else WEAK_TEXT
    sure = _named_by_user(view)
    asked = prompt = answer = 0
    for found in given:
        points = STRONG_TEXT if found.at in sure else _asked_points(found)
        points = min(points, points_of_loose) if found.at in loose else points
        if not _is_prompt(found):
            asked = max(asked, points)
        elif _is_request(found) and not _keeps_versions(view):
            asked = max(asked, min(points, FAIR_TEXT))
        else:
            prompt = max(prompt, points)
    for found in got:
        points = STRONG_TEXT if found.at in sure else _answer_points(found)
        most = WEAK_TEXT if is_by_model(found) else points_of_loose
        answer = max(answer, min(points, most) if found.at in loose else points)
    if view.turn() is not None or view.every("calls"):
        asked = STRONG_TEXT
    return TextPoints(asked, prompt, answer)


def _asked_points(found: Found) -> int:
    """How surely an input is a question, a request or a prompt: 0 to 4."""
    value = found.value
    if not isinstance(value, str):
        return STRONG_TEXT if encoding.is_chat(value) else WEAK_TEXT
    kind = kind_of_text(value)
    parts = found.stem.split("_")
    is_sure = not SURE_QUESTION_WORDS.isdisjoint(parts) or not PROMPT_WORDS.isdisjoint(parts)
    if found.place == "artifact":
        if is_sure and value.strip() and as_number(value) is None:
            return STRONG_TEXT
        return WEAK_TEXT if kind else 0
    is_foreign = len(value) > 3 and not value.isascii()
    if is_sure:
        if kind >= Prose.TERMS or (kind and is_foreign):
            return STRONG_TEXT
        return FAIR_TEXT if kind and "user" in parts else 0  # "hello" is a message of a user
    if kind is Prose.PROSE and parts[-1] in WORDS_OF_AIMS:
        return 1  # jobs of every kind have a task, a goal and a message in words
    if kind is Prose.REQUEST:
        is_of_user = not ASKING_WORDS.isdisjoint(parts)  # commits and jobs are told to do, too
        return STRONG_TEXT if is_of_user or asks(value) else FAIR_TEXT
    points_of_terms = WEAK_TEXT if parts[-1] == "topic" else 1  # what a text is to be about
    return {Prose.PROSE: FAIR_TEXT, Prose.TERMS: points_of_terms}.get(kind, 0)


def _answer_points(found: Found) -> int:
    """How surely an output is an answer: 0 to 4."""
    value = found.value
    if not isinstance(value, str):
        is_of_api = isinstance(value, Mapping) and answer_of(value) is not None
        return STRONG_TEXT if is_of_api else WEAK_TEXT
    parts = found.stem.split("_")
    kind = kind_of_text(value)
    if not SURE_ANSWER_WORDS.isdisjoint(parts):
        is_text = bool(value.strip()) and as_number(value) is None
        if found.place == "artifact" and is_text:
            return STRONG_TEXT
        is_foreign = len(value) > 3 and not value.isascii()
        return STRONG_TEXT if kind >= Prose.TERMS or (kind and is_foreign) else 0
    if kind >= Prose.PROSE:
        return FAIR_TEXT if found.place == "artifact" else WEAK_TEXT
    return WEAK_TEXT if found.place == "artifact" and value.strip() else 0


def _is_prompt(found: Found) -> bool:
    """Whether an input is a prompt of the application's author: no user's words, no question."""
    parts = found.stem.split("_")
    if found.place == "artifact":
        parts += normalise(found.key.rpartition("/")[0]).split("_")  # prompts/planner.txt
    if PROMPT_WORDS.isdisjoint(parts) or not USER_WORDS.isdisjoint(parts):
        return False
    text = found.value
    is_question = isinstance(text, str) and len(text) < 300 and text.rstrip().endswith("?")
    return not is_question


def _is_request(found: Found) -> bool:
    """Whether a prompt is what a user asked, and not a text that serves many questions."""
    return isinstance(found.value, str) and is_one_request(found.value)


def _named_by_user(view: RunView) -> frozenset[tuple[str, str, str]]:
    """Where the texts stand that a profile of the user's own lists for inputs and outputs."""
    places: set[tuple[str, str, str]] = set()
    for name in ("inputs", "outputs"):
        for source in view.profile.own.get(name, ()):
            places.update(found.at for found in view.all(source))
    return frozenset(places)


def _only_kept(run: RunRecord) -> bool:
    """Whether a run kept something and measured nothing, as one for a configuration does."""
    if run.metrics or run.start_ms is None or run.end_ms is None:
        return False
    return run.end_ms - run.start_ms < LEAST_LENGTH_MS


def _keeps_versions(view: RunView) -> bool:
    """Whether a run is one version of a prompt among others: it says so, or scores it."""
    run = view.run
    if VERSION_NAME.search(run.name):
        return True
    for values in (run.params, run.tags):
        if any(_is_of_version(normalise(key), text) for key, text in values.items()):
            return True
    return any(_is_score(view, key) for key in run.metrics)


def _is_of_version(key: str, text: str) -> bool:
    """Whether a (normalised) key names a version, but not with a model in it."""
    return VERSION_KEY.search(key) is not None and kind_of_model(text) is not ModelKind.LLM


def _is_score(view: RunView, metric: str) -> bool:
    """Whether a metric is neither a known one of calls nor the length of a text."""
    name = normalise(metric)
    is_of_call = bool(view.index.fields_of("metric", name)) or OF_ONE_CALL.search(name) is not None
    return not is_of_call


def _is_excerpt(got: Sequence[Found], given: Sequence[Found]) -> bool:
    """Whether all sentences of an output stand in an input: nothing was written."""
    source = "\n".join(found.value for found in given if isinstance(found.value, str))
    written = "\n".join(str(found.value) for found in got)
    sentences = [sentence.strip() for sentence in _SENTENCE_END.split(written)]
    return bool(got) and all(sentence in source for sentence in sentences)


def _holds_cases(view: RunView) -> bool:
    """Whether several folders hold the texts of a case each, and none is a turn of a chat.

    That is an input and an output, or an output in folders that are numbered. Or whether several
    files say what was expected.
    """
    expected = [each for each in view.run.artifacts if _is_expected(each.path)]
    answered = _folders(view.every("outputs"))
    numbered = {path for path in answered if path[-1].isdigit()}
    folders = (answered & _folders(view.every("inputs"))) | numbered
    are_turns = any(map(_TURN_FOLDER.search, folders))
    return len(expected) > 1 or (len(folders) > 1 and not are_turns)


def _is_expected(path: str) -> bool:
    return not EXPECTED_WORDS.isdisjoint(normalise(path.rpartition("/")[2]).split("_"))


def _folders(founds: Sequence[Found]) -> frozenset[str]:
    paths = (found.key.rpartition("/")[0] for found in founds if found.place == "artifact")
    return frozenset(path for path in paths if path)


def _is_llm(model: Found) -> bool:
    kind = kind_of_model(str(model.value))
    kind_of_key = kind_of_model_key(normalise(model.key))
    if kind is ModelKind.VENDOR:
        return kind_of_key is not None or "llm" in model.key.lower()
    return kind is ModelKind.LLM or kind_of_key is ModelKey.OF_LLM


def _failure(view: RunView) -> str:
    status = run_status(view)
    if status.word != "ERROR":
        return ""
    return f"{status.error_type} {status.error_message}".strip() or "failed"


def _is_answer_file(view: RunView, path: str) -> bool:
    """Whether an artifact has the name of an answer, be it one that could not be read as text."""
    return any(source.field == "outputs" for source in view.index.sources_at(path))
