"""Profiles: which params, metrics, tags and artifacts of a run mean what. Data, not code.

A profile is a TOML file. ``name`` and ``description`` say what it is; ``extends`` names a profile
whose lists follow its own. Everything else refers to *sources*::

    param:prompt   metric:latency_ms   tag:status       the run's own, by key ("*" matches any text)
    artifact:inputs.json               a text artifact, by path, or by file name when without "/"
    artifact:/*.json                   one outside of any folder
    artifact:error.json#error_type     a value inside a JSON artifact
    root.param:global_provider         the same, of the tree's root run
    field:model                        what [fields] found (not inside [fields])

``[[recognise]]`` says which trees are the profile's. One group suffices; in a group every condition
must hold (``root_has``, ``child_has``: lists of sources; ``root_name``, ``child_name``: regular
expressions). A profile without any takes what no other recognises. ``role`` decides for the whole
tree. ``[fields]`` lists the sources of each field, most telling first (``FIELDS``). ``[[spans]]``
gives the type and name of a run's span, by the first rule that fits. ``[[assessments]]`` turns
values into feedback or expectations. ``[attributes]`` and ``[tags]`` name
attributes of spans and tags of traces, each with a list of sources. ``steps`` names the code that
reads steps out of a run's own files (``STEP_READERS``). ``opt_in`` is the word of ``--include``
without which the profile takes nothing. ``order`` is the place of a built-in profile among the
others: the lowest is tried first.

Every TOML file in the folder ``profiles`` is a built-in profile.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

from migrator import conventions
from migrator.errors import OptionError
from migrator.model import Role, SpanType

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

FIELDS = (
    "inputs", "maybe_inputs", "not_inputs", "outputs", "maybe_outputs", "maybe_calls", "documents",
    "calls", "call_inputs", "call_outputs", "tool_calls", "linked_prompt", "linked_model",
    "model", "provider", "tools", "tool_name", "agent_name", "kind", "turn", "case", "session",
    "user", "input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens",
    "cost_usd", "input_cost_usd", "output_cost_usd", "duration_ns", "duration_us", "duration_ms",
    "duration_s", "duration_min", "duration_h", "duration_unknown", "success", "failure", "status",
    "error", "error_type", "error_message", "stack_trace", "native_trace", "events", "tables",
    "unfinished",
)  # fmt: skip
BUILT_IN_ORIGIN = "built in"
DEFAULT_ORDER = 500
_REPLACED = "{} (built in)"  # key of a built-in profile whose name a user's profile has
RESERVED_NAMES = ("mlflow.", "migrator.", conventions.LEGACY)
"""Beginnings of attributes and tags that MLflow or this program set themselves."""
USUAL_FILES = (
    r"(?:^|.*[/_.\s-])(?:metrics?|params?|parameters?|hyper\w*|config\w*|settings?|args|options|"
    r"results?|scores?|eval\w*|train\w*|test\w*|val\w*|matrix|importance|features?|columns?|"
    r"requirements|schema|signature|vocab\w*|tokenizer\w*|weights?|labels?|class|class(?:es|_\w+|ifier\w*|ification_\w+)|encoder|scaler|"
    r"stats|statistics|study|trials?|search|dataset\w*|data|readme|licen[sc]e|changelog|notes?|"
    r"metadata|meta|info|model_summary|environment|conda|pip|packages|index|manifest|versions?|"
    r"samples?|examples?|few_?shots?|preview)(?=$|[_.\s/-])"
)
"""Names of files that training and packaging leave: ``maybe_calls`` finds none of them."""

USUAL_FOLDERS = (
    r"(?:.*/)?(?:[^/]*model[^/]*|checkpoints?[^/]*|plots?|figures?|images?|src|code|logs?|docs?|tmp|"
    r"tables?|samples?|examples?|annotations?|corpus|corpora|\.[^/]*|__[^/]*)/"
    r"|.*/(?!tmp\w{8}\.)[^/]*\d[^/]*$"
)
"""Folders of training and packaging, and files with numbers in folders: there may be thousands.
A file of Python's ``tempfile`` has numbers by chance.
``maybe_calls`` reads none of these below a folder of any name."""

_USUAL_FILE = re.compile(USUAL_FILES, re.IGNORECASE)
_OF_LLM = re.compile(  # "llm_generated_test_cases.txt", "generated_test.py"
    r"(?i)(?:^|[/_.-])(?:llm_[^/]*|generated_[^/]*\.(?:py|js|ts|java|sql|html))$"
)
_USUAL_FOLDER = re.compile(USUAL_FOLDERS, re.IGNORECASE)
_RESULT = re.compile(r"(?<![^/_.\s-])results?(?=[_.\s-])", re.IGNORECASE)
TEXT_ENDING = ".txt"
UNLISTED = "maybe_calls"
"""The field of files of any name that may hold a whole call, or a text of one."""
PLACES = ("param", "metric", "tag", "artifact", "field")
SPAN_TYPES = tuple(
    sorted(value for name, value in vars(SpanType).items() if not name.startswith("_"))
)
TREE_ROLES = tuple(role.value for role in Role)
STEP_READERS = ("langchain-events", "openai-files", "table-rows", "conversation")
OPT_IN = ("tables",)
ASSESSMENT_SOURCES = ("HUMAN", "LLM_JUDGE", "CODE")
ASSESSMENT_TYPES = ("feedback", "expectation")
ASSESSMENT_VALUES = ("as-is", "yes-no")
PROFILE_KEYS = (
    "name", "order", "description", "extends", "role", "steps", "opt_in", "recognise", "fields",
    "attributes", "tags", "spans", "assessments", "failed_step", "failed_step_is",
    "inputs_from_sibling",
)  # fmt: skip
"""The keys that may stand at the top of a profile's TOML."""

TYPE_NAMES: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


class PathPattern(NamedTuple):
    """A pattern of artifact paths, in letters of either case.

    It is compiled when a path may match: compiling those of all profiles took a sixth of the time
    of a small conversion.
    """

    pattern: str
    fixed: str  # a part of every path that matches, in lower case

    def match(self, path: str) -> re.Match[str] | None:
        """Match a whole path."""
        # Outside of ASCII, letters that differ in lower case may still be the same for a pattern.
        if path.isascii() and self.fixed not in path.lower() and self.fixed.isascii():
            return None
        return _compiled(self.pattern).match(path)


Pattern: TypeAlias = re.Pattern[str] | PathPattern


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a run where a value may stand, as ``place:key`` in the TOML."""

    place: str  # one of PLACES
    key: str  # normalised (artifacts: as written)
    pattern: Pattern | None  # for keys with "*", and for all artifacts
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


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One way of logging LLM work into runs. See the module's docstring for the TOML form.

    Profiles are compared by identity.
    """

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
    failed_step_is: Source | None = None  # where a step has that name
    inputs_from_sibling: bool = False  # a step without inputs was given what the last one answered
    attributes: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)  # of spans, by name
    tags: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)  # of traces, by key
    own: Mapping[str, tuple[Source, ...]] = field(
        default_factory=dict
    )  # what users' files say in [fields]
    origin: str = BUILT_IN_ORIGIN  # the file it was read from


@dataclass(frozen=True, slots=True)
class _ProfileText:
    """The TOML of a profile, parsed but not yet checked."""

    name: str
    text: str
    table: Mapping[str, Any]
    file: str | None  # the user's file; None for a built-in profile

    @property
    def origin(self) -> str:
        """What messages call the profile's file."""
        return self.file if self.file is not None else f"{BUILT_IN_ORIGIN} ({self.name})"

    @property
    def order(self) -> int:
        order = self.table.get("order", DEFAULT_ORDER)
        return order if isinstance(order, int) else DEFAULT_ORDER


def load_profiles(
    paths: Sequence[str] = (), texts: Sequence[tuple[str, str]] = ()
) -> tuple[Profile, ...]:
    """Read the user's profiles (files, or ``(origin, TOML text)`` pairs) and the built-in ones.

    The result is in the order in which profiles are tried: the user's, the built-in ones by their
    key ``order``, and last those without ``[[recognise]]``. A user's profile may have the name of
    a built-in one: it replaces that one, and may extend it.

    Raises OptionError that names the file, the key and what is allowed.
    """
    given = [_parse(text, origin) for origin, text in (*texts, *_files(paths))]
    return _built_in() if not given else _with_built_in(given)


@lru_cache(maxsize=1)
def _built_in() -> tuple[Profile, ...]:
    return _with_built_in(())


def _with_built_in(given: Iterable[_ProfileText]) -> tuple[Profile, ...]:
    users: dict[str, _ProfileText] = {}
    for each in given:
        if each.name in users:
            raise OptionError(
                f'Profile {each.origin}: the name "{each.name}" is also that of '
                f"{users[each.name].origin}.",
                todo="Give each profile its own name.",
            )
        users[each.name] = each
    built_in = {
        _REPLACED.format(name) if name in users else name: each
        for name, each in _built_in_texts().items()
    }
    reading = _Reading({**users, **built_in})
    ready = [reading.profile(name) for name in reading.texts if name not in _replaced(users)]
    return tuple(
        [profile for profile in ready if profile.recognise]
        + [profile for profile in ready if not profile.recognise]
    )


def _replaced(users: Iterable[str]) -> frozenset[str]:
    return frozenset(_REPLACED.format(name) for name in users)


def built_in_names() -> tuple[str, ...]:
    """Names of the built-in profiles, in the order in which they are tried."""
    return tuple(_built_in_texts())


def built_in_text(name: str) -> str:
    """The TOML of a built-in profile. Raises OptionError when no built-in one has the name."""
    texts = _built_in_texts()
    if name not in texts:
        raise OptionError(
            f'There is no built-in profile "{name}".', todo=f"There are {', '.join(texts)}."
        )
    return texts[name].text


@lru_cache(maxsize=1)
def _built_in_texts() -> Mapping[str, _ProfileText]:
    """Parse every TOML file of the folder ``profiles``, in order of ``order`` and then of name."""
    folder = resources.files(__package__) / "profiles"
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    parsed = [_parse(file.read_text("utf-8"), None) for file in files]
    parsed.sort(key=lambda each: (each.order, each.name))
    return {each.name: each for each in parsed}


def _files(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(
                f"Profile {path} can't be read: {error}.", todo="Name a TOML file in UTF-8."
            ) from error
        yield path, text


def _parse(text: str, file: str | None) -> _ProfileText:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"Profile {file} is not TOML: {error}.") from error
    name = table.get("name")
    if not isinstance(name, str) or not name.strip():
        raise OptionError(
            f'Profile {file}: key "name" is missing or not a text.',
            todo='Give it one, as name = "my-tool".',
        )
    return _ProfileText(name, text, table, file)


def wanted_artifacts(profiles: Iterable[Profile]) -> Callable[[str], bool]:
    """A test for artifact paths (relative, with ``/``): True for those that are read as text."""
    wanted = _Wanted()
    for profile in profiles:
        unlisted = {source.text for source in profile.fields.get(UNLISTED, ())}
        for source in _all_sources(profile):
            if source.place == "artifact" and source.pattern is not None:
                wanted.add(source, source.pattern, is_listed=source.text not in unlisted)
    return wanted


def may_hold_call(path: str) -> bool:
    """Whether a file under a name that no profile lists may hold a call, by that name."""
    return _USUAL_FILE.match(path) is None or _OF_LLM.search(path) is not None


def _may_be_result(path: str) -> bool:
    """Whether a file is called a result, and may tell what was asked beside the answer to it."""
    is_json = path.lower().endswith(".json")
    return is_json and _RESULT.search(path) is not None and may_hold_call(_RESULT.sub("", path))


class _Wanted:
    """The test of ``wanted_artifacts``. Unlike a lambda, it can be pickled."""

    def __init__(self) -> None:
        self._listed: dict[str, Pattern] = {}  # by its text, each once
        self._unlisted: dict[str, Pattern] = {}
        self._in_folders: dict[str, Pattern] = {}
        self._known: dict[str, bool] = {}  # most runs hold files of the same few names

    def add(self, source: Source, pattern: Pattern, *, is_listed: bool) -> None:
        """Add the pattern of a source; ``is_listed`` is False for files under any name."""
        is_in_folders = source.text.startswith("artifact:*/")
        unlisted = self._in_folders if is_in_folders else self._unlisted
        patterns = self._listed if is_listed else unlisted
        patterns[pattern.pattern] = pattern

    def __call__(self, path: str) -> bool:
        known = self._known.get(path)
        if known is None:
            known = self._is_wanted(path)
            if len(self._known) < 10_000:
                self._known[path] = known
        return known

    def _is_wanted(self, path: str) -> bool:
        if _is_matched(path, self._listed):
            return True
        if not may_hold_call(path) and not _may_be_result(path):
            return False
        if _is_matched(path, self._unlisted):
            return True
        return _USUAL_FOLDER.match(path) is None and _is_matched(path, self._in_folders)


def _is_matched(path: str, patterns: Mapping[str, Pattern]) -> bool:
    return any(pattern.match(path) for pattern in patterns.values())


_ACCENTS = re.compile("[\u0300-\u036f]")  # of Latin, Greek and Cyrillic letters


@lru_cache(maxsize=100_000)
def normalise(key: str) -> str:
    """Bring a key into one spelling: lower case, no accents, words joined by ``_``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", spaced))
    whole = unicodedata.normalize("NFC", plain)  # letters of Korean, marks of Japanese and others
    return re.sub(r"[\s.\-/:_]+", "_", whole.casefold()).strip("_")


_CUT = re.compile(r"_(preview|snippet|excerpt)$")


def without_cut(key: str) -> str:
    """The (normalised) key of a text without the word which says that the text was cut."""
    return _CUT.sub("", key)


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


def _glob(pattern: str) -> PathPattern:
    # Without "/" the file's name counts, in any folder; log_artifact of a temporary file into a
    # folder that has the wanted name ("response.txt/tmp1.txt") occurs in real stores.
    is_anchored = "/" in pattern  # one that begins with "/" is of files outside of any folder
    body = _glob_body(pattern.removeprefix("/"))
    fixed = _fixed_part(pattern.removeprefix("/"))
    if is_anchored:
        return PathPattern(rf"{body}\Z", fixed)
    tail = r"(?:/[^/]*)?\Z" if "." in pattern else r"\Z"
    if pattern.endswith(TEXT_ENDING):  # a text is often logged without the ending
        bare_pattern = pattern.removesuffix(TEXT_ENDING)
        bare = rf"(?=[^/.]*\Z){_glob_body(bare_pattern)}\Z"
        return PathPattern(rf"(?:.*/)?(?:{body}{tail}|{bare})", _fixed_part(bare_pattern))
    return PathPattern(rf"(?:.*/)?{body}{tail}", fixed)


_WILD = re.compile(r"(\*\*/|\*|\{[^{}]*\})")


def _fixed_part(pattern: str) -> str:
    """The longest part of a file pattern that stands for itself, in lower case."""
    return max(_WILD.split(pattern)[::2], key=len).lower()


def _glob_body(pattern: str) -> str:
    """The regular expression for a file pattern.

    ``*`` stands for anything but ``/``, ``**/`` for any folders, and ``{sql,py}`` for one of these.
    """
    return "".join(map(_glob_part, _WILD.split(pattern)))


def _glob_part(part: str) -> str:
    if part == "**/":
        return "(?:.*/)?"
    if part == "*":
        return "[^/]*"
    if part.startswith("{"):
        return f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})"
    return re.escape(part)


def _all_sources(profile: Profile) -> Iterable[Source]:
    for sources in profile.fields.values():
        yield from sources
    yield from sources_beside_fields(profile)
    yield from _sources_of_groups(profile.recognise)


def sources_beside_fields(profile: Profile) -> Iterable[Source]:
    """Yield the sources of a profile's attributes, tags and assessments."""
    for named in (profile.attributes, profile.tags):
        for sources in named.values():
            yield from sources
    yield from _sources_of_rules(profile.assessments)


# ---------------------------------------------------------------------------- reading TOML


class _Table:
    """A TOML table that is read key by key; a key that nobody read is an error at the end."""

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
            self.fail(key, f"must be {TYPE_NAMES[kind]}")
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


class _Reading:
    """Reads profiles from their parsed TOML, each after the one that it extends."""

    def __init__(self, texts: Mapping[str, _ProfileText]) -> None:
        self.texts = texts
        self._profiles: dict[str, Profile] = {}

    def profile(self, key: str, above: tuple[str, ...] = ()) -> Profile:
        """Read the profile under a key; ``above`` are the profiles that wait for it."""
        if key not in self._profiles:
            text = self.texts[key]
            top = _Table(text.origin, text.text, "", text.table)
            base = self._base(key, top, above)
            self._profiles[key] = _read_profile(top, text, base)
        return self._profiles[key]

    def _base(self, key: str, top: _Table, above: tuple[str, ...]) -> Profile | None:
        extended = top.take("extends", str, None)
        if not extended:
            return None
        is_replaced = extended == self.texts[key].name  # the user's "generic" extends the built-in
        target = _REPLACED.format(extended) if is_replaced else extended
        if target not in self.texts or target in (*above, key):
            allowed = ", ".join(other for other in self.texts if other != key)
            top.fail("extends", f'"{extended}" is not another profile; there are {allowed}')
        return self.profile(target, (*above, key))


def _read_profile(top: _Table, text: _ProfileText, base: Profile | None) -> Profile:
    """Read a profile's table, on top of the profile that it extends."""
    top.take("name", str, "")
    top.take("order", int, DEFAULT_ORDER)
    description = top.take("description", str, "")
    role = top.choice("role", TREE_ROLES, _inherited_role(base))
    steps = top.choice("steps", STEP_READERS, base.steps if base else None)
    opt_in = top.choice("opt_in", OPT_IN, base.opt_in if base else None)
    recognise = tuple(_recognition(table) for table in top.tables("recognise"))
    own_fields = _own_fields(top)
    fields = _fields(own_fields, base)
    own_attributes, own_tags = _named_sources(top, "attributes"), _named_sources(top, "tags")
    attributes = {**(base.attributes if base else {}), **own_attributes}
    tags = {**(base.tags if base else {}), **own_tags}
    spans = tuple(_span_rule(table) for table in top.tables("spans"))
    assessments = tuple(_assessment_rule(table) for table in top.tables("assessments"))
    failed_step = _failed_step(top)
    failed_step_is = _failed_step_is(top)
    inherits = base is not None and base.inputs_from_sibling
    inputs_from_sibling = top.take("inputs_from_sibling", bool, inherits)
    top.done(PROFILE_KEYS)
    named = {**own_fields, **_labelled("attributes", own_attributes), **_labelled("tags", own_tags)}
    named["[[recognise]]"] = tuple(_sources_of_groups(recognise))
    named["[[spans]]"] = tuple(_sources_of_spans(spans))
    named["[[assessments]]"] = tuple(_sources_of_rules(assessments))
    own = _joined_own(named if text.file is not None else {}, base)
    if base is not None:
        spans += base.spans
        assessments += base.assessments
        failed_step = failed_step or base.failed_step
        failed_step_is = failed_step_is or base.failed_step_is
    return Profile(
        name=text.name,
        description=description,
        recognise=recognise,
        role=Role(role) if role else None,
        fields=fields,
        spans=spans,
        assessments=assessments,
        steps=steps,
        opt_in=opt_in,
        extends=base.extends | {base.name} if base else frozenset(),
        failed_step=failed_step,
        failed_step_is=failed_step_is,
        inputs_from_sibling=inputs_from_sibling,
        attributes=attributes,
        tags=tags,
        own=own,
        origin=text.file if text.file is not None else BUILT_IN_ORIGIN,
    )


def _recognition(table: _Table) -> Recognition:
    group = Recognition(
        table.sources("root_has"),
        table.sources("child_has"),
        table.pattern("root_name"),
        table.pattern("child_name"),
    )
    table.done(("root_has", "child_has", "root_name", "child_name"))
    if group == Recognition():
        table.fail("root_has", "the group is empty and would take every tree")
    return group


def _inherited_role(base: Profile | None) -> str | None:
    """A profile that inherits what reads the steps of a run inherits their trees' role too."""
    if base is None or base.steps is None or base.role is None:
        return None
    return base.role.value


def _own_fields(top: _Table) -> dict[str, tuple[Source, ...]]:
    """Read ``[fields]``."""
    table = _Table(top.origin, top.text, "fields", top.take("fields", dict, {}))
    own = {name: table.sources(name, False) for name in FIELDS}
    table.done(FIELDS)
    return own


def _fields(
    own: Mapping[str, tuple[Source, ...]], base: Profile | None
) -> dict[str, tuple[Source, ...]]:
    """Join a profile's own fields with those of the profile below: own sources come first.

    A source that the profile gives to one field is taken away from the fields that inherit it.
    ``not_inputs`` only takes from ``inputs``, and gives back to it: a model's name may stand in
    ``model`` and in ``not_inputs``.
    """
    owner: dict[Source, str] = {}
    for name, sources in own.items():
        if name != "not_inputs":
            owner.update(dict.fromkeys(sources, name))
    inherited = base.fields if base is not None else {}
    fields: dict[str, tuple[Source, ...]] = {}
    for name in FIELDS:
        kept = [source for source in inherited.get(name, ()) if owner.get(source, name) == name]
        if name == "inputs":
            kept = [source for source in kept if source not in own["not_inputs"]]
        elif name == "not_inputs":
            kept = [source for source in inherited.get(name, ()) if source not in own["inputs"]]
        if sources := tuple(dict.fromkeys((*own[name], *kept))):
            fields[name] = sources
    return fields


def _joined_own(
    named: Mapping[str, tuple[Source, ...]], base: Profile | None
) -> dict[str, tuple[Source, ...]]:
    """Sources of the user's own file and of those that it extends, by field or part of the file."""
    below = base.own if base is not None else {}
    joined: dict[str, tuple[Source, ...]] = {}
    for name in dict.fromkeys((*named, *below)):
        if sources := tuple(dict.fromkeys((*named.get(name, ()), *below.get(name, ())))):
            joined[name] = sources
    return joined


def _labelled(part: str, named: Mapping[str, tuple[Source, ...]]) -> dict[str, tuple[Source, ...]]:
    return {f"[{part}] {name}": sources for name, sources in named.items()}


def _sources_of_groups(groups: Iterable[Recognition]) -> Iterator[Source]:
    for group in groups:
        yield from group.root_has
        yield from group.child_has


def _sources_of_spans(rules: Iterable[SpanRule]) -> Iterator[Source]:
    for rule in rules:
        yield from rule.has
        for text in _names_in(rule.name):
            yield parse_source(text)


def _sources_of_rules(rules: Iterable[AssessmentRule]) -> Iterator[Source]:
    for rule in rules:
        yield from rule.sources
        yield from rule.source_id
        yield from rule.rationale


def _named_sources(top: _Table, key: str) -> dict[str, tuple[Source, ...]]:
    """Read ``[attributes]`` or ``[tags]``: names of the user's own, each with its sources."""
    table = _Table(top.origin, top.text, key, top.take(key, dict, {}))
    named: dict[str, tuple[Source, ...]] = {}
    for name in tuple(table.values):
        if name.startswith(RESERVED_NAMES):
            table.fail(name, f"a name that begins with {', '.join(RESERVED_NAMES)} is not free")
        named[name] = table.sources(name)
    return named


def _span_rule(table: _Table) -> SpanRule:
    rule = SpanRule(
        table.choice("type", SPAN_TYPES, None),
        _template(table),
        table.take("root", bool, None),
        table.take("leaf", bool, None),
        frozenset(normalise(kind) for kind in table.texts("kinds")),
        table.pattern("run_name"),
        table.sources("has"),
    )
    table.done(("type", "name", "root", "leaf", "kinds", "run_name", "has"))
    return rule


def _assessment_rule(table: _Table) -> AssessmentRule:
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
    return rule


def _failed_step(top: _Table) -> re.Pattern[str] | None:
    pattern = top.pattern("failed_step")
    if pattern is not None and pattern.groups != 1:
        top.fail("failed_step", "must have one group, the step's name")
    return pattern


def _failed_step_is(top: _Table) -> Source | None:
    text = top.take("failed_step_is", str, None)
    if text is None:
        return None
    try:
        return parse_source(text)
    except ValueError as error:
        top.fail("failed_step_is", f'"{text}": {error}')


def _template(table: _Table) -> str | None:
    name: str | None = table.take("name", str, None)
    for text in _names_in(name):
        try:
            parse_source(text)
        except ValueError as error:
            table.fail("name", f'"{{{text}}}": {error}')
    return name


def _names_in(template: str | None) -> list[str]:
    """The sources in a template such as ``step {param:id}``."""
    return re.findall(r"\{([^}]*)\}", template or "")
