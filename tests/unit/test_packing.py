"""Values that are packed are the values that were put in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import packing
from migrator.packing import PackedDict, PackedList


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=50), max_size=20))
def test_a_packed_list_has_its_values(texts: list[str]) -> None:
    packed: PackedList[str] = PackedList()
    for text in texts:
        packed.append(text)
    assert list(packed) == texts and packed[3:12] == texts[3:12]
    assert not texts or packed[-1] == texts[-1]


@dataclass(slots=True)
class Count:
    number: int = 0
    names: list[str] = field(default_factory=list)


def test_a_packed_mapping_keeps_order_and_what_is_changed_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "_MOST_LIVE", 3)
    counts: PackedDict[Count] = PackedDict()
    expected: dict[str, Count] = {}
    for number in (5, 1, 9, 0, 7, 3, 8, 2, 6, 4):
        counts[f"k{number}"] = Count(number)
        expected[f"k{number}"] = Count(number)
    for _ in range(2):
        for key in sorted(expected):
            for count in (counts.to_change(key), expected[key]):
                count.number += 10
                count.names.append(key)
    counts["k5"] = expected["k5"] = Count(-1)
    assert list(counts) == list(expected) and len(counts) == 10
    assert dict(counts.items()) == expected
    assert list(counts.as_list()) == list(expected.values())
    assert "k3" in counts and "k10" not in counts and counts.get("k10") is None
    with pytest.raises(KeyError):
        counts["k10"]
