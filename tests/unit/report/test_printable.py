"""Text of a store that is safe on a terminal, in JSON and in a spreadsheet."""

from __future__ import annotations

import json

import pytest

from migrator.report.printable import csv_cell, one_line, printable, printable_json


def test_controls_and_marks_that_turn_text_round_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31m\u202eb\tc\n") == "a\\x1b[31m\\u202eb\tc\n"
    assert one_line("a\tb\nc") == "a\\tb\\nc"


def test_a_json_document_means_the_same() -> None:
    text = json.dumps({"k\x7f": "\u202e ü"}, ensure_ascii=False)
    assert json.loads(printable_json(text)) == {"k\x7f": "\u202e ü"}
    assert "\u202e" not in printable_json(text)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", " =1", ";=1", "\t=1"])
def test_what_may_be_a_formula_gets_an_apostrophe(text: str) -> None:
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize("text", ["-1.5", "+3", "1e-5", "plain", "größe - 2", ""])
def test_numbers_and_words_stay(text: str) -> None:
    assert csv_cell(text) == text


def test_a_formula_after_another_separator_is_defused_too() -> None:
    assert csv_cell("a;=1") == "a;'=1"
