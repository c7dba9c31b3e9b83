"""Profiles: which params, metrics, tags and artifacts of a run mean what. Data, not code.

A profile is a TOML file. ``name`` and ``description`` say what it is; ``extends`` names a profile
whose lists follow its own. Everything else refers to *sources*::

    param:prompt   metric:latency_ms   tag:status       the run's own, by key ("*" matches any text)
    artifact:inputs.json               a text artifact, by path, or by file name when without "/"
    artifact:error.json#error_type     a value inside a JSON artifact
    root.param:global_provider         the same, of the tree's root run
    field:model                        what [fields] found (not inside [fields])

``[[recognise]]``: any one group suffices; of a group all must hold (``root_has``, ``child_has``
lists of sources; ``root_name``, ``child_name`` regular expressions). A profile without it takes
what no other recognises. ``role`` then decides for the whole tree. ``[fields]`` lists the sources
of each field, most telling first (``FIELDS``). ``[[spans]]`` gives the type and name of a run's
span, the first rule that fits. ``[[assessments]]`` turns values into feedback or expectations.
``steps`` names the code that reads steps out of a run's own files (``STEP_READERS``); ``opt_in``
the word of ``--include`` without which the profile takes nothing.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from migrator.errors import OptionError
from migrator.model import Role, SpanType

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

FIELDS = (
    "inputs", "not_inputs", "outputs", "documents", "calls", "model", "provider", "tools",
    "tool_name", "agent_name", "kind", "turn", "case", "session", "user", "input_tokens",
    "output_tokens", "total_tokens", "cost_usd", "input_cost_usd", "output_cost_usd",
    "duration_ms", "duration_s", "duration_unknown", "success", "failure", "status", "error",
    "error_type", "error_message", "stack_trace", "native_trace", "events", "tables", "unfinished",
)  # fmt: skip
PLACES = ("param", "metric", "tag", "artifact", "field")
BUILT_IN = (
    "configurable-agents", "configurable-agents-node", "configurable-agents-server",
    "configurable-agents-ab", "langchain-callback", "openai-autolog", "langflow", "chat-sessions",
    "typed-nodes", "evaluation-tables", "generic",
)  # fmt: skip
GENERIC = "generic"
SPAN_TYPES = tuple(
    sorted(value for name, value in vars(SpanType).items() if not name.startswith("_"))
)
TREE_ROLES = tuple(role.value for role in Role)
STEP_READERS = ("langchain-events", "openai-files", "table-rows", "conversation")
OPT_IN = ("tables",)
ASSESSMENT_SOURCES = ("HUMAN", "LLM_JUDGE", "CODE")
ASSESSMENT_TYPES = ("feedback", "expectation")
ASSESSMENT_VALUES = ("as-is", "yes-no")


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a run where a value may stand, as ``place:key`` in the TOML."""

    place: str  # one of PLACES
    key: str  # normalised (artifacts: as written)
    pattern: re.Pattern[str] | None  # for keys with "*", and for all artifacts
    path: tuple[str, ...] = ()  # into a JSON artifact
    of_root: bool = False
    text: str = ""  # as written


@dataclass(frozen=True, slots=True)
class Recognition:
    """Conditions that must all hold for a tree to be the profile's."""

    root_has: tuple[Source, ...] = ()
    child_has: tuple[Source, ...] = ()  # one run below the root has them all
    root_name: re.Pattern[str] | None = None
    child_name: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class SpanRule:
    """Type and name of the spans of runs that fit all the conditions given."""

    type: str | None
    name: str | None  # "{param:node_id}" stands for a value; the rule's name holds if all are there
    root: bool | None = None
    leaf: bool | None = None
    kinds: frozenset[str] = frozenset()  # values of the field "kind"
    run_name: re.Pattern[str] | None = None
    has: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class AssessmentRule:
    """Values that say how good a result was, or what it should have been."""

    sources: tuple[Source, ...]
    type: str  # ASSESSMENT_TYPES
    source_type: str  # ASSESSMENT_SOURCES
    value: str  # ASSESSMENT_VALUES
    name: str | None  # the key itself when None
    source_id: tuple[Source, ...]
    rationale: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One way of logging LLM work into runs. See the module's docstring for the TOML form."""

    name: str
    description: str
    recognise: tuple[Recognition, ...]
    role: Role | None
    fields: Mapping[str, tuple[Source, ...]]
    spans: tuple[SpanRule, ...]
    assessments: tuple[AssessmentRule, ...]
    steps: str | None = None  # one of STEP_READERS
    opt_in: str | None = None  # one of OPT_IN
    extends: frozenset[str] = frozenset()  # all profiles above it
    failed_step: re.Pattern[str] | None = None  # its group is a step's name in an error message
    failed_step_is: Source | None = None
    kinds: frozenset[str] = frozenset()  # every kind that a span rule knows
    # The sources of all fields for looking up from the run's side: its keys are few, the sources
    # hundreds. By place and key, and those that need a search; each with field and rank.
    by_key: Mapping[tuple[str, str], tuple[tuple[str, int], ...]] = field(default_factory=dict)
    to_search: tuple[tuple[str, int, Source], ...] = ()
    # Of to_search, those that no path or key of the run's own leads to.
    elsewhere: tuple[tuple[str, int, Source], ...] = ()
    _by_name: dict[tuple[str, str], tuple[tuple[str, int], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _by_path: dict[str, tuple[tuple[str, int, Source], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _by_names: dict[tuple[str, tuple[str, ...]], tuple[tuple[str, int, str], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _judging: dict[tuple[str, tuple[str, ...]], tuple[tuple[int, int], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )
    # Sources of assessments that no key of the run's own leads to: numbers of rule and source.
    judging_elsewhere: tuple[tuple[int, int], ...] = ()
    origin: str = "built in"  # the file it was read from

    def fields_of(self, place: str, key: str) -> tuple[tuple[str, int], ...]:
        """Return the fields that a run's own (normalised) key is a source of, each with rank."""
        found = self._by_name.get((place, key))
        if found is None:
            found = self.by_key.get((place, key), ()) + tuple(
                (name, rank)
                for name, rank, source in self.to_search
                if source.place == place
                and not source.of_root
                and source.pattern is not None
                and source.pattern.match(key)
            )
            if len(self._by_name) < 10_000:  # a memo: most runs have the same few keys
                self._by_name[place, key] = found
        return found

    def fields_among(self, place: str, names: tuple[str, ...]) -> tuple[tuple[str, int, str], ...]:
        """Return the fields that a run's own names are sources of: field, rank and name."""
        found = self._by_names.get((place, names))
        if found is None:
            found = tuple(
                (field_name, rank, name)
                for plain, name in sorted(spellings(names).items())
                for field_name, rank in self.fields_of(place, plain)
            )
            if _is_memorable(self._by_names, names):  # a memo: most runs have the same keys
                self._by_names[place, names] = found
        return found

    def judging_among(self, place: str, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
        """Return the sources of assessments that a run's own names are: rule and source."""
        found = self._judging.get((place, names))
        if found is None:
            plain = spellings(names)
            found = tuple(
                (rule_at, source_at)
                for rule_at, rule in enumerate(self.assessments)
                for source_at, source in enumerate(rule.sources)
                if _is_own_key(source) and source.place == place and source.key in plain
            )
            if _is_memorable(self._judging, names):
                self._judging[place, names] = found
        return found

    def sources_at(self, path: str) -> tuple[tuple[str, int, Source], ...]:
        """Return the run's own artifact sources that match a path, with field and rank."""
        found = self._by_path.get(path)
        if found is None:
            found = tuple(
                item
                for item in self.to_search
                if item[2].place == "artifact"
                and not item[2].of_root
                and item[2].pattern is not None
                and item[2].pattern.match(path)
            )
            if len(self._by_path) < 10_000:  # a memo: most runs hold files of the same few names
                self._by_path[path] = found
        return found


def load_profiles(
    paths: Sequence[str] = (), texts: Sequence[tuple[str, str]] = ()
) -> tuple[Profile, ...]:
    """Read the user's profiles (files, or ``(origin, TOML text)`` pairs) and the built-in ones.

    The order is the order in which they are tried: the user's, the built-in named ones, and last
    those without ``[[recognise]]``. A user's profile may bear the name of a built-in one and then
    replaces it. Raises OptionError naming the file, the key and what is allowed.
    """
    raw: dict[str, tuple[str, str, dict[str, Any]]] = {}
    sources = [*texts]
    for path in paths:
        try:
            sources.append((path, Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(
                f"Profile {path} can't be read: {error}.", todo="Name a TOML file in UTF-8."
            ) from error
    folder = resources.files(__package__) / "profiles"
    for built_in in BUILT_IN:
        text = (folder / f"{built_in}.toml").read_text("utf-8")
        sources.append((f"built in ({built_in})", text))
    for origin, text in sources:
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OptionError(f"Profile {origin} is not TOML: {error}.") from error
        name = table.get("name")
        if not isinstance(name, str) or not name.strip():
            raise OptionError(
                f'Profile {origin}: key "name" is missing or not a text.',
                todo='Give it one, as name = "my-tool".',
            )
        own = name in raw and not raw[name][0].startswith("built in")
        if own and not origin.startswith("built in"):
            raise OptionError(
                f'Profile {origin}: the name "{name}" is also that of {raw[name][0]}.',
                todo="Give each profile its own name.",
            )
        if own and table.get("name") in BUILT_IN:
            raw[f"{name} (built in)"] = (origin, text, table)  # what the user's may extend
            continue
        raw[name] = (origin, text, table)
    profiles: dict[str, Profile] = {}
    for name in raw:
        _resolve(name, raw, profiles, ())
    ready = [profiles[name] for name in raw if not name.endswith(" (built in)")]
    return tuple(
        [profile for profile in ready if profile.recognise]
        + [profile for profile in ready if not profile.recognise]
    )


def wanted_artifacts(profiles: Iterable[Profile]) -> Callable[[str], bool]:
    """Return a test for artifact paths (relative, ``/``): must the extractor read it as text?"""
    patterns = {
        source.pattern.pattern
        for profile in profiles
        for source in _all_sources(profile)
        if source.place == "artifact" and source.pattern is not None
    }
    return _Wanted(re.compile("|".join(sorted(patterns)) or r"(?!)", re.IGNORECASE))


class _Wanted:
    """Tells by its path whether an artifact is wanted. Unlike a lambda, it can be pickled."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._known: dict[str, bool] = {}  # most runs hold files of the same few names

    def __call__(self, path: str) -> bool:
        known = self._known.get(path)
        if known is None:
            known = self._pattern.match(path) is not None
            if len(self._known) < 10_000:
                self._known[path] = known
        return known


def _is_own_key(source: Source) -> bool:
    """Tell whether a source is one key of the run itself, not a pattern, a file or a field."""
    own = source.place in ("param", "metric", "tag") and not source.of_root
    return own and source.pattern is None


_spellings: dict[tuple[str, ...], Mapping[str, str]] = {}


def spellings(names: tuple[str, ...]) -> Mapping[str, str]:
    """Return names by their normalised form; of two spellings of one the first in order."""
    known = _spellings.get(names)
    if known is None:
        known = {normalise(name): name for name in sorted(names, reverse=True)}
        if _is_memorable(_spellings, names):
            _spellings[names] = known
    return known


_matching: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}


def matching(source: Source, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that a source with a pattern means, in the order of their spellings."""
    known = _matching.get((source.key, names))
    if known is None:
        assert source.pattern is not None
        plain = spellings(names)
        known = tuple(plain[key] for key in sorted(plain) if source.pattern.match(key))
        if _is_memorable(_matching, names):
            _matching[source.key, names] = known
    return known


def _is_memorable(memo: Mapping[Any, object], names: tuple[str, ...]) -> bool:
    """Tell whether a memo of what is told by a run's keys can take some more."""
    return len(memo) < 1_000 and len(names) < 200


@lru_cache(maxsize=100_000)
def normalise(key: str) -> str:
    """Return ``key`` in one spelling: lower case, no accents, words joined by ``_``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c)
    )
    return re.sub(r"[\s.\-/:_]+", "_", plain.casefold()).strip("_")


def parse_source(text: str) -> Source:
    """Read ``[root.]place:key``. Raises ValueError with what is allowed."""
    of_root = text.startswith("root.")
    place, colon, key = text.removeprefix("root.").partition(":")
    if not colon or place not in PLACES or not key.strip():
        raise ValueError(
            f'a source is one of {", ".join(PLACES)}, a colon and a key, as "param:prompt"'
        )
    if place == "field":
        if key not in FIELDS:
            raise ValueError(f"a field is one of {', '.join(FIELDS)}")
        return Source(place, key, None, (), of_root, text)
    if place == "artifact":
        path, _, inside = key.partition("#")
        return Source(
            place, path, _glob(path), tuple(inside.split(".")) if inside else (), of_root, text
        )
    if "*" in key:
        parts = [re.escape(normalise_part(part)) for part in key.split("*")]
        return Source(place, key, re.compile(".*".join(parts) + r"\Z"), (), of_root, text)
    return Source(place, normalise(key), None, (), of_root, text)


def normalise_part(part: str) -> str:
    """Normalise a piece of a key pattern, keeping the separator at its ends."""
    inner = normalise(part)
    head = "_" if inner and not part[0].isalnum() else ""
    tail = "_" if inner and not part[-1].isalnum() else ""
    return head + inner + tail


def _glob(pattern: str) -> re.Pattern[str]:
    # Without "/" the file's name counts, in any folder; log_artifact of a temporary file into a
    # folder that bears the wanted name ("response.txt/tmp1.txt") is met in the wild.
    parts = re.split(r"(\*\*/|\*)", pattern)
    body = "".join(
        "(?:.*/)?" if part == "**/" else "[^/]*" if part == "*" else re.escape(part)
        for part in parts
    )
    if "/" in pattern:
        return re.compile(rf"{body}\Z", re.IGNORECASE)
    tail = r"(?:/[^/]*)?\Z" if "." in pattern else r"\Z"
    return re.compile(rf"(?:.*/)?{body}{tail}", re.IGNORECASE)


def _all_sources(profile: Profile) -> Iterable[Source]:
    for sources in profile.fields.values():
        yield from sources
    for group in profile.recognise:
        yield from group.root_has
        yield from group.child_has
    for rule in profile.assessments:
        yield from rule.sources
        yield from rule.source_id
        yield from rule.rationale


# ---------------------------------------------------------------------------- reading TOML


class _Table:
    """A TOML table that is read key by key; what is left at the end was not allowed."""

    def __init__(self, origin: str, text: str, where: str, values: Mapping[str, Any]) -> None:
        self.origin = origin
        self.text = text
        self.where = where
        self.values = dict(values)

    def fail(self, key: str, why: str) -> NoReturn:
        where = f"{self.where}.{key}" if self.where else key
        line = next(
            (
                f", line {number}"
                for number, line in enumerate(self.text.splitlines(), 1)
                if re.match(rf'\s*\[*"?{re.escape(key)}"?\s*[=\].]', line)
            ),
            "",
        )
        raise OptionError(f'Profile {self.origin}{line}: key "{where}": {why}.')

    def take(self, key: str, kind: type, default: Any) -> Any:
        value = self.values.pop(key, default)
        if value is not default and not isinstance(value, kind):
            names = {str: "a text", bool: "true or false", list: "a list", dict: "a table"}
            self.fail(key, f"must be {names[kind]}")
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None) -> str | None:
        value: str | None = self.take(key, str, default)
        if value is not None and value not in allowed:
            self.fail(key, f'"{value}" is not one of {", ".join(allowed)}')
        return value

    def pattern(self, key: str) -> re.Pattern[str] | None:
        value = self.take(key, str, None)
        if value is None:
            return None
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(key, f'"{value}" is not a regular expression: {error}')

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.take(key, list, [])
        if any(not isinstance(item, str) for item in value):
            self.fail(key, "must be a list of texts")
        return tuple(value)

    def sources(self, key: str, fields_allowed: bool = True) -> tuple[Source, ...]:
        found = []
        for text in self.texts(key):
            try:
                source = parse_source(text)
            except ValueError as error:
                self.fail(key, f'"{text}": {error}')
            if source.place == "field" and not fields_allowed:
                self.fail(key, f'"{text}": a field can\'t be defined by a field')
            found.append(source)
        return tuple(found)

    def tables(self, key: str) -> list[_Table]:
        value = self.take(key, list, [])
        if any(not isinstance(item, dict) for item in value):
            self.fail(key, f"must be tables, each under [[{key}]]")
        return [_Table(self.origin, self.text, f"{key}[{n}]", item) for n, item in enumerate(value)]

    def done(self, allowed: Sequence[str]) -> None:
        for key in self.values:
            self.fail(key, f"is not known here; allowed are {', '.join(allowed)}")


def _resolve(
    name: str,
    raw: Mapping[str, tuple[str, str, dict[str, Any]]],
    profiles: dict[str, Profile],
    above: tuple[str, ...],
) -> Profile:
    if name in profiles:
        return profiles[name]
    origin, text, table = raw[name]
    top = _Table(origin, text, "", table)
    base: Profile | None = None
    if extended := top.take("extends", str, None):
        target = extended
        if extended == table["name"]:  # the user's "generic" extends the built-in one
            target = f"{extended} (built in)"
        if target not in raw or target in (*above, name):
            allowed = ", ".join(other for other in raw if other != name)
            top.fail("extends", f'"{extended}" is not another profile; there are {allowed}')
        base = _resolve(target, raw, profiles, (*above, name))
    profiles[name] = _read(top, base)
    return profiles[name]


def _read(top: _Table, base: Profile | None) -> Profile:
    name = top.take("name", str, "")
    description = top.take("description", str, "")
    role = top.choice("role", TREE_ROLES, None)
    steps = top.choice("steps", STEP_READERS, base.steps if base else None)
    opt_in = top.choice("opt_in", OPT_IN, base.opt_in if base else None)
    recognise = []
    for table in top.tables("recognise"):
        group = Recognition(
            table.sources("root_has"),
            table.sources("child_has"),
            table.pattern("root_name"),
            table.pattern("child_name"),
        )
        table.done(("root_has", "child_has", "root_name", "child_name"))
        if group == Recognition():
            table.fail("root_has", "the group is empty and would take every tree")
        recognise.append(group)
    fields_table = _Table(top.origin, top.text, "fields", top.take("fields", dict, {}))
    own = {key: fields_table.sources(key, False) for key in FIELDS}
    given = {source: key for key, sources in own.items() for source in sources}
    fields = {
        key: tuple(
            dict.fromkeys(
                own[key]  # what the profile gives to one field is no longer another's
                + tuple(s for s in _inherited(base, key) if given.get(s, key) == key)
            )
        )
        for key in FIELDS
    }
    fields_table.done(FIELDS)
    spans = []
    for table in top.tables("spans"):
        spans.append(
            SpanRule(
                table.choice("type", SPAN_TYPES, None),
                _template(table),
                table.take("root", bool, None),
                table.take("leaf", bool, None),
                frozenset(normalise(kind) for kind in table.texts("kinds")),
                table.pattern("run_name"),
                table.sources("has"),
            )
        )
        table.done(("type", "name", "root", "leaf", "kinds", "run_name", "has"))
    assessments = []
    for table in top.tables("assessments"):
        rule = AssessmentRule(
            table.sources("from"),
            table.choice("type", ASSESSMENT_TYPES, "feedback") or "",
            table.choice("source", ASSESSMENT_SOURCES, "CODE") or "",
            table.choice("value", ASSESSMENT_VALUES, "as-is") or "",
            table.take("name", str, None),
            table.sources("source_id"),
            table.sources("rationale"),
        )
        if not rule.sources:
            table.fail("from", "must list at least one source")
        table.done(("from", "type", "source", "value", "name", "source_id", "rationale"))
        assessments.append(rule)
    failed_step = top.pattern("failed_step")
    if failed_step is not None and failed_step.groups != 1:
        top.fail("failed_step", "must have one group, the step's name")
    failed_step_is = None
    if (text := top.take("failed_step_is", str, None)) is not None:
        try:
            failed_step_is = parse_source(text)
        except ValueError as error:
            top.fail("failed_step_is", f'"{text}": {error}')
    top.done(
        (
            "name", "description", "extends", "role", "steps", "opt_in", "recognise", "fields",
            "spans", "assessments", "failed_step", "failed_step_is",
        )
    )  # fmt: skip
    by_key: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}
    to_search: list[tuple[str, int, Source]] = []
    for key, sources in fields.items():
        for rank, source in enumerate(sources):
            if source.pattern is None and not source.of_root:
                place = (source.place, source.key)
                by_key[place] = (*by_key.get(place, ()), (key, rank))
            else:
                to_search.append((key, rank, source))
    all_spans = (*spans, *(base.spans if base else ()))
    all_assessments = (*assessments, *(base.assessments if base else ()))
    return Profile(
        name=name,
        description=description,
        recognise=tuple(recognise),
        role=Role(role) if role else None,
        fields={key: sources for key, sources in fields.items() if sources},
        spans=all_spans,
        assessments=all_assessments,
        steps=steps,
        opt_in=opt_in,
        extends=base.extends | {base.name} if base else frozenset(),
        failed_step=failed_step or (base.failed_step if base else None),
        failed_step_is=failed_step_is or (base.failed_step_is if base else None),
        kinds=frozenset().union(*(rule.kinds for rule in all_spans)),
        by_key=by_key,
        to_search=tuple(to_search),
        elsewhere=tuple(item for item in to_search if item[2].of_root),
        judging_elsewhere=tuple(
            (rule_at, source_at)
            for rule_at, rule in enumerate(all_assessments)
            for source_at, source in enumerate(rule.sources)
            if not _is_own_key(source)
        ),
        origin="built in" if top.origin.startswith("built in") else top.origin,
    )


def _inherited(base: Profile | None, key: str) -> tuple[Source, ...]:
    return base.fields.get(key, ()) if base else ()


def _template(table: _Table) -> str | None:
    name: str | None = table.take("name", str, None)
    for text in re.findall(r"\{([^}]*)\}", name or ""):
        try:
            parse_source(text)
        except ValueError as error:
            table.fail("name", f'"{{{text}}}": {error}')
    return name
