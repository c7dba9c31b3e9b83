"""How values become the texts and ids that MLflow stores: JSON, previews, clean text, derived ids.

MLflow's names are in ``conventions``. Nothing here imports mlflow, so that ``scan`` starts fast.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from migrator.conventions import (
    FEEDBACK_COST,
    FEEDBACK_COST_MICRO,
    INT64_MAX,
    INT64_MIN,
    MAX_DICT_DEPTH,
    PREVIEW_CHARS,
)
from migrator.model import Json, SpanPlan


def trace_id_of(run_id: str) -> str:
    """Derive a trace id, ``tr-`` and 32 hex digits, from the id of a tree's root run.

    A run id of 32 hex digits is used as it is; any other is hashed.
    """
    if _is_hex(run_id, 32):
        return f"tr-{run_id.lower()}"
    return f"tr-{hashlib.sha256(run_id.encode()).hexdigest()[:32]}"


def span_id_of(trace_id: str, name: str) -> str:
    """Derive a span id, 16 hex digits and never all zero, from a name that is unique in the trace.

    The name is usually a run id.
    """
    digest = hashlib.sha256(f"{trace_id}/{name}".encode()).hexdigest()[:16]
    return digest if digest != "0" * 16 else "0" * 15 + "1"


def assessment_id_of(*parts: str) -> str:
    """Derive an assessment's id from its facts, so that writing it twice keeps one."""
    return f"a-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:32]}"


def cost_feedback(total_usd: float) -> dict[str, float]:
    """The cost of a trace as feedback: in USD, and in millionths of it for MLflow's views.

    MLflow rounds feedback to three decimals in the list of traces and to two in the charts, where
    the 0.000123 USD of a small workflow would be 0.00. They show 123 micro-USD.
    """
    return {FEEDBACK_COST: total_usd, FEEDBACK_COST_MICRO: round(total_usd * 1_000_000, 6)}


def span_content(trace_id: str, span: SpanPlan) -> str:
    """Return the JSON text of column ``spans.content``: ``Span.to_dict()`` of MLflow 3.9.

    Ids are the base64 of their raw bytes; attributes are JSON text within JSON. Unlike in MLflow's
    own text, non-ASCII letters are not escaped, so that the trace search (LIKE) finds them.
    ``trace_id`` is ``tr-`` and 32 hex digits.
    """
    return _ENCODE(
        {
            "trace_id": _base64_of_hex(trace_id.removeprefix("tr-")),
            "span_id": _base64_of_hex(span.span_id),
            "parent_span_id": span.parent_span_id and _base64_of_hex(span.parent_span_id),
            "name": span.name,
            "start_time_unix_nano": span.start_ns,
            "end_time_unix_nano": span.end_ns,
            "events": [
                {
                    "name": event.name,
                    "time_unix_nano": event.time_ns,
                    "attributes": dict(event.attributes),
                }
                for event in span.events
            ],
            "status": {"code": f"STATUS_CODE_{span.status}", "message": span.status_message},
            "attributes": dict(span.attributes),
        }
    )


class WrittenAttributes(Mapping[str, str]):
    """The attributes of a span, read from its JSON text when they are asked for.

    In a trace of very many spans they would take more memory than the text, which has them all.
    """

    __slots__ = ("_contents", "_keys", "_place")

    def __init__(self, keys: tuple[str, ...], contents: Sequence[str], place: int) -> None:
        """The span's ``span_content``, at a place in ``contents``, has attributes of these keys."""
        self._keys = keys
        self._contents = contents
        self._place = place

    def __getitem__(self, key: str) -> str:
        return _written_attributes(self._contents[self._place])[key]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@lru_cache(8)  # whoever wants one attribute of a span often wants another
def _written_attributes(content: str) -> Mapping[str, str]:
    attributes: dict[str, str] = json.loads(content)["attributes"]
    return attributes


def _base64_of_hex(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode("ascii")


def encode(value: Json) -> str:
    """Return a value as JSON text, the form in which MLflow stores span attributes.

    Non-ASCII letters are not escaped, so that the trace search (LIKE) finds them. Values that
    MLflow's REST layer can't send are replaced (``sanitize``).
    """
    if isinstance(value, str):  # the usual case
        return _QUOTE(clean_text(value))
    if isinstance(value, float):  # as the JSON encoder does, also for NumPy's floats
        return float.__repr__(value) if math.isfinite(value) else f'"{value}"'
    if type(value) is list and all(type(item) is str for item in value):  # no encoder is needed
        return f"[{', '.join([_QUOTE(clean_text(item)) for item in value])}]"
    return _ENCODE(sanitize(value))


def encode_all(values: Mapping[str, Json]) -> dict[str, str]:
    """Return span attributes as MLflow stores them: each value encoded, each key clean."""
    encoded = {
        key: _QUOTE(value)
        if type(value) is str and value.isascii() and "\x00" not in value  # the usual case
        else encode(value)
        for key, value in values.items()
    }
    names = "".join(encoded)
    if names.isascii() and "\x00" not in names:  # the usual case
        return encoded
    return {clean_text(key): text for key, text in encoded.items()}


_QUOTE: Callable[[str], str] = json.encoder.encode_basestring  # a text as JSON


# Values are trees of JSON, so there is no circle to look for.
_ENCODE: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def sanitize(value: Json) -> Json:
    """Return a value that MLflow 3.9 can send over REST.

    Integers beyond 64 bits, NaN and infinities become text. Lone surrogates become ``?``, and NUL
    characters are removed. A part that is nested too deeply becomes JSON text.
    """
    return _sanitize(value, 0, 0)


def _sanitize(value: Json, dicts: int, lists: int) -> Json:
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if INT64_MIN <= value <= INT64_MAX else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    # Both share a budget: an object takes three levels of protobuf, an array two.
    if 3 * dicts + 2 * lists > 3 * MAX_DICT_DEPTH:
        return clean_text(json.dumps(value, ensure_ascii=False, default=str))
    if type(value) is dict or isinstance(value, Mapping):  # the first test is faster
        return {
            clean_text(str(key)): _sanitize(item, dicts + 1, lists) for key, item in value.items()
        }
    return [_sanitize(item, dicts, lists + 1) for item in value]


def clean_text(text: str) -> str:
    """Return a text without NUL characters, and with ``?`` for lone surrogates."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if text.isascii():
        return text  # the usual case, and a str knows it without encoding
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def preview(value: Json) -> str | None:
    """Return the text of inputs or outputs for the trace list: at most 1,000 characters."""
    if value is None:
        return None
    text = clean_text(value) if isinstance(value, str) else encode(value)
    return cut(text, PREVIEW_CHARS)


def cut(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters; one that was cut ends in ``...``."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and all(c in "0123456789abcdefABCDEF" for c in text)


def is_chat(value: Json) -> bool:
    """Return True for a list of chat messages (``role``, ``content``) that MLflow's view shows."""
    return (
        not isinstance(value, str)  # fast for the usual case
        and isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(m, Mapping) and "role" in m and "content" in m for m in value)
    )


def seen_digest(*values: object) -> int:
    """64 bits of a hash of some values of SQLite, as ``migrator_seen`` keeps them; never 0."""
    text = repr(values).encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)
    return number or 1
