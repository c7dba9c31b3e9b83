"""Reading ``meta.yaml`` files, whole or damaged, without ever running into what they may hold.

MLflow writes them with PyYAML's ``safe_dump`` (``mlflow.utils.yaml_utils``, all versions): flat
mappings, block style. Nearly all are read line by line; whatever is not trivially simple goes to
PyYAML (``any_yaml``).
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from migrator.extractor.filestore.metrics import EARLIEST_MS, LATEST_MS
from migrator.extractor.filestore.read_log import ReadLog
from migrator.issues import Code, Kind

# Keys of newer releases with the value that they have where the feature is not used (3.17)
_SAYS_NOTHING = (("workspace", "default"),)

YAML_LIMIT_BYTES = 2 << 20
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

# A plain scalar that YAML reads as the text it is: it begins with a letter (so it is not a number),
# and has no ": ", no " #", no flow or quote character.
_WORDS = r"[A-Za-z][\w./%+=@-]*(?:[: ][\w./%+=@-]+)*"
_LINE = re.compile(
    rf"(?P<key>[a-z_][a-z_0-9]{{0,60}}): (?:(?P<words>{_WORDS})|'(?P<quoted>[ -&(-~]*)'"
    r"|(?P<int>0|-?[1-9][0-9]{0,17})|(?P<hex>(?=[0-9]*[a-f])(?!0b[01]+$)[0-9a-f]{32})"
    r"|(?P<list>\[\]))",
    re.ASCII,
)
_WRITTEN = {None: "null", True: "true", False: "false"}  # as PyYAML writes them
_NOT_TEXT: dict[str, bool | None] = {
    form: value
    for word, value in (
        ("null", None),
        *(("true", True), ("yes", True), ("on", True)),
        *(("false", False), ("no", False), ("off", False)),
    )
    for form in (word, word.title(), word.upper())
}
_OTHER_WORDS = _NOT_TEXT.keys() - set(_WRITTEN.values())  # ``NO``, ``Yes``, ``Null``, …


class Loaded(NamedTuple):
    """A YAML file's mapping, or what is left of it.

    ``written`` has the same keys and shape as ``values``, but each scalar is the text that stands
    in the file: ``0123`` where the value is 83. Keys are left out where the value tells its text.
    """

    values: Mapping[str, Any]
    code: Code | None = None  # what was wrong with it
    message: str = ""
    sample: str = ""  # the file's own words
    written: Mapping[str, Any] = MappingProxyType({})


def load(data: bytes, needed: frozenset[str] = frozenset()) -> Loaded:
    """Parse the mapping in ``data``; of a damaged file, the lines that are whole.

    ``needed`` are keys that MLflow always writes: a file without a final line end that lacks one
    of them was cut off, and its last line can't be trusted. Never raises.
    """
    if not data.strip(b"\x00 \t\r\n"):
        what = f"{len(data)} NUL bytes or blanks" if data else "0 bytes"
        return Loaded({}, Code.META_EMPTY, f"The file is empty ({what}).")
    try:
        text = _decode(data)
    except UnicodeDecodeError as error:
        salvaged = _whole_lines(data.decode("utf-8", "replace"))
        return salvaged._replace(code=Code.META_DAMAGED, message=f"The file is not UTF-8: {error}.")
    simple = _load_simple(text)
    loaded = Loaded(simple) if simple is not None else _load_any(text)
    if loaded.code is None and not text.endswith("\n") and not needed <= loaded.values.keys():
        last = next(reversed(list(loaded.values)), "")
        trusted = {key: value for key, value in loaded.values.items() if key != last}
        return loaded._replace(
            values=trusted,
            code=Code.META_TRUNCATED,
            message=f"The file is cut off in its key {last!r:.100}.",
        )
    return loaded


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # saved by a Windows editor
        return data.decode("utf-16")
    return data.removeprefix(b"\xef\xbb\xbf").decode()


def _load_simple(text: str) -> dict[str, Any] | None:
    """Parse a file in which every line is ``key: simple scalar``; None for any other."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    values = dict(pair for pair in map(_simple_line, lines) if pair is not None)
    has_all = len(values) == len(lines)  # each line is simple, and no key stands twice
    return values if has_all and lines else None


@lru_cache(1 << 12)  # half of a run's lines are those of the run before
def _simple_line(line: str) -> tuple[str, Any] | None:
    match = _LINE.fullmatch(line)
    if match is None or match["key"] in _NOT_TEXT or match["words"] in _OTHER_WORDS:
        return None
    return match["key"], _scalar(match)


def _scalar(match: re.Match[str]) -> Any:
    kind = match.lastgroup
    value = match[kind or 0]
    if kind == "words":
        return _NOT_TEXT.get(value, value)
    if kind == "int":
        return int(value)
    return [] if kind == "list" else value


def _whole_lines(text: str) -> Loaded:
    """Load the simple lines of a damaged file; of conflicting ones the first."""
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    lines = text.split("\n")
    for line in lines[:-1]:  # the last has no line end: it may be cut
        match = _LINE.fullmatch(line.rstrip("\r"))
        if match is not None and match["key"] not in values:
            values[match["key"]] = _scalar(match)
            if match["words"] in _OTHER_WORDS:
                written[match["key"]] = match["words"]
    return Loaded(values, written=written)


def _load_any(text: str) -> Loaded:
    # Most stores have only files of simple lines, and PyYAML takes a while to load.
    from migrator.extractor.filestore import any_yaml

    try:
        parsed = any_yaml.parse(text)
    except any_yaml.Unsafe as error:
        return _whole_lines(text)._replace(
            code=Code.META_UNSAFE, message=f"The file was not loaded: {error}."
        )
    except any_yaml.Damaged as error:
        return _whole_lines(text)._replace(
            code=Code.META_DAMAGED, message=f"The file is not YAML: {error.why}.", sample=str(error)
        )
    if parsed is None:
        return Loaded({}, Code.META_EMPTY, "The file holds only comments.")
    if isinstance(parsed, str):
        return Loaded({}, Code.META_NOT_A_MAPPING, f"The file is {parsed}.")
    if parsed.twice:
        message = f"Keys that stand twice: {', '.join(parsed.twice)}."
        return Loaded(parsed.values, Code.META_DUPLICATE_KEY, message, written=parsed.written)
    return Loaded(parsed.values, written=parsed.written)


# ------------------------------------------------------------------------------ typed values


class Meta:
    """Values of a YAML file, by type. What can't be used is named once and left out."""

    __slots__ = ("_log", "damaged", "path", "values", "written")

    def __init__(
        self,
        log: ReadLog,
        path: str,
        values: Mapping[str, Any],
        written: Mapping[str, Any] = MappingProxyType({}),
        *,
        damaged: bool = False,
    ) -> None:
        self._log = log
        self.path = path
        self.values = values
        self.written = written  # as in ``Loaded``
        self.damaged = damaged  # the file was missing, or not all of it could be read

    def text(self, key: str) -> str | None:
        """A value as the text that is written; None if missing, null or a collection.

        Names are text: ``0123``, ``1.10`` and ``NO`` are what their user wrote, also where YAML
        takes them for a number or a boolean.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return value if value.isascii() else clean(value)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, (bool, int, float, datetime.date)):
            return _written_text(value, self.written.get(key))
        self.unusable(key, value)
        return None

    def name(self, key: str) -> str | None:
        """A name that MLflow always writes, as ``text`` gives it; ``null`` and ``~`` are text.

        MLflow quotes a name that reads ``null``, so an unquoted one was written by hand.
        """
        if key in self.values and self.values[key] is None:
            return _written_text(None, self.written.get(key)) or None
        return self.text(key)

    def integer(self, key: str) -> int | None:
        """A whole number of at most 64 bits; digits as text and floats are converted."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        number = whole(value)
        if number is None:
            self.unusable(key, value)
        elif not isinstance(value, int):
            self._converted(key, value, number)
        return number

    def ms(self, key: str) -> int | None:
        """A time in milliseconds since the epoch; ISO 8601 text is converted, and named."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        if type(value) is int and EARLIEST_MS <= value < LATEST_MS:
            return value  # nearly always
        number = whole(value)
        if number is None:
            number = iso_ms(value)
            if number is None:
                self.unusable(key, value)
                return None
        if not isinstance(value, int):
            self._converted(key, value, number)
        if not EARLIEST_MS <= number < LATEST_MS:
            self._log.add(Code.TIME_NOT_MS, self.path, f"{key} is {number}.", kept="as it is")
        return number

    def iso(self, key: str) -> int | None:
        """A time in milliseconds since the epoch, where ISO 8601 text is expected."""
        value = self.values.get(key)
        number = iso_ms(value)
        if number is None and value is not None:
            number = whole(value)
            if number is None:
                self.unusable(key, value)
        return number

    def mapping(self, key: str) -> dict[str, str]:
        """A mapping of text to text; other values become text."""
        value = self.values.get(key)
        if value is None or value == []:
            return {}
        if not isinstance(value, dict):
            self.unusable(key, value)
            return {}
        written = self.written.get(key)
        items = written if isinstance(written, dict) else value
        return {clean(name): _as_text(item) for name, item in items.items()}

    def nested(self, key: str) -> Meta:
        """The values of a mapping inside this one; empty where it is not a mapping."""
        value, written = self.values.get(key), self.written.get(key)
        if value is not None and not isinstance(value, dict):
            self.unusable(key, value)
        return Meta(
            self._log,
            self.path,
            value if isinstance(value, dict) else {},
            written if isinstance(written, dict) else {},
        )

    def name_unknown(self, known: frozenset[str], kind: Kind, *, inside: str = "") -> None:
        """Name each key that is not ``known`` and says something: nothing of it is converted.

        ``inside`` is the key of the mapping that these are in, for the message.
        """
        if self.values.keys() <= known or self.damaged:
            return  # nearly every file; a damaged one is named as such
        for key in sorted(self.values.keys() - known):
            value = self.values[key]
            if value is None or value in ("", [], {}) or (key, value) in _SAYS_NOTHING:
                continue
            self.name_key(key, kind, inside=inside)

    def name_key(self, key: str, kind: Kind, *, inside: str = "") -> None:
        """Name a key of which nothing is converted. Equal messages of a store become one note."""
        self._log.add(
            Code.META_KEY_UNKNOWN,
            self.path,
            f"Key {inside + key!r:.100} (of kind {kind.value}) has no place in MLflow's database.",
            kind=kind,
            sample=_excerpt(self.values[key]),
        )

    def unknown_value(self, key: str, value: object, kept: str) -> None:
        """Name a value that MLflow does not know, and what was taken in its place."""
        self._log.add(
            Code.META_VALUE_UNKNOWN,
            self.path,
            f"MLflow does not know this value of {key}.",
            kept=kept,
            sample=_excerpt(value),
        )

    def expect(self, key: str, word: str) -> None:
        """Name a value that is not the one ``word`` that it can have here, in any letters."""
        value = self.text(key)
        if value is not None and value.strip().upper() != word:
            self.unknown_value(key, value, f"as {word}")

    def is_deleted(self) -> bool:
        """Whether the lifecycle stage is ``deleted``; one that MLflow does not know is named."""
        stage = self.text("lifecycle_stage")
        if stage is None or stage == "active":
            return False
        word = stage.strip().lower()
        if word not in ("active", "deleted"):
            self.unusable("lifecycle_stage", stage)
        return word == "deleted"

    def same_id(self, keys: tuple[str, ...], entity_id: str) -> None:
        """Name an id that is not the name of its directory."""
        for key in keys:
            value = self.values.get(key)
            if value == entity_id or value is None or value == "":
                continue
            written = _written_text(value, self.written.get(key))
            if written != entity_id:
                self._log.add(
                    Code.ID_MISMATCH,
                    self.path,
                    f"{key} is another one than the directory's name.",
                    kept=f"the directory's, {entity_id!r}",
                    sample=written[:100],
                )

    def unusable(self, key: str, value: object) -> None:
        """Name a value that was left out."""
        self._log.add(
            Code.META_VALUE_UNUSABLE,
            self.path,
            f"{key} is of type {type(value).__name__}, or beyond its range.",
            kept="everything else",
            sample=_excerpt(value),
        )

    def _converted(self, key: str, value: object, kept: object) -> None:
        self._log.add(
            Code.META_VALUE_CONVERTED, self.path, f"{key} is {_excerpt(value)}.", kept=str(kept)
        )


def read_meta(
    log: ReadLog,
    path: str | None,
    expected: str,
    *,
    needed: frozenset[str] = frozenset(),
    kind: Kind | None = None,
) -> Meta:
    """Read a YAML file of the log's entity; a missing or damaged one is named.

    ``expected`` is where the file should be, for the issue when ``path`` is None. With a
    ``kind``, the issue is about that entity (an input, a version) instead of a plain file.
    """
    if path is None:
        log.add(Code.META_MISSING, expected, "There is no such file.", kind=kind)
        return Meta(log, expected, {}, damaged=True)
    data = log.read(path, YAML_LIMIT_BYTES, kind, instead=Code.META_UNREADABLE)
    if data is None:
        return Meta(log, path, {}, damaged=True)
    loaded = load(data, needed)
    if loaded.code is not None:
        kept = f"the keys {', '.join(sorted(loaded.values))}" if loaded.values else ""
        log.add(loaded.code, path, loaded.message, kept=kept, kind=kind, sample=loaded.sample)
    damaged = loaded.code not in (None, Code.META_DUPLICATE_KEY)
    return Meta(log, path, loaded.values, loaded.written, damaged=damaged)


def whole(value: object) -> int | None:
    """A value as a whole number of at most 64 bits, None where it is not one."""
    number: int
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, int):
            number = value
        elif isinstance(value, float):
            number = int(value)
        elif isinstance(value, str) and len(value) < 400:
            try:
                number = int(value)
            except ValueError:
                number = int(float(value))
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return number if INT64_MIN <= number <= INT64_MAX else None


_ISO = re.compile(
    r"\s*(\d{4})-(\d\d?)-(\d\d?)(?:[Tt ]\s*(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"\s*(?:([Zz])|([+-])(\d\d):?(\d\d)?)?)?\s*",
    re.ASCII,
)


def iso_ms(value: object) -> int | None:
    """Convert an ISO 8601 time (text or PyYAML's own) to milliseconds since the epoch, UTC.

    The fraction may have any number of digits (protobuf writes 0, 3, 6 or 9); it is cut off.
    """
    if isinstance(value, (datetime.date, datetime.datetime)):
        value = value.isoformat()
    if not isinstance(value, str):
        return None
    match = _ISO.fullmatch(value)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, off_h, off_m = match.groups()
    try:
        moment = datetime.datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=datetime.timezone.utc,
        )
    except ValueError:
        return None
    seconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // _SECOND
    if sign:
        shift = int(off_h) * 3600 + int(off_m or 0) * 60
        seconds -= shift if sign == "+" else -shift
    return seconds * 1000 + int(((fraction or "") + "000")[:3])


_SECOND = datetime.timedelta(seconds=1)


def clean(text: str) -> str:
    """Make text encodable: a lone surrogate (a YAML escape) becomes ``?``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _written_text(value: object, written: object) -> str:
    """The text of a scalar: as ``written`` if that is known, else as PyYAML writes it."""
    return _as_text(written if isinstance(written, str) else value)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool):
        return _WRITTEN[value]
    try:
        if isinstance(value, (dict, list)):
            return clean(json.dumps(value, ensure_ascii=False, default=str))
        return clean(str(value))
    except ValueError:  # an integer of thousands of digits
        return ""


def _excerpt(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        text = "an enormous number"
    return text if len(text) <= 200 else text[:197] + "..."
