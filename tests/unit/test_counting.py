"""Singular and plural of counts."""

from __future__ import annotations

import pytest

from migrator.counting import counted


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("trace",), "0 traces"),
        (1, ("trace",), "1 trace"),
        (1234, ("trace",), "1,234 traces"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("tree was kept", "trees were kept"), "2 trees were kept"),
    ],
)
def test_a_number_has_its_noun(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text
