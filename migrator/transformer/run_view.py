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
from migrator.transformer.chat_messages import ASKING, Message, Turn, messages_of, turn_of
from migrator.transformer.found import Duration, Found, Tokens
from migrator.transformer.logged_tables import read_rows, tables_by_tag
from migrator.transformer.model_names import (
    JUDGES,
    NOT_THE_MODEL,
    ModelKey,
    ModelKind,
    kind_of_model,
    kind_of_model_key,
)
from migrator.transformer.payloads import answer_of, is_chat_log
from migrator.transformer.profile_index import ProfileIndex, Program, Shape, index_of, shape_of
from migrator.transformer.profiles import (
    AssessmentRule,
    Profile,
    Source,
    SpanRule,
    normalise,
    parse_source,
)
from migrator.transformer.prose import Prose, asks, kind_of_text
from migrator.transformer.unlisted import (
    LAST,
    NO_TEXTS,
    LooseTexts,
    call_entries,
    facts_of_responses,
    loose_texts,
)
from migrator.transformer.values import (
    EMPTY_WORDS,
    as_number,
    last_value,
    natural,
    parse_json,
    transcript,
    words,
)

SYSTEM_STEMS = frozenset({"system_prompt", "system_message", "system"})
USER_STEMS = frozenset({"user_prompt", "user_message", "user_input", "user_query", "prompt"})
NOT_OF_THE_CALL = words(
    "error exception system commit status log template expected reference ground gold golden "
    "target truth judge default max min"
)
"""Words of keys whose texts neither ask nor answer, though their last word says so."""

MOST_CHARS_OF_TOKEN = 10
BY_MODEL = words("assistant ai bot chatbot generated answer reply response result output")
OF_A_STUDY = words(
    "model training train classification regression metrics dataset data evaluation eval feature "
    "features run experiment test validation"
)
REPORTS = words("summary report result plan description explanation text")
"""Last words of keys that hold no answer beside one of ``OF_A_STUDY``: ``model_summary``."""

MODEL_RANKS = {ModelKind.LLM: 0, ModelKind.UNKNOWN: 1, ModelKind.VENDOR: 2, ModelKind.OTHER: 3}
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
        return self._best_of(self._ranked(name))

    def _ranked(self, name: str) -> list[tuple[int, Found]]:
        """Each value of a field that says something, with the rank of its source."""
        founds = self.every(name)
        ranks = self._ranks.get(name, (0,) * len(founds))
        return [
            (rank, found)
            for rank, found in zip(ranks, founds, strict=True)
            if found.value is not None and found.value != ""
        ]

    def _best_of(self, ranked: Sequence[tuple[int, Found]]) -> tuple[Found, ...]:
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
        for path, name, rank, source in files.listed:
            if (inside := self._artifact(path, source.path)) is not None:
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
        listed = [*fields.get("outputs", ()), *fields.get("maybe_outputs", ())]
        is_root = self.root is None  # tables of nested runs are evaluations, be it of one case
        entries = call_entries(self.run, self.index, is_table_a_call=is_root)
        found: dict[str, list[tuple[int, Found]]] = {}
        for entry in [*entries, *facts_of_responses(listed)]:
            found.setdefault(entry.field, []).append((LAST, entry.found))
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

    def _find_models(self) -> Sequence[Found]:
        ranked: list[tuple[int, int, Found]] = []
        listed = [found for found in self.every("model") if _is_said(found.value)]
        known = {(found.place, found.key) for found in listed}
        for found in listed:
            rank = MODEL_RANKS[kind_of_model(str(found.value))]
            ranked.append((rank, 0, found))
        for place, plain, key in _keys_of_models(self.shape):
            if (place, key) in known:
                continue
            text = (self.run.params if place == "param" else self.run.tags)[key]
            at = _model_at if len(text) <= MOST_NAME_CHARS else _models_at
            for rank, value in at(plain, text):
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
        return Found(value, "artifact", path)

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

    def _listed_inputs(self) -> tuple[Json, tuple[Found, ...]]:
        """Inputs from the profile's sources and from whole calls."""
        if self._listed_made is None:
            self._listed_made = self._find_listed_inputs()
        return self._listed_made

    def _find_listed_inputs(self) -> tuple[Json, tuple[Found, ...]]:
        ignored = {found.at for found in self.every("not_inputs")}
        ignored.update(found.at for found in self.best("outputs"))
        candidates = [found for found in self.every("inputs") if found.at not in ignored]
        candidates += [
            found
            for found in self._maybe("maybe_inputs")
            if found.at not in ignored and not _is_by_model(found)
        ]
        if any(not found.inside for found in candidates):  # a whole call only replaces the listed
            candidates = [found for found in candidates if not found.inside]
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
            if _is_new(value, found.stem, parts):
                parts[found.stem] = found._replace(value=_as_chat(value))
        return (_joined(parts), tuple(parts.values())) if parts else (None, ())

    def _inputs(self) -> tuple[Json, tuple[Found, ...]]:
        listed = self._listed_inputs()
        if listed[1]:
            return listed
        asked, _, note = self._note()
        if asked and note:
            return dict(asked), (note,)
        loose = self.loose()
        if texts := (*loose.asked, *loose.unclear):
            return {found.stem: found.value for found in texts}, texts
        return None, ()

    def _outputs(self) -> tuple[Json, tuple[Found, ...]]:
        founds = self._answers()
        if len(founds) > 1:
            return {found.stem: found.value for found in founds}, founds
        if founds:
            value = founds[0].value
            return (parse_json(value) if isinstance(value, str) else value), founds
        _, answer, note = self._note()
        if answer is not None and note:
            return answer, (note,)
        if answered := self.loose().answered:
            return answered[0].value, answered[:1]
        return None, ()

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
        is_asked = bool(self._listed_inputs()[1])
        is_answered = bool(self._answers())
        if is_asked and is_answered:
            return NO_TEXTS
        model = self.model()
        names_llm = model is not None and kind_of_model(str(model.value)) is ModelKind.LLM
        texts = loose_texts(self.run, self.index, names_llm=names_llm or is_asked or is_answered)
        if is_asked:  # an uncertain name that does not ask may hold the answer itself
            has_question = any(asks(str(each.value)) for each in self._listed_inputs()[1])
            is_sure = has_question or bool(self._ranked("inputs"))
            return LooseTexts(answered=texts.answered if names_llm and is_sure else ())
        if is_answered:
            return LooseTexts(asked=texts.asked)
        if texts.answered and not texts.asked and self._is_too_long(texts.answered[0]):
            return LooseTexts(asked=texts.answered)
        return texts

    def _is_too_long(self, answer: Found) -> bool:
        """Whether the tokens of the run's answer can't be those of a text."""
        tokens = self.number("output_tokens")
        if tokens is None or tokens[0] <= 0:
            return False
        return len(str(answer.value)) > tokens[0] * MOST_CHARS_OF_TOKEN

    def _maybe(self, name: str) -> list[Found]:
        """The values of a field of uncertain names that read as texts, and mean nothing else."""
        founds = self.every(name)
        if not founds:
            return []
        assert self._fields is not None
        taken: set[tuple[str, str, str]] = set()
        for other, values in self._fields.items():
            if not other.startswith("maybe_"):
                taken.update(found.at for found in values)
        return [found for found in founds if found.at not in taken and _is_text_of_the_call(found)]

    def _answers(self) -> tuple[Found, ...]:
        """The values that the outputs are made of: of a chat's history only the run's answer."""
        if self._answers_made is None:
            self._answers_made = self._find_answers()
        return self._answers_made

    def _find_answers(self) -> tuple[Found, ...]:
        listed = self._best_of([each for each in self._ranked("outputs") if not _is_chat(each[1])])
        if listed:
            return listed
        by_model = [found for found in self._maybe("maybe_inputs") if _is_by_model(found)]
        if maybe := (*self._maybe("maybe_outputs"), *by_model):
            return (maybe[0],)
        if (turn := self.turn()) is not None and turn[0].answer is not None:
            return (turn[1]._replace(value=turn[0].answer),)
        return ()

    def turn(self) -> tuple[Turn, Found] | None:
        """The turn of a recorded chat that the run is about, and where the chat was logged."""
        if self._turns is None:
            self._turns = tuple(islice(self._find_turns(), 1))
        return self._turns[0] if self._turns else None

    def _find_turns(self) -> Iterator[tuple[Turn, Found]]:
        for found in self.every("outputs"):
            messages = _messages_at(found)
            if messages and (turn := turn_of(messages, self._questions())) is not None:
                yield turn, found

    def _questions(self) -> list[str]:
        """The texts that the run logged as asked, beside any chat."""
        texts = []
        for found in self._listed_inputs()[1]:
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
            factor, unit = guess_unit(found[0], length_ms)
            assumed = f"{found[1].origin} is taken to be in {unit}"
            return Duration(found[0] * factor, found[1], assumed)
        return None


def _messages_at(found: Found) -> Sequence[Message]:
    """The messages of a chat that was logged as one value; empty when it is not a chat."""
    value = parse_json(found.value) if isinstance(found.value, str) else found.value
    if isinstance(value, str) or value is None:
        return ()
    return messages_of(value)


def _is_chat(found: Found) -> bool:
    return any(message.role in ASKING for message in _messages_at(found))


def _is_said(value: Json) -> bool:
    return not (isinstance(value, str) and value.strip().lower() in EMPTY_WORDS)


@lru_cache(1 << 10)
def _keys_of_models(shape: Shape) -> tuple[tuple[str, str, str], ...]:
    """The params and tags that may name a model: the place, and both forms of the key."""
    keys: list[tuple[str, str, str]] = []
    for place in ("param", "tag"):
        for plain, key in shape.spelled[place].items():
            may_hold = kind_of_model_key(plain) is not None or _SETTINGS_KEY.search(plain)
            if not plain.startswith("mlflow_") and (may_hold or _may_hold_version(plain)):
                keys.append((place, plain, key))
    return tuple(keys)


def _models_at(key: str, text: str) -> tuple[tuple[int, str], ...]:
    """The models that the value of a key names, each with its rank; ``key`` is normalised."""
    if "{" in text[:2] or "\n" in text:
        return _models_inside(text) if _SETTINGS_KEY.search(key) else ()
    kind_of_key = kind_of_model_key(key)
    if kind_of_key is None:
        if not _is_versioned_llm(key, text):
            return ()
        is_judge = not JUDGES.isdisjoint(key.split("_"))
        kind = ModelKind.OTHER if is_judge else ModelKind.LLM  # last, where another answered
        return ((MODEL_RANKS[kind] + is_judge, text.strip()),)
    if not _is_said(text) or as_number(text) is not None:
        return ()
    kind = kind_of_model(text)
    if kind_of_key is ModelKey.NOT_THE_MODEL or kind is ModelKind.OTHER:
        is_judge = kind is ModelKind.LLM and not JUDGES.isdisjoint(key.split("_"))
        return ((MODEL_RANKS[ModelKind.OTHER] + 1, text.strip()),) if is_judge else ()
    if kind is ModelKind.UNKNOWN and kind_of_key is not ModelKey.OF_LLM:
        return ()
    return ((MODEL_RANKS[kind], text.strip()),)


MOST_NAME_CHARS = 100  # longer values are no names, and differ from run to run
_model_at = lru_cache(1 << 12)(_models_at)  # thousands of runs name the same few models


def _is_versioned_llm(key: str, text: str) -> bool:
    """Whether a value under any name is an LLM's with its version, such as ``gpt-4o``."""
    if not 2 <= len(text) <= 60 or not text[0].isalpha() or not _VERSIONED.fullmatch(text):
        return False
    return _may_hold_version(key) and kind_of_model(text) is ModelKind.LLM


def _may_hold_version(key: str) -> bool:
    parts = key.split("_")
    return (NOT_THE_MODEL - JUDGES).isdisjoint(parts) and NOT_A_MODEL_KEY.isdisjoint(parts)


def _models_inside(text: str) -> tuple[tuple[int, str], ...]:
    """The LLMs named inside JSON, a Python dict or YAML."""
    found: list[tuple[int, str]] = []
    for match in _PAIR.finditer(text[:MOST_SETTINGS_CHARS]):
        rank_and_name = _models_at(normalise(match["key"]), match["value"].strip())
        found += [each for each in rank_and_name if each[0] == MODEL_RANKS[ModelKind.LLM]]
    return tuple(found)


_SETTINGS_KEY = re.compile(
    r"config|setting|param|option|args|llm|model|agent|generat|deploy|engine"
)
_VERSIONED = re.compile(
    r"(?=.*\d)[\w./:@-]+|[\w./:@-]+-(?:large|medium|small|tiny|mini|nano|lite|pro|max|plus|ultra"
    r"|turbo|flash|latest|preview|instant|instruct|chat|opus|sonnet|haiku)(?:[.:@-][\w.:@-]*)?"
)
"""Names with a version, or with the word that stands for one in a family of models."""
NOT_A_MODEL_KEY = words(
    "dataset data tokenizer project file name group tag prefix output input base"
)
"""Words of keys whose value is not a model, though it has the name of one."""

_PAIR = re.compile(
    r"""["']?(?P<key>[\w.-]*(?:model|llm|engine|deployment|generator|name)[\w.-]*)["']?[ \t]*[:=]"""
    r"""[ \t]*["']?(?P<value>[\w./:@ -]{1,100})"""
)
MOST_SETTINGS_CHARS = 10_000  # of a longer text, so much is searched for models


def _is_text_of_the_call(found: Found) -> bool:
    """Whether a value under an uncertain name is something asked or answered."""
    if found.key.startswith("mlflow."):
        return False
    parts = found.stem.split("_")
    if not NOT_OF_THE_CALL.isdisjoint(parts):
        return False
    if parts[-1] in REPORTS and not OF_A_STUDY.isdisjoint(parts[:-1]):
        return False
    value = _as_chat(found.value)
    if encoding.is_chat(value):
        return True
    if isinstance(value, Mapping) and answer_of(value) is not None:
        return True  # the body of an API's response
    texts = list(value.values()) if isinstance(value, Mapping) else [value]
    return any(isinstance(text, str) and kind_of_text(text) >= Prose.PROSE for text in texts)


def _is_by_model(found: Found) -> bool:
    """Whether an uncertain name says that the model wrote the text: ``bot_text``."""
    return not BY_MODEL.isdisjoint(found.stem.split("_"))


def _as_chat(value: Json) -> Json:
    """A chat that was logged as text, in the form of MLflow's chats; anything else unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    parsed = parse_json(value)
    if encoding.is_chat(parsed):
        return parsed
    return [each.as_chat() for each in messages_of(parsed)] if is_chat_log(parsed) else value


_PLACE_IN_TEMPLATE = re.compile(r"\{([^}]*)\}")

_source = lru_cache(1 << 10)(parse_source)  # of the templates of profiles: always the same few


def _is_new(text: str, stem: str, parts: Mapping[str, Found]) -> bool:
    """Whether a text says something that the parts found so far do not say."""
    if not text.strip() or stem in parts:
        return False
    return not any(_is_same_text(text, part.value) for part in parts.values())


def _joined(parts: Mapping[str, Found]) -> Json:
    """Join the parts of an input: as a chat if they are one, else as an object by their stems."""
    if len(parts) == 1:
        (only,) = parts.values()
        if encoding.is_chat(only.value):
            return {"messages": only.value}
    if len(parts) == 2:
        system = next((stem for stem in parts if stem in SYSTEM_STEMS), None)
        user = next((stem for stem in parts if stem in USER_STEMS), None)
        if system and user:
            return {
                "messages": [
                    {"role": "system", "content": parts[system].value},
                    {"role": "user", "content": parts[user].value},
                ]
            }
    return {stem: found.value for stem, found in parts.items()}


def _is_same_text(text: str, other: Json) -> bool:
    """Whether two texts are the same one, be it that a logger cut one of them ("…...")."""
    if not isinstance(other, str):
        return False
    a, b = text.strip(), other.strip()
    return a == b or _is_cut_of(a, b) or _is_cut_of(b, a)


def _is_cut_of(cut: str, full: str) -> bool:
    return cut.endswith("...") and len(cut) > 20 and full.startswith(cut[:-3])


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
