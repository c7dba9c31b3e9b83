"""Masks credentials in what the tracker writes.

Two layers. Values under keys that name a credential (``api_key``, ``Authorization``) are masked
unless ``redact`` is switched off. With ``redact: true`` the texts themselves are searched, too.

A search takes time in proportion to the text: every pattern begins with literal text, which Python
searches for quickly, and every repeat has an upper bound.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import count
from typing import Any

from migrator import conventions as conv
from migrator.errors import OptionError
from migrator.tracker.config import KEYS_ONLY, Redact
from migrator.tracker.usage import CALLS, REPORTED, UNPRICED

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

REDACTED = "[redacted]"
# Names that MLflow or we read again, and what such names begin with.
OWN_PREFIXES = ("mlflow.", "migrator.", "exception.")
OWN_NAMES = frozenset(
    {conv.PLAIN_MODEL, conv.PLAIN_PROVIDER, conv.PLAIN_COST, conv.PLAIN_REASONING, conv.WAITING}
    | {CALLS, UNPRICED, REPORTED, "node_id", "workflow_name", "run_name", "exception"}
)

# ------------------------------------------------------------------------------ names of keys
# Written as `secret_key`: case, camel case and separators are evened out first.
SECRET_NAME = re.compile(
    r"(?:^|_)(?:"
    r"pass(?:word|wd|phrase|code)s?|pwd"
    r"|secrets?|credentials?|creds"
    r"|(?:secret|api|access|private|signing|encryption|account|master|auth)_?keys?"
    r"|secret_access_key|access_key_id"
    r"|(?:access|refresh|auth|api|id|bearer|session|security|bot|app|service|personal|client|jwt"
    r"|csrf|xsrf|github|gitlab|slack|hf|huggingface|openai|discord|telegram)_?tokens?"
    r"|(?:proxy_)?authorization|(?:set_)?cookies?"
    r")$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[^A-Za-z0-9]{1,8}")
MAX_NAME_CHARS = 100
SHORT_NUMBER = 1000  # a number below is a count or a version, not a credential
# A text without any of these holds no such key.
STEMS = ("pass", "pwd", "secret", "cred", "key", "token", "authorization", "cookie")


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return True if a key of this name holds a credential."""
    if len(name) > MAX_NAME_CHARS:
        return False
    words = _SEPARATORS.sub("_", _CAMEL.sub("_", name)).strip("_").lower()
    return SECRET_NAME.search(words) is not None


# ------------------------------------------------------------------------------ texts
@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and what of its match stays in front of the mask and behind it."""

    pattern: re.Pattern[str]
    replacement: str


@lru_cache(maxsize=1)
def rules() -> tuple[Rule, ...]:
    """Load the built-in patterns (``secrets.toml``)."""
    text = resources.files(__package__).joinpath("secrets.toml").read_text(encoding="utf-8")
    loaded = []
    for entry in tomllib.loads(text)["rule"]:
        replacement = entry.get("keeps", "") + REDACTED + entry.get("keeps_end", "")
        loaded.append(Rule(re.compile(entry["pattern"]), replacement))
    return tuple(loaded)


_LOCAL_PART = re.compile(r"[\w.+-]{1,64}\Z")
_DOMAIN = re.compile(r"[\w-]{1,63}\.[\w.-]{0,190}\w")
_NAME = re.compile(r"[\w-]{1,100}")
_SEPARATOR = r"[\"'\\]{0,3}\s{0,3}[:=]{1,2}\s{0,3}[\"'\\]{0,3}"
_VALUE_CHAR = r"[^\s\"'\\,;&)\]}]"
_ASSIGNED = re.compile(_SEPARATOR + rf"(?:(?:Basic|Bearer|Token) )?({_VALUE_CHAR}{{6,4096}})")
# The ends of secret names, where a separator and a value follow.
_ASSIGNMENTS = tuple(
    re.compile(rf"{end}(?={_SEPARATOR}{_VALUE_CHAR}{{5}})")
    for end in (
        "pass(?:word|wd|phrase|code)s?", "pwd", "secrets?", "cred(?:ential)?s?",
        "key(?:s|[_-]?id)?", "tokens?", "authorization", "cookies?",
    )
)  # fmt: skip


def mask_text(text: str) -> str:
    """Mask mail addresses, credentials that look like one, and values assigned to a secret name."""
    for rule in rules():
        text = rule.pattern.sub(rule.replacement, text)
    if "=" in text or ":" in text:
        text = _without_assigned(text)
    if "@" in text:
        text = _without_mail(text)
    return text


def _without_mail(text: str) -> str:
    """Mask mail addresses. Looks around each ``@``, at most 64 characters to the left."""
    parts: list[str] = []
    done = 0
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL_PART.search(text, max(done, at - 64), at) if domain else None
        if domain is not None and local is not None:
            parts += [text[done : local.start()], REDACTED]
            done = domain.end()
        at = text.find("@", max(done, at + 1))
    return "".join([*parts, text[done:]])


def _without_assigned(text: str) -> str:
    """Mask what follows a secret's name and ``=`` or ``:`` (``password=hunter2``)."""
    lower = text.lower()
    if len(lower) != len(text):  # a few capitals have longer small letters
        lower = "".join(char.lower() if char.isascii() else char for char in text)
    spans: list[tuple[int, int]] = []
    for pattern in _ASSIGNMENTS:
        found = pattern.search(lower)
        while found is not None:
            end = found.end()
            assigned = None
            if is_secret_name(_name_until(text, found.start()) + found.group()):
                assigned = _ASSIGNED.match(text, end)
            if assigned is not None:
                spans.append(assigned.span(1))
                end = assigned.end()
            found = pattern.search(lower, end)
    parts: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start >= done and text[start:end] != REDACTED:
            parts += [text[done:start], REDACTED]
            done = end
    return "".join([*parts, text[done:]])


def _name_until(text: str, end: int) -> str:
    """The part of a name that stands before ``end``, as it is written."""
    backwards = text[max(0, end - MAX_NAME_CHARS) : end][::-1]
    found = _NAME.match(backwards)
    return "" if found is None else found.group()[::-1]


# ------------------------------------------------------------------------------ values
class Masker:
    """Masks values as ``redact`` says. Raises ``OptionError`` for an unusable pattern."""

    def __init__(self, redact: Redact) -> None:
        self._text: Callable[[str], str] | None = None
        self.is_active = redact is not False
        if redact is True:
            self._text = mask_text
        elif callable(redact):
            self._text = redact
        elif redact is not False and redact != KEYS_ONLY:
            assert not isinstance(redact, str)
            self._text = _by_patterns(redact)
        self._name = lru_cache(maxsize=4096)(self.text)  # few keys, over and over

    @property
    def searches_texts(self) -> bool:
        """Whether texts are searched, not only the names of keys."""
        return self._text is not None

    def text(self, text: str) -> str:
        """Mask a text."""
        return text if self._text is None else self._text(text)

    def name(self, name: str) -> str:
        """Mask the name of a tag, attribute, feedback or event; one of MLflow's or ours stays."""
        return name if name in OWN_NAMES or name.startswith(OWN_PREFIXES) else self._name(name)

    def entries(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Mask tags, metadata or attributes: their names and their values."""
        return _keyed(self.name, ((key, self.under(key, item)) for key, item in entries.items()))

    def under(self, key: str, value: Any) -> Any:
        """Mask the value that stands under a key."""
        return _blank(value, self._name) if is_secret_name(key) else self.value(value)

    def value(self, value: Any) -> Any:
        """Mask a JSON value: values under a secret's name, and every text and key."""
        if isinstance(value, str):
            return self._json_text(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            if _is_pair_of_secret(value):
                return [value[0], _blank(value[1], self._name)]
            return [self.value(item) for item in value]
        return value

    def _mapping(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        named = value.get("name", value.get("key"))
        is_named_secret = isinstance(named, str) and is_secret_name(named)

        def masked(key: Any, item: Any) -> Any:
            is_secret = isinstance(key, str) and is_secret_name(key)
            if is_secret or (is_named_secret and key == "value"):
                return _blank(item, self._name)
            if key == "properties" and isinstance(item, Mapping):
                # A JSON schema: the keys are names of fields, the values describe them.
                return _keyed(self._name, ((each, self.value(item[each])) for each in item))
            return self.value(item)

        return _keyed(self._name, ((key, masked(key, item)) for key, item in value.items()))

    def _json_text(self, text: str) -> str:
        """Mask a text; one that is a JSON object or list is masked by its keys as well."""
        masked = text
        if text[:1] in ("{", "[") and _may_hold_a_secret_key(text):
            try:
                content = json.loads(text)
            except (ValueError, RecursionError):
                content = None
            if isinstance(content, dict | list):
                clean = self._keys_only(content)
                if clean != content:
                    masked = json.dumps(clean, ensure_ascii=False)
        return self.text(masked)

    def _keys_only(self, content: Any) -> Any:
        return self.value(content) if self._text is None else _KEYS_MASKER.value(content)


def _may_hold_a_secret_key(text: str) -> bool:
    lower = text.lower()
    return any(stem in lower for stem in STEMS)


def may_need_masking(encoded: str) -> bool:
    """Return True unless the JSON text surely has no key that names a credential."""
    return _may_hold_a_secret_key(encoded)


def _is_pair_of_secret(value: Sequence[Any]) -> bool:
    """Return True for a header as a pair, such as ``("authorization", "Bearer ...")``."""
    if len(value) != 2:
        return False
    name, content = value[0], value[1]
    if not (isinstance(name, str) and isinstance(content, str)):
        return False
    return is_secret_name(name) and not is_secret_name(content)


def _keyed(name: Callable[[str], str], pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make a mapping with masked keys; two that become the same are told apart by numbers."""
    masked: dict[Any, Any] = {}
    for key, item in pairs:
        shown = name(key) if isinstance(key, str) else key
        if shown in masked:
            numbered = (f"{shown} ({number})" for number in count(len(masked) + 1))
            shown = next(each for each in numbered if each not in masked)
        masked[shown] = item
    return masked


def _blank(value: Any, name: Callable[[str], str]) -> Any:
    """Mask everything that stands under a secret's name, but for flags and short numbers."""
    if value is None or isinstance(value, bool | float) or value in ("", [], {}):
        return value
    if isinstance(value, int) and abs(value) < SHORT_NUMBER:
        return value
    if isinstance(value, Mapping):
        return _keyed(name, ((key, _blank(item, name)) for key, item in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_blank(item, name) for item in value]
    return REDACTED


def _by_patterns(patterns: Sequence[str]) -> Callable[[str], str]:
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise OptionError(
                f"redact has the pattern {pattern!r}, which is not a regular expression: {error}.",
                todo="Put a backslash before characters that stand for themselves.",
            ) from error

    def apply(text: str) -> str:
        for pattern in compiled:
            text = pattern.sub(REDACTED, text)
        return text

    return apply


_KEYS_MASKER = Masker(KEYS_ONLY)
