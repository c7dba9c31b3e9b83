"""Finds the span of the LangChain step around the caller, where MLflow's autologging made one.

In coroutines MLflow's callbacks run in another thread, so the span of a graph's node is not the
current one inside the node. LangChain itself knows which step is running.
"""

from __future__ import annotations

import sys
from typing import Any


def step_below(current_span_id: str | None) -> Any:
    """Find the MLflow span of the LangChain step that runs now, below the current span.

    None outside of a step, without autologging, and where the current span is inside the step
    already.
    """
    step = _step()
    if step is None or current_span_id is None:
        return step
    from mlflow.tracing.trace_manager import InMemoryTraceManager

    manager = InMemoryTraceManager.get_instance()
    around = step
    while around is not None and around.parent_id is not None:
        if around.parent_id == current_span_id:
            return step
        around = manager.get_span_from_id(around.trace_id, around.parent_id)
    return None


def _step() -> Any:
    config_module = sys.modules.get("langchain_core.runnables.config")
    variable = getattr(config_module, "var_child_runnable_config", None)
    config = None if variable is None else variable.get()
    callbacks = None if config is None else config.get("callbacks")
    run_id = str(getattr(callbacks, "parent_run_id", None))
    for handler in getattr(callbacks, "handlers", None) or ():
        entry = getattr(handler, "_run_span_mapping", {}).get(run_id)
        if entry is not None:
            return entry.span
    return None
