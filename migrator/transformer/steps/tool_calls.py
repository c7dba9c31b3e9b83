"""Calls of tools that a run lists: each becomes a span below the run's.

Read are OpenAI's form (``{"function": {"name", "arguments"}}``), LangChain's (``{"name", "args"}``)
and Anthropic's (``{"name", "input"}``), each with a result if it stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from migrator.model import Json, SpanType
from migrator.transformer.chat_messages import first_of
from migrator.transformer.found import Found, Status, Step
from migrator.transformer.run_view import RunView
from migrator.transformer.values import parse_json

ARGUMENTS = ("arguments", "args", "input", "inputs", "parameters", "tool_input")
RESULTS = ("result", "output", "outputs", "response", "observation", "tool_output")
NAMES = ("name", "tool", "tool_name", "function_name")


def tool_steps(view: RunView) -> tuple[Step, ...]:
    """The calls in the lists that field ``tool_calls`` names, in their order."""
    steps: list[Step] = []
    for found in view.best("tool_calls"):
        value = parse_json(found.value) if isinstance(found.value, str) else found.value
        if isinstance(value, Mapping):
            value = value.get("tool_calls", [value])
        if isinstance(value, str) or not isinstance(value, Sequence):
            continue
        for call in value:
            step = _step(call, found, len(steps) + 1)
            if step is not None:
                steps.append(step)
    return tuple(steps)


def _step(call: Json, found: Found, number: int) -> Step | None:
    """One call; None when it has no name."""
    if not isinstance(call, Mapping):
        return None
    function = call.get("function")
    inner: Mapping[str, Json] = function if isinstance(function, Mapping) else call
    name = first_of(inner, *NAMES)
    if not isinstance(name, str) or not name.strip():
        return None
    given = first_of(inner, *ARGUMENTS)
    return Step(
        key=f"tool-{number}",
        name=name,
        type=SpanType.TOOL,
        inputs=parse_json(given) if isinstance(given, str) else given,
        outputs=first_of(call, *RESULTS),
        status=Status("OK", f"{found.origin} lists it", False),
        origins={"name": found.origin, "inputs": found.origin, "outputs": found.origin},
    )
