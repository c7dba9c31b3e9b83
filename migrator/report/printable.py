"""Makes text safe to print: names in a store may contain control sequences of terminals."""

from __future__ import annotations

import re
import unicodedata

# Control characters except tab and line feed, marks that change the direction of writing, and
# lone surrogates, which can't be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


# Where a spreadsheet may see a formula, in texts from ``_folded``: at the start of a cell, and
# after a character that separates cells if the spreadsheet uses another separator than ours.
_FORMULA_CELL = re.compile(r"[\t\r\n]|[\s,;|]*[=+\-@]")
_FORMULA_INSIDE = re.compile(r"[\t\r\n;|]\s*(?=[=+\-@])")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def printable(text: str) -> str:
    """Return text whose only control characters are tab and newline; others become ``\\x1b``."""
    return _UNPRINTABLE.sub(_python_escape, text)


def one_line(text: str) -> str:
    """Return a name as printable text on one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def printable_json(text: str) -> str:
    """Return an equal JSON document whose text is printable."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def csv_cell(text: str) -> str:
    """Return a CSV cell that no spreadsheet reads as a formula.

    An apostrophe is put before a formula, also before one that would begin a cell if the
    spreadsheet separated cells by ``;``, tabs or lines. Numbers are unchanged.
    """
    if _NUMBER.fullmatch(text):
        return text
    folded = "".join(map(_folded, text))
    safe, end = "'" if _FORMULA_CELL.match(folded) else "", 0
    for inside in _FORMULA_INSIDE.finditer(folded):
        safe += f"{text[end : inside.end()]}'"
        end = inside.end()
    return safe + text[end:]


def _folded(char: str) -> str:
    """Return the ASCII character that a spreadsheet may read; a space for an invisible one."""
    if char in "\t\r\n":
        return char
    if char == "\u2212":  # the minus sign, which has no compatible form
        return "-"
    if unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp"):
        return " "
    return unicodedata.normalize("NFKC", char)[0]


def _python_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
