"""Prompt versions of MLflow's registry, and the traces that used them."""

from __future__ import annotations

import re
from typing import Any

from mlflow.entities.model_registry import PromptVersion
from mlflow.tracing.trace_manager import InMemoryTraceManager

# An address without an alias: what an alias points to is only known to the registry.
_ADDRESS = re.compile(r"prompts:/([^/@]+)/(\d+)")


def version_of(prompt: Any) -> PromptVersion | None:
    """Read the version that a prompt is, or that its address ``prompts:/NAME/VERSION`` names."""
    if isinstance(prompt, PromptVersion):
        return prompt
    found = _ADDRESS.fullmatch(prompt) if isinstance(prompt, str) else None
    return PromptVersion(found[1], int(found[2]), template="") if found else None


def link(trace_id: str, version: PromptVersion) -> None:
    """Link an open trace to a prompt version; MLflow's prompt page then lists the trace."""
    manager = InMemoryTraceManager.get_instance()
    with manager.get_trace(trace_id) as trace:
        is_open = trace is not None
    if is_open:
        manager.register_prompt(trace_id, version)
