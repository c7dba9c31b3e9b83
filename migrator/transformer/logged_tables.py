"""Tables in the files of a run: which files may hold one, and the rows of a file.

Read are MLflow's tables ``{"columns": [...], "data": [[...]]}`` (``log_table``,
``mlflow.evaluate``, the prompt engineering UI), lists of JSON objects, JSON objects that hold such
lists, columns with their cells and rows by their names (``DataFrame.to_json``), JSON lines and CSV.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TypeGuard

from migrator.counting import counted
from migrator.model import Json, RunRecord
from migrator.transformer.model_names import ModelKind, kind_of_model
from migrator.transformer.named_models import MODEL_RANKS, models_at
from migrator.transformer.profiles import normalise
from migrator.transformer.values import parse_json

LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"  # a tag: JSON list of {"path", "type": "table"}
CSV_ENDINGS = (".csv", ".tsv")
LINE_ENDINGS = (".jsonl", ".ndjson")
TABLE_ENDINGS = (*CSV_ENDINGS, *LINE_ENDINGS, ".json")
_LIKELY_NAME = re.compile(
    r"(?i)eval|result|predict|answer|respons|ragas|judge|scor|generat|completion|inference|sample"
    r"|question|output|dialog|conversation|(?:^|[_\W])(?:llm|rag|qa|chats?)(?:[_\W]|$)"
)
_SURE_NAME = re.compile(r"(?i)eval|predictions|answers|ragas|result_table|inference_inputs_outputs")
_SETTINGS = re.compile(
    r"(?:\A|_)(?:config\w*|settings?|\w*args|params?|parameters|options|metadata|meta|env)\Z"
)
"""Keys of objects whose lists are settings, such as the tests that were asked for."""
_QUOTED = re.compile(r'"[^"]*"')
_DECIMAL = re.compile(r"\s*[+-]?\d+,\d+\s*")

Row = Mapping[str, Json]


PARTS_OF_CALLS = (
    frozenset({"finish_reason", "index"}),  # OpenAI's and those that imitate it
    frozenset({"finishReason", "content"}),  # Google's
    frozenset({"role", "content"}),
)
"""Keys of the choices and messages in the body of an API's request or response."""
MOST_LEVELS = 4  # of objects, below which no lists are looked for
ALIKE = 0.5  # the share of columns that lists have in common which are one table


@dataclass(frozen=True, slots=True)
class RowsOf:
    """The rows of a table, and what is wrong with its file (empty: nothing).

    ``place`` are the keys under which the table stands in the file, such as ``results.cases``.
    """

    rows: tuple[Row, ...]
    wrong: str = ""
    place: str = ""


def tables_by_tag(run: RunRecord) -> frozenset[str]:
    """Paths of the tables that ``mlflow.log_table`` wrote, by the tag it leaves on the run."""
    text = run.tags.get(LOGGED_ARTIFACTS)
    if not text:
        return frozenset()  # nearly every run
    entries = parse_json(text)
    paths: set[str] = set()
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return frozenset()
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("type") == "table":
            paths.add(str(entry.get("path")))
    return frozenset(paths)


def likely_tables(run: RunRecord) -> tuple[str, ...]:
    """Paths of a run's artifacts whose names are those of tables of evaluations or predictions.

    A JSON file holds many other things: without ``log_table``'s tag it needs a name that says more.
    """
    tagged = tables_by_tag(run)
    found: list[str] = []
    for artifact in run.artifacts:
        if _is_likely(artifact.path, is_tagged=artifact.path in tagged):
            found.append(artifact.path)
    return tuple(found)


@lru_cache(maxsize=10_000)  # thousands of runs have the same few files
def _is_likely(path: str, *, is_tagged: bool) -> bool:
    name = path.rsplit("/", 1)[-1].lower()
    is_row_file = name.endswith((*CSV_ENDINGS, *LINE_ENDINGS)) or is_tagged
    pattern = _LIKELY_NAME if is_row_file else _SURE_NAME
    return name.endswith(TABLE_ENDINGS) and pattern.search(name) is not None


def read_rows(path: str, value: Json) -> RowsOf:
    """Read the rows of a file that holds one table; of several, the first."""
    return read_tables(path, value)[0]


def read_tables(path: str, value: Json) -> tuple[RowsOf, ...]:
    """Read the tables of a file, at least one: without rows, it says what is wrong.

    ``value`` is the parsed JSON of the file, or its text when it is not JSON.
    """
    lower = path.lower()
    if isinstance(value, str):
        if lower.endswith(CSV_ENDINGS):
            return (_csv_rows(value),)
        if lower.endswith(LINE_ENDINGS) or _is_of_json_lines(value):
            return (_json_lines(value),)
    elif isinstance(value, Mapping):
        if lower.endswith(LINE_ENDINGS):  # one line
            return (RowsOf((value,)),)
        return _object_tables(value)
    elif isinstance(value, Sequence):
        return (_records(value),)
    return (RowsOf((), "it is not a JSON object or list"),)


def tables_in_rows(table: RowsOf) -> tuple[RowsOf, ...]:
    """The tables inside rows that are not samples, such as the results of each model."""
    inside: dict[str, list[Row]] = {}
    for row in table.rows:
        for each in _listed(row, table.place, {}):
            inside.setdefault(each.place, []).extend(each.rows)
    return tuple(RowsOf(tuple(found), "", place) for place, found in inside.items())


def _object_tables(value: Mapping[str, Json]) -> tuple[RowsOf, ...]:
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list):
        return (_split_rows(columns, data),)
    found = tuple(_listed(value, "", {}))
    return found or (RowsOf((), 'it has no lists "columns" and "data"'),)


def _listed(value: Mapping[str, Json], place: str, models: Row) -> Iterator[RowsOf]:
    """Yield the lists of objects in an object, and in the objects inside it, level by level.

    ``models`` are the names of models that stand beside the lists and count for their rows.
    """
    models = {**models, **_models_beside(value)}
    found = {key: each for key, each in value.items() if _is_list_of_objects(each)}
    lists = {key: each for key, each in found.items() if not _are_parts_of_call(each)}
    if not found and (rows := _cells_by_column(value) or _rows_by_name(value)):
        yield RowsOf(_with_models(rows, models), "", place)
        return
    for keys in _alike(lists):
        rows = tuple(chain.from_iterable(_of_key(key, lists[key], models) for key in keys))
        yield RowsOf(rows, "", _inside(place, keys[0]) if len(lists) > 1 or place else "")
    if place.count(".") + 1 < MOST_LEVELS:
        for key, inner in value.items():
            if isinstance(inner, Mapping) and not _SETTINGS.search(normalise(key)):
                named = {"model": key} if _is_name_of_llm(key) else {}
                yield from _listed(inner, _inside(place, key), {**models, **named})


def _are_parts_of_call(rows: Sequence[Row]) -> bool:
    """Whether objects are the choices of one response, or the messages of one chat."""
    return all(any(keys <= row.keys() for keys in PARTS_OF_CALLS) for row in rows)


def _inside(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _models_beside(value: Mapping[str, Json]) -> dict[str, Json]:
    """The names of models among the texts of an object, and of the settings inside it."""
    texts: dict[str, Json] = {}
    for key, each in value.items():
        if isinstance(each, str):
            texts[key] = each
        elif isinstance(each, Mapping) and not any(_is_list_of_objects(x) for x in each.values()):
            texts.update({f"{key}.{name}": x for name, x in each.items() if isinstance(x, str)})
    return {key: text for key, text in texts.items() if _names_llm(key, text)}


def _names_llm(key: str, text: Json) -> bool:
    found = models_at(normalise(key), text) if isinstance(text, str) else ()
    return any(rank <= MODEL_RANKS[ModelKind.UNKNOWN] for rank, _ in found)


def _is_name_of_llm(name: str) -> bool:
    return kind_of_model(name) is ModelKind.LLM


def _of_key(key: str, rows: Sequence[Row], models: Row) -> tuple[Row, ...]:
    """The rows of a list, with its key where that is the name of a model."""
    return _with_models(rows, {**models, "model": key} if _is_name_of_llm(key) else models)


def _with_models(rows: Sequence[Row], models: Row) -> tuple[Row, ...]:
    return tuple({**models, **row} for row in rows) if models else tuple(rows)


def _alike(lists: Mapping[str, Sequence[Row]]) -> list[list[str]]:
    """The keys of lists, together where their rows have mostly the same columns."""
    groups: list[tuple[set[str], list[str]]] = []
    for key, rows in lists.items():
        columns = set().union(*rows)
        for known, keys in groups:
            if len(known & columns) >= ALIKE * len(known | columns):
                keys.append(key)
                break
        else:
            groups.append((columns, [key]))
    return [keys for _, keys in groups]


def _split_rows(columns: Sequence[Json], data: Sequence[Json]) -> RowsOf:
    names = [str(column) for column in columns]
    rows: list[Row] = []
    for row in data:
        if isinstance(row, list) and len(row) == len(names):
            rows.append(dict(zip(names, row, strict=True)))
    odd = len(data) - len(rows)
    return RowsOf(tuple(rows), _misfits(odd, len(data)))


def _misfits(odd: int, total: int) -> str:
    """``2 of its 9 rows do not fit its columns``; "" if all fit."""
    of = f"of its {counted(total, 'row')}"
    return (
        counted(odd, f"{of} does not fit its columns", f"{of} do not fit its columns")
        if odd
        else ""
    )


def _is_of_json_lines(text: str) -> bool:
    """Whether a text is JSON lines, whatever its file is called."""
    lines = text.strip().splitlines()
    return len(lines) > 1 and isinstance(_line(lines[0]), Mapping)


def _share_columns(rows: Sequence[Mapping[str, Json]]) -> bool:
    """Whether all rows have at least one key in common."""
    return bool(rows) and bool(set(rows[0]).intersection(*rows))


def _rows_by_name(value: Mapping[str, Json]) -> tuple[Row, ...]:
    """Rows of ``{"0": {"question": ...}, "1": ...}``; their names are ids, or those of models."""
    rows = [each for each in value.values() if isinstance(each, Mapping)]
    if len(rows) < 2 or len(rows) < len(value) or not _share_columns(rows):
        return ()
    column = "model" if all(_is_name_of_llm(name) for name in value) else "id"
    return tuple({column: name, **row} for name, row in zip(value, rows, strict=True))


def _is_list_of_objects(value: Json) -> TypeGuard[list[Mapping[str, Json]]]:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, Mapping) for each in value)


def _records(values: Json) -> RowsOf:
    assert isinstance(values, Sequence)
    rows = tuple(each for each in values if isinstance(each, Mapping))
    odd = len(values) - len(rows)
    return RowsOf(rows, _not_objects(odd, counted(len(values), "entry", "entries")))


def _cells_by_column(value: Mapping[str, Json]) -> tuple[Row, ...]:
    """Rows of ``{"question": {"0": ..., "1": ...}, ...}`` or ``{"question": [...], ...}``."""
    columns: dict[str, list[Json]] = {}
    for name, cells in value.items():
        if isinstance(cells, Mapping) and cells and all(key.isdecimal() for key in cells):
            columns[name] = list(cells.values())
        elif isinstance(cells, list):
            columns[name] = cells
        else:
            return ()
    lengths = {len(cells) for cells in columns.values()}
    if len(columns) < 2 or len(lengths) != 1:
        return ()
    rows = zip(*columns.values(), strict=True)
    return tuple(dict(zip(columns, row, strict=True)) for row in rows)


def _csv_rows(text: str) -> RowsOf:
    text = text.removeprefix("\ufeff")
    header = _QUOTED.sub("", text.lstrip().split("\n", 1)[0])
    delimiter = max(",\t;|", key=header.count)
    rows: list[Row] = []
    odd = 0
    reader = csv.DictReader(io.StringIO(text), strict=True, delimiter=delimiter)
    try:
        reader.fieldnames = _named_columns(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                odd += 1
            cells = {key: cell for key, cell in row.items() if key is not None}
            rows.append(_with_points(cells) if delimiter == ";" else cells)
    except csv.Error as error:
        return RowsOf(tuple(rows), f"it is not CSV after row {len(rows)}: {error}")
    return RowsOf(tuple(rows), _misfits(odd, len(rows)))


def _with_points(cells: Row) -> Row:
    """Write decimal commas as points: they are why such a file has semicolons."""
    return {
        key: cell.replace(",", ".") if isinstance(cell, str) and _DECIMAL.fullmatch(cell) else cell
        for key, cell in cells.items()
    }


def _named_columns(header: Sequence[str]) -> list[str]:
    """Name the columns that have no name as pandas does: the index of a frame is the first."""
    return [name or f"Unnamed: {at}" for at, name in enumerate(header)]


def _json_lines(text: str) -> RowsOf:
    lines = [line for line in text.splitlines() if line.strip()]
    parsed: list[Json] = []
    for line in lines:
        parsed.append(_line(line))
    rows = tuple(each for each in parsed if isinstance(each, Mapping))
    odd = len(lines) - len(rows)
    return RowsOf(rows, _not_objects(odd, counted(len(lines), "line")))


def _not_objects(odd: int, all_of_them: str) -> str:
    """``2 of its 9 lines are not JSON objects``; "" if all are."""
    of = f"of its {all_of_them}"
    return counted(odd, f"{of} is not a JSON object", f"{of} are not JSON objects") if odd else ""


def _line(text: str) -> Json:
    """One line of a JSON lines file; None when it is not JSON."""
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
