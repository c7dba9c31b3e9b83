"""Text that is safe to print: what a store calls things may hold a terminal's control sequences."""

from __future__ import annotations

import re

# Controls of C0 and C1 but tab and line feed, marks that turn the direction of writing round, and
# half characters, which can't be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return text that controls no terminal but by lines and tabs; the rest is ``\\x1b``."""
    return _UNPRINTABLE.sub(_python_escape, text)


def one_line(text: str) -> str:
    """Return a name as printable text in one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def printable_json(text: str) -> str:
    """Return a JSON document that holds the same and is printable as well."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def csv_cell(text: str) -> str:
    """Return a name for a CSV file that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _python_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
