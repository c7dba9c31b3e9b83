"""The mark ``long`` for some parameters of a test."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import fixturekit

SOME_STORES = ("1.30.1-classic", "2.9.2-moved", "2.22.5-registry-traces", "3.5.1-genai")


def long(*values: Any) -> list[Any]:
    """Parameters for the stage of long tests, as ``params=["sqlite", *long("mysql")]``."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


def every_store() -> list[Any]:
    """The names of all fixture stores; only some, one of each layout, are not long."""
    others = [name for name in fixturekit.names() if name not in SOME_STORES]
    return [*SOME_STORES, *long(*others)]
