"""The run or logged model in whose artifacts a model version lies."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.pipeline.locations import _owner_of


@pytest.mark.parametrize(
    ("parts", "inside"),
    [
        (("1", "run", "artifacts", "model"), ("model",)),
        (("1", "run", "artifacts"), ()),
        (("1", "artifacts", "run", "artifacts", "a", "artifacts"), ("a", "artifacts")),
        (("1", "run", "artifacts", "..", "..", "other"), None),  # it leads out
        (("1", "other", "artifacts", "model"), None),
        (("artifacts", "model"), None),
    ],
)
def test_the_owner_of_a_path(parts: tuple[str, ...], inside: tuple[str, ...] | None) -> None:
    run: Any = object()
    assert _owner_of(parts, {"run": run}) == (None if inside is None else (run, inside))
