"""Which values the legacy tracker's settings let a trace show, and in which form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from migrator.tracker.config import LEVELS, TrackerConfig
from migrator.tracker.values import plain

TAG_CHARS = 500  # what the legacy tracker showed of a prompt when files were switched off


def recordable(
    config: TrackerConfig, value: Any, level: str, own: Mapping[str, Any] | None = None
) -> Any:
    """Choose what may be recorded of a value that the legacy tracker wrote at ``level``.

    All of it where files of that level were to be written; a text's beginning where only prompts
    were to be shown; None otherwise. As JSON values, within the limits of ``plain``. ``own`` are a
    node's settings, which go before the workflow's.
    """
    if value is None:
        return None
    settings = own or {}
    is_within_level = LEVELS.index(level) <= LEVELS.index(config.artifact_level)
    if is_within_level and settings.get("log_artifacts", config.log_artifacts):
        return plain(value)
    if level == "standard" and settings.get("log_prompts", config.log_prompts):
        text = plain(value)
        if not isinstance(text, str):
            text = json.dumps(text, ensure_ascii=False)
        return text if len(text) <= TAG_CHARS else text[:TAG_CHARS] + "..."
    return None


def json_or_text(value: Any) -> Any:
    """Parse a response that is a JSON object or list, as in migrated traces."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
