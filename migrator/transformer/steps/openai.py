"""Steps from the files that ``mlflow.openai.autolog`` of MLflow 2.14 wrote for each call.

MLflow 2.14 (``mlflow.openai._openai_autolog``) keeps a run for each client object and a folder
``artifacts-<session>-<n>`` for each call, with the arguments and the response, or its chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from migrator.model import Json, RunRecord, SpanType
from migrator.transformer.found import Found, Status, Step, Tokens
from migrator.transformer.run_view import RunView
from migrator.transformer.steps.langchain import session_of
from migrator.transformer.values import as_number, natural

NOT_GIVEN = "NOT_GIVEN"  # how openai's client spells an argument that was left out
TYPES = {"messages": SpanType.CHAT_MODEL, "prompt": SpanType.LLM, "input": SpanType.EMBEDDING}
"""The type of a call by the argument that it was given, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class _Call:
    """The files of one call."""

    folder: str
    asked: Found
    arguments: Mapping[str, Json]
    answered: Found | None
    response: Json  # a streamed one is put together
    created_s: float | None  # when the response was made


def openai_steps(view: RunView) -> tuple[Step, ...]:
    """The calls that OpenAI's autologging wrote down, oldest first."""
    folders: dict[str, dict[str, Found]] = {}
    for found in view.every("events"):
        folder, _, file = found.key.rpartition("/")
        folders.setdefault(folder, {})[file.lower()] = found
    calls: list[_Call] = []
    for folder in sorted(folders, key=natural):
        asked, answered = (folders[folder].get(name) for name in ("input.json", "output.json"))
        if asked is None or not isinstance(asked.value, Mapping):
            continue
        response, created_s = _response(answered.value if answered is not None else None)
        calls.append(_Call(folder, asked, asked.value, answered, response, created_s))
    calls.sort(key=lambda call: call.created_s or 0)  # stable: the order of the folders at ties
    run = view.run
    is_alone = len(calls) == 1 and not run.params and not run.metrics
    return tuple(_step(call, run if is_alone else None) for call in calls)


def _step(call: _Call, run: RunRecord | None) -> Step:
    """Make the step of a call; ``run`` is given if the call opened and ended it."""
    given = {
        name: value
        for name, value in call.arguments.items()
        if value is not None and value != NOT_GIVEN
    }
    span_type = next((TYPES[name] for name in TYPES if name in given), SpanType.UNKNOWN)
    response = call.response if isinstance(call.response, Mapping) else {}
    times = _times(call, run)
    origins = {
        "type": call.asked.origin,
        "inputs": call.asked.origin,
        "start": times.start_origin,
        "end": times.end_origin,
    }
    status = Status("UNSET", "no response was logged", True)
    if call.answered is not None:
        origins |= {"outputs": call.answered.origin, "tokens": call.answered.origin}
        status = Status("OK", call.answered.origin, True)
    session = session_of(call.folder)
    return Step(
        key=call.folder,
        name="Embeddings" if span_type == SpanType.EMBEDDING else "Completions",
        type=span_type,
        start_ms=times.start_ms,
        end_ms=times.end_ms,
        inputs=given,
        outputs=call.response,
        usage=_usage(response),
        model=_model(call, response.get("model") or given.get("model")),
        provider=Found("openai", "tag", "mlflow.autologging"),
        session=session,
        status=status,
        facts={"session_kind": "process"} if session else {},
        origins=origins,
        inferences=times.inferences,
    )


class _Times(NamedTuple):
    start_ms: float | None
    end_ms: float | None
    start_origin: str
    end_origin: str
    inferences: tuple[str, ...] = ()


def _times(call: _Call, run: RunRecord | None) -> _Times:
    """When a call was made: the time of its own run, else the second of its response."""
    origins = ("created", "created") if run is None else ("run start_time", "run end_time")
    if run is not None and run.start_ms and run.end_ms:
        return _Times(run.start_ms, run.end_ms, *origins)
    if not call.created_s:
        return _Times(None, None, *origins)
    created_ms = call.created_s * 1000
    why = "times: only the second in which the response was made is known"
    return _Times(created_ms, created_ms, *origins, (why,))


def _usage(response: Mapping[str, Json]) -> Tokens:
    usage = response.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return Tokens(*(as_number(counts.get(name)) for name in names))


def _model(call: _Call, name: Json) -> Found | None:
    """The model, in the response or else in what was asked."""
    return Found(str(name), "artifact", (call.answered or call.asked).key) if name else None


def _response(value: Json) -> tuple[Json, float | None]:
    """A response, or a streamed one put together, and the second in which it was made."""
    if isinstance(value, Mapping):
        return value, as_number(value.get("created"))
    chunks = (
        [chunk for chunk in value if isinstance(chunk, Mapping)] if isinstance(value, list) else []
    )
    if not chunks:
        return None, None
    text = "".join(_piece(chunk) for chunk in chunks)
    message = {"role": "assistant", "content": text}
    whole: dict[str, Json] = {"choices": [{"index": 0, "message": message}]}
    for chunk in chunks:
        whole |= {key: chunk[key] for key in ("model", "usage") if chunk.get(key)}
    return whole, as_number(chunks[0].get("created"))


def _piece(chunk: Mapping[str, Json]) -> str:
    """The piece of the answer in one chunk of a stream."""
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        return ""
    delta = choice.get("delta")
    piece = delta.get("content") if isinstance(delta, Mapping) else choice.get("text")
    return piece if isinstance(piece, str) else ""
