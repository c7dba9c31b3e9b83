"""A run as a profile reads it: values by field, with where each came from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import ArtifactFile, Json, MetricPoint, RunRecord, SpanEvent, SpanType
from migrator.transformer.profiles import (
    AssessmentRule,
    Profile,
    Source,
    matching,
    normalise,
    parse_source,
    spellings,
)
from migrator.transformer.verdicts import plain_words, verdict


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WEAK_STEMS = _words(
    "input inputs output outputs query message text objective task prediction generation "
    "instruction instructions completion answer"
)
SYSTEM_STEMS = frozenset({"system_prompt", "system_message", "system"})
USER_STEMS = frozenset({"user_prompt", "user_message", "user_input", "user_query", "prompt"})
CUT_LENGTHS = frozenset({250, 500, 503, 5000, 6000, 8000})  # limits of params and tags, by version
EMPTY_WORDS = frozenset({"", "none", "null", "nan", "false", "no", "n/a", "[]", "{}", "0"})
OK_WORDS = _words("success successful succeeded ok completed complete finished done passed")
ERROR_WORDS = _words(
    "failed failure fail error errored exception timeout timed_out incomplete killed cancelled "
    "canceled aborted crashed"
)
NO_MESSAGES = ERROR_WORDS | {"true", "1"}
NO_ERROR = EMPTY_WORDS | OK_WORDS | {"no error", "no errors", "without error", "not applicable"}


class Found(NamedTuple):
    """A value and where it stood. A NamedTuple: there are dozens for each run."""

    value: Json
    place: str
    key: str  # as the run spells it; an artifact's path

    @property
    def origin(self) -> str:
        return f"{self.place} {self.key}"

    @property
    def stem(self) -> str:
        name = self.key
        if self.place == "artifact":
            parts = name.split("/")
            name = parts[-1]
            if len(parts) > 1 and "." in parts[-2]:  # a file in a folder with the wanted name
                name = parts[-2]
            name = name.rsplit(".", 1)[0]
        return normalise(name)


_rank = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Status:
    """How a run ended, by the best evidence there is."""

    word: str  # OK | ERROR | UNSET
    because: str  # the evidence, as "metric status = 0"
    explicit: bool  # more than the run's own status
    error_type: str = ""
    error_message: str = ""
    stack_trace: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A value that says how good something was (feedback), or what it should have been."""

    name: str
    value: Json
    type: str  # feedback | expectation
    source_type: str  # HUMAN | LLM_JUDGE | CODE
    source_id: str
    rationale: str
    origin: str
    recorded: str = ""  # the text that a verdict was read from


@dataclass(frozen=True, slots=True)
class Step:
    """A span that a run's own metrics or files tell of: one of several calls, an event, a row.

    What is not known is None; times in ms. ``steps`` lie below it.
    """

    key: str  # unique in its run; the span's id is made from it
    name: str
    type: str = SpanType.LLM
    start_ms: float | None = None
    end_ms: float | None = None
    duration_ms: float | None = None
    inputs: Json = None
    outputs: Json = None
    usage: tuple[float | None, float | None, float | None] = (None, None, None)
    cost_usd: float | None = None
    model: Found | None = None
    provider: Found | None = None
    session: str | None = None
    status: Status | None = None  # None: nothing speaks against it
    events: tuple[SpanEvent, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)  # attributes below "legacy."
    judged: tuple[Judged, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    inferences: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(slots=True)
class RunView:
    """A run read through a profile. Looks are cached by what they look for."""

    run: RunRecord
    profile: Profile
    root: RunView | None = None  # None for the root itself
    issues: list[Issue] = field(default_factory=list)
    _keys: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _fields: dict[str, Sequence[Found]] | None = None  # by field, in the order of its sources
    _ranks: dict[str, Sequence[int]] = field(default_factory=dict)  # of those sources: of several
    _of_root: list[tuple[str, int, Found]] | None = None
    _given: tuple[Json, tuple[Found, ...]] | None = None
    _got: tuple[Json, tuple[Found, ...]] | None = None
    _parsed: dict[str, Json] = field(default_factory=dict)

    # ------------------------------------------------------------------ looking up

    def all(self, source: Source) -> list[Found]:
        """Return every value at ``source``; artifacts in the order of their paths."""
        if source.of_root and self.root is not None:
            return self.root.all(source)
        if source.place == "field":
            found = self.first(source.key)
            return [found] if found else []
        if source.place == "artifact":
            assert source.pattern is not None
            paths = sorted(
                (path for path in self.run.texts if source.pattern.match(path)), key=natural
            )
            return [f for path in paths if (f := self._artifact(path, source.path)) is not None]
        names: Sequence[str]
        if source.pattern is None:  # nearly always, and nearly always there is nothing
            name = self._spelling(source.place).get(source.key)
            names = () if name is None else (name,)
        else:
            names = matching(source, tuple(self._names(source.place)))
        return [Found(self._value(source.place, name), source.place, name) for name in names]

    def has(self, source: Source) -> bool:
        """Tell whether ``source`` has a value, or an artifact of that name is listed."""
        if source.place == "artifact" and source.pattern is not None and not source.path:
            run = self.root.run if source.of_root and self.root is not None else self.run
            return any(source.pattern.match(artifact.path) for artifact in run.artifacts)
        if source.place == "field" or source.place == "artifact":
            return bool(self.all(source))
        view = self.root if source.of_root and self.root is not None else self
        if source.pattern is None:
            return source.key in view._spelling(source.place)
        return bool(matching(source, tuple(view._names(source.place))))

    def judging(self) -> list[tuple[AssessmentRule, Source]]:
        """Return the assessment rules that may find something, with the source, in their order."""
        profile = self.profile
        places = list(profile.judging_elsewhere)
        for place in ("param", "metric", "tag"):
            places += profile.judging_among(place, tuple(self._names(place)))
        rules = profile.assessments
        return [(rules[rule], rules[rule].sources[source]) for rule, source in sorted(places)]

    def every(self, name: str) -> Sequence[Found]:
        """Return all that the field's sources find, in their order."""
        if self._fields is None:
            self._fields = self._collect()
        return self._fields.get(name, ())

    def best(self, name: str) -> Sequence[Found]:
        """Return what the first of the field's sources finds that finds anything said."""
        said = [
            (found, at)
            for at, found in enumerate(self.every(name))
            if found.value is not None and found.value != ""
        ]
        ranks = self._ranks.get(name)
        if ranks is None:
            return [found for found, _ in said]
        return [found for found, at in said if ranks[at] == ranks[said[0][1]]]

    def _collect(self) -> dict[str, Sequence[Found]]:
        run, profile = self.run, self.profile
        fields: dict[str, list[tuple[int, Found]]] = {}
        for name, rank, key in profile.fields_among("param", tuple(run.params)):
            fields.setdefault(name, []).append((rank, Found(run.params[key], "param", key)))
        for name, rank, key in profile.fields_among("metric", tuple(run.metrics)):
            last = Found(last_value(run.metrics[key]), "metric", key)
            fields.setdefault(name, []).append((rank, last))
        for name, rank, key in profile.fields_among("tag", tuple(run.tags)):
            fields.setdefault(name, []).append((rank, Found(run.tags[key], "tag", key)))
        for path in sorted(run.texts, key=natural):
            for name, rank, source in profile.sources_at(path):
                if (inside := self._artifact(path, source.path)) is not None:
                    fields.setdefault(name, []).append((rank, inside))
        for name, rank, found in (self.root or self)._at_root():
            fields.setdefault(name, []).append((rank, found))
        collected: dict[str, Sequence[Found]] = {}
        for name, entries in fields.items():
            if len(entries) == 1:
                collected[name] = (entries[0][1],)
                continue
            entries.sort(key=_rank)  # stable: natural order within a source
            unique: dict[tuple[str, str, int], tuple[int, Found]] = {}
            for rank, found in entries:  # two values of one JSON file are two, one value twice not
                unique.setdefault((found.place, found.key, id(found.value)), (rank, found))
            collected[name] = [found for _, found in unique.values()]
            self._ranks[name] = [rank for rank, _ in unique.values()]
        return collected

    def _at_root(self) -> list[tuple[str, int, Found]]:
        """Return what the sources beginning with ``root.`` find here, which is the root."""
        if self._of_root is None:
            self._of_root = [
                (name, rank, found)
                for name, rank, source in self.profile.elsewhere
                for found in self.all(source)
            ]
        return self._of_root

    def first(self, name: str) -> Found | None:
        """Return the first value of a field that says something."""
        for found in self.every(name):
            if not (isinstance(found.value, str) and found.value.strip().lower() in EMPTY_WORDS):
                return found
        return None

    def number(self, name: str) -> tuple[float, Found] | None:
        """Return the first finite number of a field."""
        for found in self.every(name):
            if (number := as_number(found.value)) is not None:
                return number, found
        return None

    def text(self, name: str, limit: int | None = None) -> str:
        """Return a field as text; empty when it has none."""
        found = self.first(name)
        if found is None:
            return ""
        value = found.value
        text = value if isinstance(value, str) else encoding.encode(value)
        text = encoding.clean_text(text).strip()
        return text if limit is None else text[:limit]

    def history(self, name: str) -> tuple[str, tuple[MetricPoint, ...]] | None:
        """Return the key and points of a field's first metric that has several points."""
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

        text = re.sub(r"\{([^}]*)\}", put, template)
        return None if missing else text

    def _names(self, place: str) -> Mapping[str, object]:
        if place == "param":
            return self.run.params
        return self.run.metrics if place == "metric" else self.run.tags

    def _spelling(self, place: str) -> Mapping[str, str]:
        known = self._keys.get(place)
        if known is None:
            self._keys[place] = known = spellings(tuple(self._names(place)))
        return known

    def _value(self, place: str, key: str) -> Json:
        if place == "metric":
            return last_value(self.run.metrics[key])
        return (self.run.params if place == "param" else self.run.tags)[key]

    def _artifact(self, path: str, inside: tuple[str, ...]) -> Found | None:
        value = self.parsed(path)
        for step in inside:
            if not isinstance(value, Mapping) or step not in value:
                return None
            value = value[step]
        return Found(value, "artifact", path)

    def parsed(self, path: str) -> Json:
        """Return a text artifact as JSON when it is an object or a list, else as text."""
        if path not in self._parsed:
            text = self.run.texts[path]
            self._parsed[path] = value = parse_json(text)
            if value is text and path.lower().endswith(".json") and text.strip():
                self.issues.append(
                    Issue(
                        Code.ARTIFACT_NOT_JSON,
                        f"{self.run.artifact_dir}/{path}" if self.run.artifact_dir else path,
                        f"{path} of run {self.run.run_id} does not parse as JSON.",
                        "its text, as it is",
                        Kind.RUN,
                        self.run.run_id,
                    )
                )
        return self._parsed[path]

    # -------------------------------------------------------------- what it was given and gave

    def inputs(self) -> tuple[Json, tuple[Found, ...]]:
        """Return the span's inputs and what they were made of; None when there are none."""
        if self._given is None:
            self._given = self._inputs()
        return self._given

    def outputs(self) -> tuple[Json, tuple[Found, ...]]:
        """Return the span's outputs and what they were made of; None when there are none."""
        if self._got is None:
            self._got = self._outputs()
        return self._got

    def _inputs(self) -> tuple[Json, tuple[Found, ...]]:
        ignored = {(f.place, f.key) for f in self.every("not_inputs")}
        parts: dict[str, Found] = {}
        for found in self.every("inputs"):
            value = found.value
            if (found.place, found.key) in ignored or value is None or value == "":
                continue
            if not isinstance(value, str):
                if found.place == "artifact" or encoding.is_chat(value):
                    if not parts:
                        return ({"messages": value} if encoding.is_chat(value) else value), (found,)
                    continue
                value = encoding.encode(value)
            if not value.strip() or found.stem in parts:
                continue
            if any(_same(value, other.value) for other in parts.values()):
                continue
            parts[found.stem] = Found(parse_chat(value), found.place, found.key)
        if not parts:
            asked, _, note = self._note()
            return (dict(asked), (note,)) if asked and note else (None, ())
        founds = tuple(parts.values())
        if len(founds) == 1 and encoding.is_chat(founds[0].value):
            return {"messages": founds[0].value}, founds
        system = next((s for s in parts if s in SYSTEM_STEMS), None)
        user = next((s for s in parts if s in USER_STEMS), None)
        if system and user and len(parts) == 2:
            return {
                "messages": [
                    {"role": "system", "content": parts[system].value},
                    {"role": "user", "content": parts[user].value},
                ]
            }, founds
        return {stem: found.value for stem, found in parts.items()}, founds

    def _outputs(self) -> tuple[Json, tuple[Found, ...]]:
        if founds := tuple(self.best("outputs")):
            if len(founds) > 1:
                return {f.stem: f.value for f in founds}, founds
            value = founds[0].value
            return (parse_json(value) if isinstance(value, str) else value), founds
        _, answer, note = self._note()
        return (answer, (note,)) if answer is not None and note else (None, ())

    def _note(self) -> tuple[Mapping[str, str], str | None, Found | None]:
        """Return question and answer of the run's only note of a call, if that is what it is."""
        notes = list(self.every("calls"))
        if len(notes) != 1 or not isinstance(notes[0].value, str):
            return {}, None, None
        return (*transcript(notes[0].value), notes[0])

    def moments(self) -> tuple[SpanEvent, ...]:
        """Return what files of events tell, each at the ms since the epoch that ends its name."""
        found = []
        for each in self.every("events"):
            match = re.fullmatch(r"(.+?)[_-](\d{12,13})", each.stem)
            if match is None:
                continue
            values = each.value if isinstance(each.value, Mapping) else {"value": each.value}
            attributes = {str(key): encoding.sanitize(value) for key, value in values.items()}
            found.append(SpanEvent(match[1], int(match[2]) * 1_000_000, attributes))
        return tuple(sorted(found, key=lambda event: (event.time_ns, event.name)))

    def documents(self) -> tuple[Json, Found] | None:
        """Return retrieved documents in the form of MLflow's retriever view."""
        for found in self.every("documents"):
            value = found.value
            if isinstance(value, Sequence) and not isinstance(value, str) and value:
                documents = [_document(item) for item in value]
                if all(document is not None for document in documents):
                    return documents, found
        return None

    # ------------------------------------------------------------------- tokens, cost, time

    def usage(self) -> tuple[tuple[float | None, float | None, float | None], str]:
        """Return input, output and total tokens as logged last, and where they stood."""
        founds = [self.number(f"{name}_tokens") for name in ("input", "output", "total")]
        where = ", ".join(found[1].origin for found in founds if found)
        values = [found[0] if found else None for found in founds]
        return (values[0], values[1], values[2]), where

    def duration_ms(self, length_ms: float | None) -> tuple[float, Found, str] | None:
        """Return the logged duration in ms, its source, and what was assumed of its unit.

        ``length_ms`` is how long the run itself was open.
        """
        if (found := self.number("duration_ms")) and found[0] >= 0:
            return found[0], found[1], ""
        if (found := self.number("duration_s")) and found[0] >= 0:
            return found[0] * 1000, found[1], ""
        if (found := self.number("duration_unknown")) and found[0] >= 0:
            factor, unit = _unit(found[0], length_ms)
            return found[0] * factor, found[1], f"{found[1].origin} is taken to be in {unit}"
        return None

    def calls(self) -> tuple[Step, ...]:
        """Return the calls of a run that recorded several, oldest first; else nothing.

        A metric with a history is one call for each point, unless it is a running total.
        """
        if all(len(points) < 2 for points in self.run.metrics.values()):  # nearly every run
            return self._calls_of_texts()
        usage = [self.history(f"{name}_tokens") for name in ("input", "output", "total")]
        if usage[2] and not usage[0] and not usage[1] and _is_running_total(*usage[2]):
            usage[2] = None
        usage = [u if u and not _is_running_total(u[0], u[1], strict=True) else None for u in usage]
        times = [
            (self.history("duration_ms"), 1.0),
            (self.history("duration_s"), 1000.0),
            (self.history("duration_unknown"), None),
        ]
        time, factor = next(((t, f) for t, f in times if t), (None, None))
        texts = list(self.every("calls"))
        histories = [u for u in usage if u]
        if not histories and time and (len(texts) == len(time[1]) or self.first("model")):
            histories = [time]
        if not histories:
            return self._calls_of_texts()
        _, points = max(histories, key=lambda h: len(h[1]))
        by_step = len({p.step for p in points}) == len(points)
        ordered = sorted(points, key=lambda p: (p.timestamp_ms, p.step))

        def of_calls(history: tuple[str, tuple[MetricPoint, ...]] | None) -> list[float | None]:
            """Return a finite value, or None, for each call."""
            values: list[float | None] = [None] * len(ordered)
            if history is not None and by_step:
                last = {point.step: point.value for point in history[1]}
                values = [last.get(point.step) for point in ordered]
            elif history is not None and len(history[1]) == len(ordered):
                same = sorted(history[1], key=lambda p: (p.timestamp_ms, p.step))
                values = [point.value for point in same]
            return [v if v is not None and math.isfinite(v) else None for v in values]

        cost = self.history("cost_usd")
        if cost and _is_running_total(*cost, strict=True):
            cost = None
        own = {
            name: of_calls((name, points))
            for name, points in sorted(self.run.metrics.items())
            if len(points) == len(ordered)
        }
        durations, costs = of_calls(time), of_calls(cost)
        given, got, total = map(of_calls, usage)
        calls = []
        for number, point in enumerate(ordered):
            duration = durations[number]
            if duration is not None:
                duration *= factor if factor is not None else _unit(duration, None)[0]
            metrics = {
                name: value for name, values in own.items() if (value := values[number]) is not None
            }
            calls.append(
                replace(
                    _call(number + 1, texts[number] if len(texts) == len(ordered) else None),
                    end_ms=point.timestamp_ms,
                    duration_ms=duration,
                    usage=(given[number], got[number], total[number]),
                    cost_usd=costs[number],
                    facts={f"metric.{name}": value for name, value in metrics.items()},
                )
            )
        return tuple(calls)

    def _calls_of_texts(self) -> tuple[Step, ...]:
        texts = list(self.every("calls"))
        if len(texts) < 2:
            return ()
        return tuple(_call(number, found) for number, found in enumerate(texts, 1))

    # --------------------------------------------------------------------------- status

    def status(self) -> Status:
        """Return how the run ended: by its metrics, error files, error texts, status words, and
        last by the run's own status, which many loggers leave at FINISHED or RUNNING."""
        error_type = self.text("error_type", 250)
        message = self.text("error_message")
        stack = self.text("stack_trace")
        if message.lower() in NO_MESSAGES or not _is_error(message):
            message = ""
        if not _is_error(error_type):
            error_type = ""
        error_file = next((f for f in self.every("error") if _is_error(f.value)), None)
        if not message and error_file is not None:
            message = (
                error_file.value
                if isinstance(error_file.value, str)
                else encoding.encode(error_file.value)
            ).strip()
        if message and not error_type:
            error_type = _type_of(message)

        def error(because: str, explicit: bool = True) -> Status:
            return Status("ERROR", because, explicit, error_type, message, stack)

        for name, good in (("success", True), ("failure", False)):
            for found in self.every(name):
                value = verdict(found.value)
                if value is None:
                    continue
                if value != good:
                    return error(f"{found.origin} = {found.value}")
                if name == "success":
                    return Status("OK", f"{found.origin} = {found.value}", True)
        for found in self.every("unfinished"):  # the logger gave up waiting: nobody knows the end
            if verdict(found.value):
                return Status("UNSET", f"{found.origin} = {found.value}", True)
        if error_file is not None:
            return error(error_file.origin)
        for name in ("error_message", "error_type"):
            for found in self.every(name):
                if isinstance(found.value, str) and _is_error(found.value):
                    return error(found.origin)
        for found in self.every("status"):
            word = normalise(str(found.value))
            if word in ERROR_WORDS:
                return error(f"{found.origin} = {found.value}")
            if word in OK_WORDS:
                return Status("OK", f"{found.origin} = {found.value}", True)
        because = f"run status {self.run.status}"
        if self.run.status in ("FAILED", "KILLED"):
            return error(because, explicit=False)
        if self.run.status == "FINISHED":
            return Status("OK", because, False)
        return Status("UNSET", because, False)


# --------------------------------------------------------------------------- small readings


_source = lru_cache(1 << 10)(parse_source)  # of the templates of profiles: always the same few


def _call(number: int, text: Found | None) -> Step:
    """Return one of several calls of a run, with what its note says."""
    origins = {"tokens": "metric history", "cost": "metric history"}
    if text is None:
        return Step(f"call-{number}", f"call_{number}", origins=origins)
    kind = re.match(r"[^\W\d]+", text.stem)  # "query" of query_2024_03_01
    inputs: Json = {text.stem: text.value}
    outputs: Json = None
    if isinstance(text.value, str):
        asked, answer = transcript(text.value)
        if asked:
            inputs, outputs = dict(asked), answer
    return Step(
        f"call-{number}",
        f"{kind[0].strip('_') if kind else 'call'}_{number}",
        inputs=inputs,
        outputs=outputs,
        origins={**origins, "inputs": text.origin, "outputs": text.origin},
    )


def last_value(points: Sequence[MetricPoint]) -> float:
    """Return a metric's latest value by MLflow's rule: highest step, then time, then value."""
    if len(points) < 2:
        return points[0].value if points else math.nan
    return max(
        points,
        key=lambda p: (p.step, p.timestamp_ms, -math.inf if math.isnan(p.value) else p.value),
    ).value


def as_number(value: Json) -> float | None:
    """Return a finite number, also from text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value.strip())
        except ValueError:
            return None
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def parse_json(text: str) -> Json:
    """Return ``text`` as JSON if it is an object or a list, else the very same text.

    Python's repr of a dict is not JSON and stays text; so does what is nested too deeply to parse.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped.startswith(("{", "[")):
        return text
    try:
        value: Json = json.loads(stripped)
    except (ValueError, RecursionError):
        return text
    return value


def parse_chat(text: Json) -> Json:
    """Return a text that holds a list of chat messages as that list, any other as it is."""
    if isinstance(text, str):
        value = parse_json(text)
        if encoding.is_chat(value):
            return value
    return text


def transcript(text: str) -> tuple[dict[str, str], str | None]:
    """Split a note with headings (``Question:`` … ``Answer:`` …) into inputs and the answer.

    Returns no inputs when the text has no such headings.
    """
    asked = "question|query|prompt|user|input|pregunta|pergunta|frage"
    answered = "answer|response|output|assistant|reponse|réponse|respuesta|resposta|antwort"
    # The headings that such notes go on with end an answer; other words with a colon do not.
    others = "sources|context|contexts|documents|metadata|latency|timestamp|model|tokens|top-k"
    heading = re.compile(
        rf"^({asked}|{answered}|{others})[ \t]*:[ \t]*", re.IGNORECASE | re.MULTILINE
    )
    marks = list(heading.finditer(text))
    inputs: dict[str, str] = {}
    answer: str | None = None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=False):
        word = mark[1].lower()
        body = text[mark.end() : end].strip()
        if re.fullmatch(asked, word) and word not in inputs and body:
            inputs[word] = body
        elif re.fullmatch(answered, word) and answer is None and body:
            answer = body
    return (inputs, answer) if inputs and answer is not None else ({}, None)


@lru_cache(1 << 12)  # names of files, steps and tags are the same in thousands of runs
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``step_2`` before ``step_10``."""
    return tuple(
        (0, int(part), "") if part.isdecimal() and len(part) < 19 else (1, 0, part)
        for part in re.split(r"(\d+)", text)
    )


def is_cut(found: Found) -> bool:
    """Tell whether a param or tag looks cut: it ends in dots, or exactly at a known limit."""
    value = found.value
    return (
        found.place in ("param", "tag")
        and isinstance(value, str)
        and (len(value) in CUT_LENGTHS or (len(value) > 100 and value.endswith("...")))
    )


def listed(artifacts: Sequence[ArtifactFile]) -> list[Json]:
    """Return the artifact paths as an attribute's value."""
    return [artifact.path for artifact in artifacts]


def _same(text: str, other: Json) -> bool:
    if not isinstance(other, str):
        return False
    a, b = text.strip(), other.strip()
    return a == b or any(
        cut.endswith("...") and len(cut) > 20 and full.startswith(cut[:-3])
        for cut, full in ((a, b), (b, a))
    )


def _document(item: Json) -> Json:
    if isinstance(item, str):
        return {"page_content": item}
    if isinstance(item, Mapping):
        for key in ("page_content", "content", "text", "chunk", "document"):
            text = item.get(key)
            if isinstance(text, str):
                rest = {k: v for k, v in item.items() if k != key}
                metadata = rest.get("metadata")
                return {
                    "page_content": text,
                    "metadata": metadata if isinstance(metadata, Mapping) else rest,
                }
    return None


def _unit(value: float, length_ms: float | None) -> tuple[float, str]:
    """Guess the unit of a duration: the one that fits the run's length, else by size."""
    if length_ms is not None and length_ms > 0:
        for factor, unit in ((1.0, "ms"), (1000.0, "s")):
            if abs(value * factor - length_ms) <= 0.25 * length_ms:
                return factor, unit
    return (1.0, "ms") if value > 300 else (1000.0, "s")


def _is_error(value: Json) -> bool:
    """False when an error field says that nothing failed, as "No error" does."""
    if isinstance(value, str):
        return plain_words(value) not in NO_ERROR
    if isinstance(value, Mapping):
        return any(_is_error(each) for each in value.values())
    return bool(value)


def _type_of(message: str) -> str:
    """Return the exception's name from ``ValueError: boom`` or the last line of a stack trace."""
    for line in (message.splitlines()[0], message.splitlines()[-1]):
        if match := re.match(
            r"\s*([A-Za-z_][\w.]*(?:Error|Exception|Timeout|Interrupt|Exit))\b", line
        ):
            return match[1]
    return ""


def _is_running_total(key: str, points: Sequence[MetricPoint], *, strict: bool = False) -> bool:
    """Tell whether points are a growing counter; ``strict`` asks for a name that says so."""
    values = [p.value for p in sorted(points, key=lambda p: (p.timestamp_ms, p.step))]
    grows = all(a <= b for a, b in pairwise(values))
    if not strict:
        return grows
    name = normalise(key)
    return (
        grows
        and re.match(r"(total|cumulative|session|running|sum)_", name) is not None
        and name != "total_tokens"
    )


# ------------------------------------------------------------------------------ assessments


def judgements(view: RunView) -> Iterator[Judged]:
    """Yield the assessments that the profile's rules find in a run, each value once."""
    seen = set()
    for rule, source in view.judging():
        for found in view.all(source):
            value, recorded = _judged(found, rule.value)
            if value is None or (found.place, found.key) in seen:
                continue
            seen.add((found.place, found.key))
            name = rule.name or encoding.clean_text(
                found.stem if found.place == "artifact" else found.key
            )
            yield Judged(
                name=encoding.cut(name, 250),
                value=value,
                type=rule.type,
                source_type=rule.source_type,
                source_id=encoding.cut(_text(view, rule.source_id) or found.origin, 250),
                rationale=_text(view, rule.rationale),
                origin=found.origin,
                recorded=recorded,
            )


def _judged(found: Found, how: str) -> tuple[Json, str]:
    """Read an assessment's value, and the recorded text when the value is a verdict of it.

    ``how`` is one of ``profiles.ASSESSMENT_VALUES``. The value is None when there is none: an empty
    text, or a metric that is not finite.
    """
    value = as_number(found.value) if found.place == "metric" else found.value
    if value is None or value == "":
        return None, ""
    said = verdict(value) if how == "yes-no" else None
    if said is None:
        return value, ""
    recorded = f"{value:g}" if isinstance(value, float) else str(value)
    return said, recorded


def _text(view: RunView, sources: Sequence[Source]) -> str:
    for source in sources:
        for found in view.all(source):
            if isinstance(found.value, (str, int, float)) and str(found.value).strip():
                return encoding.clean_text(str(found.value).strip())
    return ""
