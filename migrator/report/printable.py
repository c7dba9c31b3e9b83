"""Text that is safe to print: what a store calls things may hold a terminal's control sequences."""

from __future__ import annotations

import re
import unicodedata

# Controls of C0 and C1 but tab and line feed, marks that turn the direction of writing round, and
# half characters, which can't be encoded.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


# What a spreadsheet may take for a formula, on texts from ``_folded``: at the start of a cell, and
# behind what separates cells where the list separator is another than ours.
_FORMULA_CELL = re.compile(r"[\t\r\n]|[\s,;|]*[=+\-@]")
_FORMULA_INSIDE = re.compile(r"[\t\r\n;|]\s*(?=[=+\-@])")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


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
    """Return text for a CSV file that a spreadsheet does not take for a formula.

    What may be one gets an apostrophe in front, and so does what would be one if the spreadsheet
    separated cells by ``;``, tabs or lines. Numbers stay as they are.
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
    """Return the ASCII character that a spreadsheet may read here; a space for invisible ones."""
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
