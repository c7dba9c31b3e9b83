"""Marks that only some parameters of a test carry."""

from __future__ import annotations

from typing import Any

import pytest


def long(*values: Any) -> list[Any]:
    """Parameters for the stage of long tests, as ``params=["sqlite", *long("mysql")]``."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]
