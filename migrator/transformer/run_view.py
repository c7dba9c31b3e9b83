"""A run as a profile reads it: values by field, with the places where they were logged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from operator import itemgetter

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import Json, MetricPoint, RunRecord, SpanEvent
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
from migrator.transformer.found import Duration, Found, Tokens
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
from migrator.transformer.logged_tables import read_rows, tables_by_tag
from migrator.transformer.loose_texts import (
    NO_TEXTS,
    KnownParts,
    LooseTexts,
    loose_texts,
    worked_on,
)
from migrator.transformer.media import media_of
from migrator.transformer.model_names import (
    ModelKind,
    kind_of_model,
)
from migrator.transformer.named_models import MODEL_RANKS, is_said, keys_of_models, models_at
from migrator.transformer.payloads import Part, question_and_answer
from migrator.transformer.profile_index import ProfileIndex, Program, Shape, index_of, shape_of
from migrator.transformer.profiles import (
    UNLISTED,
    AssessmentRule,
    Profile,
    Source,
    SpanRule,
    normalise,
    parse_source,
)
from migrator.transformer.prose import Prose, asks
from migrator.transformer.text_names import (
    SUBJECTS,
    is_by_model,
    is_no_answer,
    is_text_of_the_call,
    messages_at,
)
from migrator.transformer.unlisted import (
    LAST,
    call_entries,
    counts_under_other_names,
    duration_under_other_name,
    error_under_other_name,
    facts_of_responses,
    is_named_by_model,
)
from migrator.transformer.values import (
    EMPTY_WORDS,
    OK_WORDS,
    as_number,
    last_value,
    natural,
    parse_json,
    transcript,
)

MOST_CHARS_OF_TOKEN = 10
CHARS_OF_TOKEN = 4  # in English, about
DOCUMENT_TEXTS = ("page_content", "content", "text", "chunk", "document")
EVENT_FILE = re.compile(r"(.+?)[_-](\d{12,13})")  # a name, and ms since the epoch

DURATIONS_MS: Mapping[str, float] = {
    "duration_ms": 1.0,
    "duration_s": 1000.0,
    "duration_us": 1e-3,
    "duration_ns": 1e-6,
    "duration_min": 60_000.0,
    "duration_h": 3_600_000.0,
}
"""The fields of durations whose unit is known, with the unit in ms."""

TOKEN_DETAILS = ("cached_tokens", "reasoning_tokens")

_rank = itemgetter(0)


@dataclass(slots=True)
class RunView:
    """A run read through a profile. What was found once is remembered."""

    run: RunRecord
    profile: Profile
    root: RunView | None = None  # None for the root itself
    issues: list[Issue] = field(default_factory=list)
    index: ProfileIndex = field(init=False)
    shape: Shape = field(init=False)
    _program: Program = field(init=False)
    _fields: dict[str, Sequence[Found]] | None = None  # by field, in the order of its sources
    _ranks: dict[str, Sequence[int]] = field(default_factory=dict)  # of fields with several values
    _of_root: list[tuple[str, int, Found]] | None = None
    _listed_made: tuple[Json, tuple[Found, ...]] | None = None
    _renderings: tuple[Found, ...] = ()
    _loose: LooseTexts | None = None
    _answers_made: tuple[Found, ...] | None = None
    _turns: tuple[tuple[Turn, Found], ...] | None = None  # one or none
    _usage: tuple[Tokens, str] | None = None
    _inputs_made: tuple[Json, tuple[Found, ...]] | None = None
    _outputs_made: tuple[Json, tuple[Found, ...]] | None = None
    _parsed: dict[str, Json] = field(default_factory=dict)
    _models: Sequence[Found] | None = None

    def __post_init__(self) -> None:
        self.index = index_of(self.profile)
        self.shape = shape_of(self.run)
        self._program = self.index.program(self.shape)

    def forget(self) -> None:
        """Forget what was found. It is found again when it is asked for."""
        self._fields = self._listed_made = self._loose = self._answers_made = self._turns = None
        self._usage = self._inputs_made = self._outputs_made = self._models = None
        self._renderings = ()
        self._ranks = {}
        self._parsed = {}

    # ------------------------------------------------------------------ looking up

    def all(self, source: Source) -> list[Found]:
        """Every value at ``source``; artifacts in the order of their paths."""
        if source.of_root and self.root is not None:
            return self.root.all(source)
        if source.place == "field":
            found = self.first(source.key)
            return [found] if found else []
        if source.place == "artifact":
            assert source.pattern is not None
            paths = [path for path in self.run.texts if source.pattern.match(path)]
            inside = [self._artifact(path, source.path) for path in sorted(paths, key=natural)]
            return [found for found in inside if found is not None]
        return [self._found(source.place, key) for key in self.shape.keys_at(source)]

    def has(self, source: Source) -> bool:
        """Whether ``source`` has a value, or an artifact of that name is listed."""
        if source.place == "artifact" and source.pattern is not None and not source.path:
            run = self.root.run if source.of_root and self.root is not None else self.run
            return any(source.pattern.match(artifact.path) for artifact in run.artifacts)
        if source.place in ("field", "artifact"):
            return bool(self.all(source))
        view = self.root if source.of_root and self.root is not None else self
        return bool(view.shape.keys_at(source))

    def judging(self) -> Sequence[tuple[AssessmentRule, Source]]:
        """The assessment rules that may find something, with the source, in the profile's order."""
        return self._program.judging

    def span_rules(self) -> Sequence[SpanRule]:
        """The profile's span rules that the run's own keys fit; ``has`` is what else they need."""
        return self._program.spans

    def every(self, name: str) -> Sequence[Found]:
        """All that the field's sources find, in their order."""
        if self._fields is None:
            self._fields = self._collect()
        return self._fields.get(name, ())

    def best(self, name: str) -> Sequence[Found]:
        """All that the first source of the field finds that finds a value at all."""
        return self.best_of(self.ranked(name))

    def ranked(self, name: str) -> list[tuple[int, Found]]:
        """Each value of a field that says something, with the rank of its source."""
        founds = self.every(name)
        ranks = self._ranks.get(name, (0,) * len(founds))
        said = [
            (rank, found)
            for rank, found in zip(ranks, founds, strict=True)
            if found.value is not None and found.value != ""
        ]
        if name != "outputs" or "outputs" in self.profile.own:
            return said
        return [each for each in said if not is_no_answer(each[1])]

    def best_of(self, ranked: Sequence[tuple[int, Found]]) -> tuple[Found, ...]:
        """The values of the first source; ``ranked`` is in the order of the sources."""
        return tuple(found for rank, found in ranked if rank == ranked[0][0])

    def _collect(self) -> dict[str, Sequence[Found]]:
        """Find the values of all fields at once, from the run's keys and files."""
        fields: dict[str, Sequence[Found]] = {}
        for name, keys in self._program.fields.items():
            if len(keys) == 1:
                (only,) = keys
                fields[name] = (self._found(only.place, only.key),)
            else:
                fields[name] = [self._found(each.place, each.key) for each in keys]
                self._ranks[name] = [each.rank for each in keys]
        for name, others in self._elsewhere().items():
            ranks = [each.rank for each in self._program.fields.get(name, ())]
            own = zip(ranks, fields.get(name, ()), strict=True)
            fields[name] = self._in_order(name, [*own, *others])
        for name, others in self._calls_under_other_names(fields).items():
            founds = fields.get(name, ())
            before = zip(self._ranks.get(name, (0,) * len(founds)), founds, strict=True)
            fields[name] = self._in_order(name, [*before, *others])
        return fields

    def _elsewhere(self) -> dict[str, list[tuple[int, Found]]]:
        """The values of fields that are in files of the run or in the tree's root, with ranks."""
        fields: dict[str, list[tuple[int, Found]]] = {}
        files = self.index.files(tuple(self.run.texts), tables_by_tag(self.run))
        asked = {path for path, name, _, _ in files.listed if name == "inputs"}
        may_open = self.index.lists(UNLISTED) and "inputs" not in self._program.fields and not asked
        for path, name, rank, source in files.listed:
            if (inside := self._artifact(path, source.path)) is None:
                continue
            parts: list[Part] = []
            if may_open and name in ("outputs", "maybe_outputs"):
                parts = question_and_answer(inside.value, self.index.fields_of_param)
            for part in parts:
                found = Found(part.value, "artifact", path, part.inside, is_of_call=True)
                fields.setdefault(part.field, []).append((rank, found))
            if not parts:
                fields.setdefault(name, []).append((rank, inside))
        for name, rank, found in (self.root or self)._at_root():
            fields.setdefault(name, []).append((rank, found))
        return fields

    def _calls_under_other_names(
        self, fields: Mapping[str, Sequence[Found]]
    ) -> dict[str, list[tuple[int, Found]]]:
        """What whole calls give to the fields: those under unlisted names, and listed responses."""
        if self.profile.steps is not None:
            return {}
        listed: list[Found] = []
        for name in ("outputs", "maybe_outputs", "inputs"):
            listed += fields.get(name, ())
        is_root = self.root is None  # tables of nested runs are evaluations, be it of one case
        entries = call_entries(self.run, self.index, is_table_a_call=is_root)
        found: dict[str, list[tuple[int, Found]]] = {}
        for entry in [*entries, *facts_of_responses(listed)]:
            found.setdefault(entry.field, []).append((LAST, entry.found))
        if not self.index.lists(UNLISTED):
            return found
        for name, key in counts_under_other_names(self.shape).items():
            if name not in fields:
                found.setdefault(name, []).append((LAST, self._found("metric", key)))
        is_timed = any(name in fields for name in (*DURATIONS_MS, "duration_unknown"))
        if not is_timed and (duration := duration_under_other_name(self.shape)) is not None:
            name, key = duration
            found.setdefault(name, []).append((LAST, self._found("metric", key)))
        error = error_under_other_name(self.run, self.shape)
        if error is not None and "error_message" not in fields:
            found.setdefault("error_message", []).append((LAST, error))
        return found

    def _in_order(self, name: str, entries: list[tuple[int, Found]]) -> Sequence[Found]:
        """Sort a field's values by the rank of their source, each value once."""
        if len(entries) == 1:
            return (entries[0][1],)
        entries.sort(key=_rank)  # stable: natural order within a source
        unique: dict[tuple[str, str, str, int], tuple[int, Found]] = {}
        for rank, found in entries:  # two values of one JSON file are two, one value twice is one
            unique.setdefault((*found.at, id(found.value)), (rank, found))
        self._ranks[name] = [rank for rank, _ in unique.values()]
        return [found for _, found in unique.values()]

    def _at_root(self) -> list[tuple[str, int, Found]]:
        """What the sources that begin with ``root.`` find here, in the tree's root."""
        if self._of_root is None:
            self._of_root = []
            for name, rank, source in self.index.of_root:
                self._of_root += [(name, rank, found) for found in self.all(source)]
        return self._of_root

    def first(self, name: str) -> Found | None:
        """The first value of a field that says something; "none", "0" and the like do not."""
        for found in self.every(name):
            if not (isinstance(found.value, str) and found.value.strip().lower() in EMPTY_WORDS):
                return found
        return None

    def model(self) -> Found | None:
        """The model that did the run's work: a known LLM's name before any other.

        A vendor's name is taken only where nothing else is named, and an embedding model's only
        where it stands under the profile's own keys.
        """
        return next(iter(self.models()), None)

    def models(self) -> Sequence[Found]:
        """All models that the run names, the most telling first."""
        if self._models is None:
            self._models = self._find_models()
        return self._models

    def inherit_model(self, parent: RunView) -> None:
        """Take the models of the session that a turn belongs to, if it names none itself."""
        if not self.models():
            self._models = parent.models()

    def _find_models(self) -> Sequence[Found]:
        ranked: list[tuple[int, int, Found]] = []
        listed = [found for found in self.every("model") if is_said(found.value)]
        known = {(found.place, found.key) for found in listed}
        for found in listed:
            rank = MODEL_RANKS[kind_of_model(str(found.value))]
            ranked.append((rank, 0, found))
        for place, plain, key in keys_of_models(self.shape):
            if (place, key) in known:
                continue
            text = (self.run.params if place == "param" else self.run.tags)[key]
            for rank, value in models_at(plain, text):
                ranked.append((rank, 1, Found(value, place, key)))
        provider = self.first("provider")
        if provider is not None and kind_of_model(str(provider.value)) is not ModelKind.UNKNOWN:
            ranked.append((MODEL_RANKS[ModelKind.VENDOR], 2, provider))  # all there may be
        ranked.sort(key=lambda each: each[:2])  # stable: the profile's order, then that of the keys
        return tuple(found for _, _, found in ranked)

    def vendor(self) -> Found | None:
        """The vendor of the model, by the profile's field or by a model's key that names one."""
        found = self.first("provider")
        if found is not None:
            return found
        named = [
            each for each in self.models() if kind_of_model(str(each.value)) is ModelKind.VENDOR
        ]
        return named[0] if named and named[0] != self.model() else None

    def first_at(self, sources: Sequence[Source]) -> Found | None:
        """The first value at any of the sources that is not empty."""
        for source in sources:
            for found in self.all(source):
                if found.value is not None and found.value != "":
                    return found
        return None

    def number(self, name: str) -> tuple[float, Found] | None:
        """The first finite number of a field, and where it was logged."""
        for found in self.every(name):
            if (number := as_number(found.value)) is not None:
                return number, found
        return None

    def text(self, name: str, limit: int | None = None) -> str:
        """A field's first value as text, cut at ``limit`` characters; empty when it has none."""
        found = self.first(name)
        if found is None:
            return ""
        value = found.value
        text = value if isinstance(value, str) else encoding.encode(value)
        text = encoding.clean_text(text).strip()
        return text if limit is None else text[:limit]

    def history(self, name: str) -> tuple[str, tuple[MetricPoint, ...]] | None:
        """The key and points of a field's first metric that has several points."""
        for found in self.every(name):
            if found.place == "metric" and len(points := self.run.metrics[found.key]) > 1:
                return found.key, points
        return None

    def fill(self, template: str) -> str | None:
        """Fill ``{param:node_id}`` and the like; None when one of them has no value."""
        missing = False

        def put(match: re.Match[str]) -> str:
            nonlocal missing
            found = next(iter(self.all(_source(match[1]))), None)
            value = "" if found is None else str(found.value).strip()
            missing = missing or not value
            return value

        text = _PLACE_IN_TEMPLATE.sub(put, template)
        return None if missing else text

    def _found(self, place: str, key: str) -> Found:
        """The value of a param, metric or tag of the run."""
        if place == "metric":
            return Found(last_value(self.run.metrics[key]), place, key)
        return Found((self.run.params if place == "param" else self.run.tags)[key], place, key)

    def _artifact(self, path: str, inside: tuple[str, ...]) -> Found | None:
        value = self.parsed(path)
        for step in inside:
            if not isinstance(value, Mapping) or step not in value:
                return None
            value = value[step]
        return Found(value, "artifact", path, ".".join(inside))

    def parsed(self, path: str) -> Json:
        """A text artifact: as JSON when it is an object or a list, else as text."""
        if path not in self._parsed:
            text = self.run.texts[path]
            self._parsed[path] = value = parse_json(text)
            if value is text and path.lower().endswith(".json") and text.strip():
                issue = Issue(
                    Code.ARTIFACT_NOT_JSON,
                    f"{self.run.artifact_dir}/{path}" if self.run.artifact_dir else path,
                    f"{path} of run {self.run.run_id} does not parse as JSON.",
                    "its text, as it is",
                    Kind.RUN,
                    self.run.run_id,
                )
                if issue not in self.issues:  # it may have been found before, and forgotten
                    self.issues.append(issue)
        return self._parsed[path]

    # ----------------------------------------------------------------- inputs and outputs

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
        candidates = [found for found in self.every("inputs") if found.at not in ignored]
        if len(candidates) > 1:  # a message may be "ok"
            candidates = [found for found in candidates if not _tells_success(found)]
        is_answered = any(not messages_at(found) for found in self.best("outputs"))
        least = Prose.PROSE
        if (is_answered or has_short_answer(self)) and not candidates:
            least = Prose.TERMS  # beside an answer a few words are what was asked
        candidates += [
            found
            for found in self.maybe("maybe_inputs", least)
            if found.at not in ignored and not is_by_model(found)
        ]
        is_made = any(is_by_model(found) for found in self.maybe("maybe_inputs"))
        is_call = is_made or bool(self.maybe("maybe_outputs")) or self.usage()[0].are_known
        if not candidates and is_call:
            subjects = [  # what it is about
                found
                for found in self.maybe("maybe_inputs", Prose.TERMS)
                if found.stem.rpartition("_")[2] in SUBJECTS and not is_by_model(found)
            ]
            return [found for found in subjects if found.at not in ignored]
        if not all(found.is_of_call for found in candidates):
            return [found for found in candidates if not found.is_of_call]  # the listed come first
        return candidates

    def renderings(self) -> tuple[Found, ...]:
        """The prompts that were made of what was asked: they hold all of it, and more."""
        self.listed_inputs()
        return self._renderings

    def _inputs(self) -> tuple[Json, tuple[Found, ...]]:
        listed = self.listed_inputs()
        if listed[1]:
            return listed
        asked, _, note = self._note()
        if asked and note:
            return dict(asked), (note,)
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
        _, answer, note = self._note()
        if not founds and answer is not None and note:
            return answer, (note,)
        founds = founds or self.loose().answered or structured_answer(self)
        founds = founds or answer_in_note(self) or predicted_class(self)
        if not founds:
            return None, ()
        value = founds[0].value
        if isinstance(value, str):
            value = self._without_question(value)
            value = parse_json(value)
        return value, founds[:1]

    def _without_question(self, text: str) -> str:
        """The answer of a note that repeats what was asked; any other text unchanged."""
        asked, answer = transcript(text)
        known = self.listed_inputs()[1]
        for question in asked.values():
            if any(is_same_text(question, found.value) for found in known):
                return answer or text
        return text

    def loose(self) -> LooseTexts:
        """Texts under unlisted names, where the profile's names and whole calls lead to nothing.

        Where only a question is known, or only an answer, they complete it.
        """
        if self._loose is None:
            self._loose = self._find_loose()
        return self._loose

    def _find_loose(self) -> LooseTexts:
        if self.profile.steps is not None or self.every("calls") or self.turn() is not None:
            return NO_TEXTS
        is_asked = bool(self.listed_inputs()[1])
        is_answered = bool(self._answers())
        if is_asked and is_answered:
            return NO_TEXTS
        known = KnownParts(names_llm(self), is_asked, is_answered)
        texts = loose_texts(self.run, self.index, known)
        if not is_asked and not is_answered and structured_answer(self):
            given = worked_on(self.run, self.index)
            return LooseTexts(asked=given or texts.all())  # an object answers, and no text
        if is_asked:  # an uncertain name that does not ask may hold the answer itself
            return texts if self._is_surely_asked(texts.answered) else NO_TEXTS
        if texts.answered and not texts.asked and self._is_too_long(texts.answered[0]):
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

    def _is_too_long(self, answer: Found) -> bool:
        """Whether the tokens of the run's answer can't be those of a text."""
        tokens = self.number("output_tokens")
        if tokens is None or tokens[0] <= 0:
            return False
        return len(str(answer.value)) > tokens[0] * MOST_CHARS_OF_TOKEN

    def _fits_answer(self, text: Found) -> bool:
        """Whether a file is as long as the answer by the counted tokens, rather than the prompt."""
        given, got = self.number("input_tokens"), self.number("output_tokens")
        if given is None or got is None or text.place != "artifact" or asks(str(text.value)):
            return False
        tokens = len(str(text.value)) / CHARS_OF_TOKEN
        return abs(tokens - got[0]) < abs(tokens - given[0])

    def maybe(self, name: str, least: Prose = Prose.PROSE) -> list[Found]:
        """The values of a field of uncertain names that read as texts, and mean nothing else."""
        founds = self.every(name)
        if not founds:
            return []
        assert self._fields is not None
        taken: set[tuple[str, str, str]] = set()
        for other, values in self._fields.items():
            if not other.startswith("maybe_"):
                taken.update(found.at for found in values)
        return [
            found for found in founds if found.at not in taken and is_text_of_the_call(found, least)
        ]

    def _answers(self) -> tuple[Found, ...]:
        """The values that the outputs are made of: of a chat's history only the run's answer."""
        if self._answers_made is None:
            self._answers_made = find_answers(self)
        return self._answers_made

    def turn(self) -> tuple[Turn, Found] | None:
        """The turn of a recorded chat that the run is about, and where the chat was logged."""
        if self._turns is None:
            self._turns = tuple(islice(self._find_turns(), 1))
        return self._turns[0] if self._turns else None

    def _find_turns(self) -> Iterator[tuple[Turn, Found]]:
        questions = self._questions()
        for found in (*self.every("outputs"), *self.every("maybe_outputs")):
            messages = messages_at(found)
            if messages and (turn := turn_of(messages, questions)) is not None:
                yield turn, found
        for found in self.every("maybe_outputs"):
            value = parse_json(found.value) if isinstance(found.value, str) else found.value
            if (turn := turn_of_texts(value, questions)) is not None:
                yield turn, found

    def _questions(self) -> list[str]:
        """The texts that the run logged as asked, beside any chat."""
        texts = []
        for found in self.listed_inputs()[1]:
            is_framing = found.stem in SYSTEM_STEMS or "prompt" in found.stem
            if isinstance(found.value, str) and found.value.strip() and not is_framing:
                texts.append(found.value)
        return texts

    def _note(self) -> tuple[Mapping[str, str], str | None, Found | None]:
        """Question and answer of the run's note, if it has exactly one and that holds a call."""
        notes = self.every("calls")
        if len(notes) != 1 or not isinstance(notes[0].value, str):
            return {}, None, None
        return (*transcript(notes[0].value), notes[0])

    def moments(self) -> tuple[SpanEvent, ...]:
        """The files of events whose names end in ms since the epoch, as span events by time."""
        events = []
        for found in self.every("events"):
            match = EVENT_FILE.fullmatch(found.stem)
            if match is None:
                continue
            values = found.value if isinstance(found.value, Mapping) else {"value": found.value}
            attributes = {str(key): encoding.sanitize(value) for key, value in values.items()}
            events.append(SpanEvent(match[1], int(match[2]) * 1_000_000, attributes))
        return tuple(sorted(events, key=lambda event: (event.time_ns, event.name)))

    def documents(self) -> tuple[Json, Found] | None:
        """Retrieved documents in the form of MLflow's retriever view, and their file.

        The file holds a JSON list, JSON lines, CSV or a table.
        """
        for found in self.every("documents"):
            documents = _documents(found)
            if documents is not None:
                return documents, found
        return None

    # ------------------------------------------------------------------- tokens, cost, time

    def usage(self) -> tuple[Tokens, str]:
        """Token counts as logged last, and where."""
        if self._usage is None:
            self._usage = self._find_usage()
        return self._usage

    def _find_usage(self) -> tuple[Tokens, str]:
        founds = [self.number(f"{name}_tokens") for name in ("input", "output", "total")]
        where = ", ".join(found[1].origin for found in founds if found)
        return Tokens(*(found[0] if found else None for found in founds)), where

    def token_details(self) -> dict[str, float]:
        """Tokens that are part of the input or output count: read from a cache, or reasoning."""
        details: dict[str, float] = {}
        for name in TOKEN_DETAILS:
            if (found := self.number(name)) and found[0] >= 0:
                details[name] = found[0]
        return details

    def duration_ms(self, length_ms: float | None) -> Duration | None:
        """The logged duration. ``length_ms`` is how long the run itself was open, if known."""
        for name, unit_ms in DURATIONS_MS.items():
            if (found := self.number(name)) and found[0] >= 0:
                return Duration(found[0] * unit_ms, found[1], "")
        if (found := self.number("duration_unknown")) and found[0] >= 0:
            has_seconds = self._has_part_of_a_unit(found[1].key)
            factor, unit = guess_unit(found[0], None if has_seconds else length_ms)
            assumed = f"{found[1].origin} is taken to be in {unit}"
            return Duration(found[0] * factor, found[1], assumed)
        return None

    def _has_part_of_a_unit(self, whole: str) -> bool:
        """Whether another duration is less than 1. Parts of a millisecond are not measured."""
        for key, points in self.run.metrics.items():
            is_duration = normalise(key).rpartition("_")[2] in ("time", "latency", "duration")
            if key != whole and is_duration and 0 < last_value(points) < 1:
                return True
        return False


def _tells_success(found: Found) -> bool:
    return isinstance(found.value, str) and found.value.strip().lower() in OK_WORDS


_PLACE_IN_TEMPLATE = re.compile(r"\{([^}]*)\}")

_source = lru_cache(1 << 10)(parse_source)  # of the templates of profiles: always the same few


def _documents(found: Found) -> list[Json] | None:
    """The documents in a file; None when it holds none, or something else."""
    value = found.value
    if isinstance(value, Sequence) and not isinstance(value, str):
        items: Sequence[Json] = value
    else:
        items = read_rows(found.key, value).rows
    documents = [_document(item) for item in items]
    if not documents or any(document is None for document in documents):
        return None
    return documents


def _document(item: Json) -> Json:
    """Bring one retrieved document into the form of MLflow's retriever view; None if it is none."""
    if isinstance(item, str):
        return {"page_content": item}
    if not isinstance(item, Mapping):
        return None
    key = next((key for key in DOCUMENT_TEXTS if isinstance(item.get(key), str)), None)
    if key is None:
        return None
    rest = {name: value for name, value in item.items() if name != key}
    metadata = rest.get("metadata")
    return {
        "page_content": item[key],
        "metadata": metadata if isinstance(metadata, Mapping) else rest,
    }


def guess_unit(value: float, length_ms: float | None) -> tuple[float, str]:
    """Guess the unit of a duration: the one that fits the run's length, else by size.

    The result is the factor that makes ms of it, and the unit's name.
    """
    if length_ms is not None and length_ms > 0:
        for factor, unit in ((1.0, "ms"), (1000.0, "s")):
            if abs(value * factor - length_ms) <= 0.25 * length_ms:
                return factor, unit
    return (1.0, "ms") if value > 300 else (1000.0, "s")
