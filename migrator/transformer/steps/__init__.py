"""Steps: calls that a run recorded in its own files or metrics and that had no run of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from migrator.transformer.found import Step
from migrator.transformer.run_view import RunView
from migrator.transformer.steps.chats import conversation_steps
from migrator.transformer.steps.histories import recorded_calls, whole_tokens
from migrator.transformer.steps.langchain import langchain_steps
from migrator.transformer.steps.openai import openai_steps
from migrator.transformer.steps.tables import row_steps
from migrator.transformer.steps.tool_calls import tool_steps

__all__ = ["STEPS", "TABLE_ROWS", "read_steps", "recorded_calls", "tool_steps", "whole_tokens"]

TABLE_ROWS = "table-rows"

STEPS: Mapping[str, Callable[[RunView], tuple[Step, ...]]] = {
    "langchain-events": langchain_steps,
    "openai-files": openai_steps,
    TABLE_ROWS: row_steps,
    "conversation": conversation_steps,
}
"""What reads the steps out of a run's files, by the word of a profile's key ``steps``."""


def read_steps(view: RunView) -> tuple[Step, ...]:
    """The steps in a run's files, oldest first; nothing if its profile names no kind of files."""
    read = STEPS.get(view.profile.steps or "")
    return read(view) if read is not None else ()
