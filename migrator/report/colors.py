"""Colours a text for a terminal by how its lines begin. The text itself has no colour codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

_STYLES: tuple[tuple[re.Pattern[str], Mapping[str, Any]], ...] = (
    (re.compile(r"^(rejected [a-z-]+|Error:)", re.M), {"fg": "red", "bold": True}),
    (re.compile(r"^degraded [a-z-]+", re.M), {"fg": "yellow", "bold": True}),
    (re.compile(r"^note [a-z-]+", re.M), {"fg": "cyan"}),
    (re.compile(r"^    mlflow(-migrate)? .*", re.M), {"fg": "green"}),
    (re.compile(r"https?://\S+"), {"fg": "blue"}),
    (re.compile(r"^    What to do:", re.M), {"bold": True}),
)


def painted(text: str) -> str:
    """The text with colour codes: severities, commands and URLs."""
    for pattern, style in _STYLES:
        text = pattern.sub(partial(_styled, style), text)
    return text


def _styled(style: Mapping[str, Any], found: re.Match[str]) -> str:
    return click.style(found[0], **style)


def painted_page(text: str) -> str:
    """A whole result: its first paragraph, which says what was done, is bold as well."""
    first, gap, rest = text.partition("\n\n")
    return click.style(first, bold=True) + gap + painted(rest)
