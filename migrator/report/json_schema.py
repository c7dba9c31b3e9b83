"""The shape of what the commands print with ``--json``: a JSON Schema, and its version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

JSON_VERSION = 1
"""Grows when a key goes, or changes its type or meaning. New keys may come without that."""

SCHEMA_FILE = Path(__file__).with_name("output.schema.json")


def versioned(value: dict[str, Any]) -> dict[str, Any]:
    """The object to print, with the version of the schema as its first key."""
    return {"json_version": JSON_VERSION, **value}


def schema() -> dict[str, Any]:
    """The JSON Schema of all commands; ``$defs`` has one for each."""
    found: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return found
