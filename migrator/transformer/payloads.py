"""Whole calls in one logged value: bodies of LLM APIs, chats, objects with question and answer.

Which they are is seen from their shape, whatever the param or file is called. The shapes are those
of OpenAI's chat completions, completions and responses, of Anthropic's messages, Google's
``generateContent``, Ollama's ``generate`` and ``chat``, and of TGI and Bedrock's Claude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from migrator.model import Json
from migrator.transformer.chat_messages import (
    ROLES,
    first_of,
    is_part,
    messages_of,
    speaker_of,
)
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.values import as_number, parse_json, words

MOST_CHARS = 1_000_000  # a longer text is not parsed
PARTS = (
    "inputs", "maybe_inputs", "outputs", "maybe_outputs", "model", "provider", "session", "user",
    "input_tokens", "output_tokens", "total_tokens", "cost_usd", "duration_ms", "duration_s",
    "error_message",
)  # fmt: skip
"""The fields that a key inside an object may fill, as a param of that name would."""

SHORT_ANSWERS = words("answer response reply output completion translation")
"""Last words of keys under which even a few words are an answer, where an LLM is named."""

TEXT_PARTS = ("inputs", "maybe_inputs", "outputs", "maybe_outputs")
OF_A_CALL = (*TEXT_PARTS, "model", "provider", "input_tokens", "output_tokens", "total_tokens")
"""The parts of which a call with an error has one."""
OF_A_TEST = words("expected expected_output actual passed test_name")
"""Keys of the results of tests, which have errors as well."""

USAGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (
        "prompt_tokens",
        "input_tokens",
        "promptTokenCount",
        "prompt_token_count",
        "prompt_eval_count",
    ),
    "output_tokens": (
        "completion_tokens",
        "output_tokens",
        "candidatesTokenCount",
        "candidates_token_count",
        "eval_count",
    ),
    "total_tokens": ("total_tokens", "totalTokenCount", "total_token_count"),
}
"""Names of token counts in the bodies of APIs."""

USAGES = ("usage", "usageMetadata", "usage_metadata", "token_usage")
"""Names of the object with these counts."""

OF_LANGCHAIN = "response_metadata"
"""What a message of LangChain has, with the model's name and sometimes the counts."""

LEAST_AGENTS = 2
BACKGROUND = words(
    "context contexts document documents source sources chunk chunks passage passages reference "
    "expected target truth ground error reason note notes system"
)
"""Words of keys beside a question that name no agent."""

SIDES = ("inputs", "outputs")
"""Keys of objects with what went in or came out, as MLflow's own."""


class Part(NamedTuple):
    """A value inside a payload, and the field that it fills."""

    field: str
    inside: str  # its key in the payload; empty: the payload itself
    value: Json


FieldsOfKey = Callable[[str], Iterable[str]]
"""Looks up the fields that a param of a (not normalised) name would fill."""


def parsed_payload(text: str) -> Json:
    """Parse a text that may be a payload; None for any other."""
    if not text.lstrip().startswith(('{"', "[{", "{\n", "[\n", "{ ", "[ ")):
        return None
    if len(text) > MOST_CHARS:
        return None
    value = parse_json(text)
    return None if isinstance(value, str) else value


def parts_of(value: Json, fields_of: FieldsOfKey) -> list[Part]:
    """The parts of a call in a value; empty when it does not hold one."""
    if is_chat_log(value):
        return [Part("outputs", "", value), *_named_parts(value, fields_of, ("model",))]
    if not isinstance(value, Mapping):
        return []
    if (answer := answer_of(value)) is not None:
        return [answer, *response_facts(value)]
    parts = _opened(_named_parts(value, fields_of, PARTS), fields_of)
    parts += _last_text(value, parts)
    for key, each in value.items():  # {"request": {…}, "response": {…}}
        if is_chat_log(each) or (isinstance(each, Mapping) and answer_of(each) is not None):
            parts += [
                part._replace(inside=f"{key}.{part.inside}" if part.inside else str(key))
                for part in parts_of(each, fields_of)
            ]
    if not any(part.field in TEXT_PARTS for part in parts):
        parts += _in_wrapper(value, fields_of)
    is_of_call = any(part.field in OF_A_CALL for part in parts) and OF_A_TEST.isdisjoint(value)
    if not is_of_call:
        parts = [part for part in parts if part.field != "error_message"]
    return parts


def _in_wrapper(value: Mapping[str, Json], fields_of: FieldsOfKey) -> list[Part]:
    """The texts in the one object inside another that has a question and its answer."""
    calls: list[list[Part]] = []
    for key, each in value.items():
        if texts := question_and_answer(each, fields_of):
            calls.append([part._replace(inside=f"{key}.{part.inside}") for part in texts])
    return calls[0] if len(calls) == 1 else []


def question_and_answer(value: Json, fields_of: FieldsOfKey) -> list[Part]:
    """The texts of an object with a question and an answer, be that empty; of others none."""
    if not isinstance(value, Mapping):
        return []
    texts = [
        part for part in parts_of(value, fields_of) if part.field in TEXT_PARTS and part.inside
    ]
    sides = _kinds(part.field for part in texts)
    is_whole = len(sides) == len(_kinds(TEXT_PARTS))
    return texts if is_whole or answers_nothing(value) else []


def answers_nothing(value: Mapping[str, Json]) -> bool:
    """Whether an object has keys of answers, and nothing under them: the call failed."""
    answers = [
        answer for key, answer in value.items() if key.lower().rpartition("_")[2] in SHORT_ANSWERS
    ]
    return bool(answers) and not any(answers)


def texts_of_field(field: str, value: Json, fields_of: FieldsOfKey) -> list[Part]:
    """The texts in a logged object that a field takes: question and answer, or those of its side.

    A list of one text is that text. Other values have none: they stay what they are.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return [Part(field, "0", value[0])]
    if not isinstance(value, Mapping):
        return []
    if field.endswith("inputs") and is_chat_log(value):  # the body of a request
        return [Part(field, "messages", [each.as_chat() for each in messages_of(value)])]
    return question_and_answer(value, fields_of) or _texts_of_side(
        Part(field, "", value), fields_of
    )


def _opened(parts: Sequence[Part], fields_of: FieldsOfKey) -> list[Part]:
    """The parts, with the texts inside in place of an object: ``{"output": {"answer": …}}``."""
    opened: list[Part] = []
    for part in parts:
        inside = _texts_of_side(part, fields_of)
        is_signature = part.inside in SIDES and not _has_prose(part.value)  # {"age": "double"}
        opened += inside or ([] if is_signature else [part])
    return opened


def _has_prose(value: Json) -> bool:
    return any(kind_of_text(text) >= Prose.PROSE for text in texts_in(value))


def _texts_of_side(part: Part, fields_of: FieldsOfKey) -> list[Part]:
    """The texts in an object of inputs that were asked, or in one of outputs that answer."""
    if not isinstance(part.value, Mapping):
        return []
    side = part.field.removeprefix("maybe_")
    inside = [
        inner
        for inner in _named_parts(part.value, fields_of, TEXT_PARTS)
        if isinstance(inner.value, str) and inner.field.removeprefix("maybe_") == side
    ]
    texts = [(key, text) for key, text in part.value.items() if isinstance(text, str)]
    if not inside and len(texts) == 1 and kind_of_text(texts[0][1]) >= Prose.TERMS:
        inside = [Part(part.field, *texts[0])]
    before = f"{part.inside}." if part.inside else ""
    return [inner._replace(inside=f"{before}{inner.inside}") for inner in inside]


def _last_text(value: Mapping[str, Json], parts: Sequence[Part]) -> list[Part]:
    """What the last of several agents wrote, in an object that begins with what was asked.

    The agents' names are the keys, and their texts stand in the order of their work.
    """
    fields = {part.inside: part.field for part in parts}
    if "inputs" not in _kinds(fields.values()) or "outputs" in _kinds(fields.values()):
        return []
    first, *others = value
    is_asked = fields.get(str(first)) in ("inputs", "maybe_inputs")
    if not is_asked or not fields.keys().isdisjoint(others):
        return []
    if not are_texts_by_key({key: value[key] for key in others}):
        return []
    return [Part("maybe_outputs", str(others[-1]), value[others[-1]])]


def are_texts_by_key(value: Json) -> bool:
    """Whether a value is an object of several texts and nothing else, as several agents' are."""
    if not isinstance(value, Mapping) or len(value) < LEAST_AGENTS:
        return False
    if any(not BACKGROUND.isdisjoint(str(key).lower().split("_")) for key in value):
        return False
    return all(
        isinstance(text, str) and kind_of_text(text) >= Prose.PROSE for text in value.values()
    )


def _kinds(fields: Iterable[str]) -> frozenset[str]:
    """The names of fields without the mark that they are uncertain."""
    return frozenset(field.removeprefix("maybe_") for field in fields)


def texts_in(value: Json) -> list[str]:
    """All texts in a JSON value, however deep, in its order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, Sequence):
        return []
    texts: list[str] = []
    for each in value:
        texts += texts_in(each)
    return texts


def is_chat_log(value: Json) -> bool:
    """Whether a value is a list of chat messages, or an object that holds one."""
    messages = messages_of(value)
    return bool(messages) and all(message.role in ROLES for message in messages)


def answer_of(body: Mapping[str, Json]) -> Part | None:
    """The answer in the body that an API responded with; None when it is not such a body."""
    choice = _first_object(body.get("choices"))
    if choice is not None:  # MLflow's chat view shows the body itself
        has_answer = not {"message", "text", "delta"}.isdisjoint(choice)
        return Part("outputs", "", body) if has_answer else None
    for inside, text in _answers_in(body):
        if text:
            return Part("outputs", inside, text)
    return None


def said_in(value: Json) -> Part | None:
    """The answer in the body of a response, or in the parts of a message; None in other values."""
    if isinstance(value, Mapping):
        return answer_of(value)
    if not isinstance(value, list) or not value:
        return None
    is_message = all(isinstance(part, Mapping) and is_part(part) for part in value)
    return Part("outputs", "", _texts_in(value)) if is_message else None


def _answers_in(body: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield the texts that the shapes of Google, Anthropic, OpenAI's responses and Ollama hold."""
    candidate = _first_object(body.get("candidates"))
    content = candidate.get("content") if candidate is not None else None
    if isinstance(content, Mapping):
        yield "candidates", _texts_in(content.get("parts"))
    if _is_answering(body):
        yield "content", _texts_in(body.get("content"))
    output = body.get("output")
    if body.get("object") == "response" and isinstance(output, list):
        items = [item for item in output if isinstance(item, Mapping)]
        yield "output", "\n".join(filter(None, (_texts_in(item.get("content")) for item in items)))
    message = body.get("message")
    if isinstance(message, Mapping) and "model" in body:
        yield "message", _texts_in(message.get("content"))


def _is_answering(body: Mapping[str, Json]) -> bool:
    """Whether an object is one message of a model: Anthropic's, OpenAI's or LangChain's."""
    kind = first_of(body, "role", "type")
    if not isinstance(kind, str):
        return OF_LANGCHAIN in body
    return kind == "message" or speaker_of(kind) in ("assistant", "ai")


def response_facts(body: Mapping[str, Json]) -> list[Part]:
    """The model and the tokens in the body of a response."""
    parts: list[Part] = []
    name = next((each for each in ("model", "modelVersion", "model_version") if each in body), None)
    if name is not None and isinstance(body[name], str):
        parts.append(Part("model", name, body[name]))
    metadata = body.get(OF_LANGCHAIN)
    if isinstance(metadata, Mapping):
        model = first_of(metadata, "model_name", "model", "model_id")
        parts += [Part("model", OF_LANGCHAIN, model)] if isinstance(model, str) else []
        body = {**metadata, **body}
    holder, counts = _counts_in(body)
    for field, names in USAGE_KEYS.items():
        known = [each for each in names if as_number(counts.get(each)) is not None]
        if known:
            inside = f"{holder}.{known[0]}" if holder else known[0]
            parts.append(Part(field, inside, counts[known[0]]))
    return parts


def _counts_in(body: Mapping[str, Json]) -> tuple[str, Mapping[str, Json]]:
    """The object with the token counts of a body, and its key; without one the body itself."""
    for holder in USAGES:
        counts = body.get(holder)
        if isinstance(counts, Mapping):
            return holder, counts
    return "", body


def _first_object(value: Json) -> Mapping[str, Json] | None:
    """The first item of a list, if that is an object."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return value[0]
    return None


def only_row(value: Json) -> Json:
    """The one row of a table of ``mlflow.log_table``, or of a list; other values unchanged."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        return value if is_chat_log(value) else value[0]
    if isinstance(value, Mapping) and value.keys() == {"columns", "data"}:
        columns, data = value["columns"], value["data"]
        if isinstance(columns, list) and isinstance(data, list) and len(data) == 1:
            row = data[0]
            if isinstance(row, list) and len(row) == len(columns):
                return {str(name): cell for name, cell in zip(columns, row, strict=True)}
    return value


def are_answers(value: Json, fields_of: FieldsOfKey) -> bool:
    """Whether a value is a list of several objects, each with an answer of its own."""
    if not isinstance(value, list) or len(value) < 2 or is_chat_log(value):
        return False
    return all(isinstance(row, Mapping) and _has_answer(row, fields_of) for row in value)


def _has_answer(row: Mapping[str, Json], fields_of: FieldsOfKey) -> bool:
    return any("outputs" in fields_of(key) for key in row)


def _named_parts(value: Json, fields_of: FieldsOfKey, wanted: Sequence[str]) -> list[Part]:
    """The parts that stand under keys which would name them as params."""
    if not isinstance(value, Mapping):
        return []
    parts: list[Part] = []
    for key, each in value.items():
        if each is None or each in ("", [], {}):
            continue
        allowed = wanted if isinstance(each, (str, int, float)) else TEXT_PARTS
        fields = [*fields_of(str(key))]
        if key in SIDES and isinstance(each, Mapping) and key not in fields:
            fields.append(key)
        parts += [Part(field, str(key), each) for field in fields if field in allowed]
    return parts


def _texts_in(content: Json) -> str:
    """The text of a message's content: a text, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return "\n".join(text for text in texts if isinstance(text, str) and text)
