"""Steps from the rows of logged tables: evaluations, predictions, prompt engineering.

Three forms are read: MLflow's tables ``{"columns": [...], "data": [[...]]}`` (``log_table``, the
prompt engineering UI's and ``mlflow.evaluate``'s ``eval_results_table.json``), CSV
(``mlflow.llm.log_predictions`` of 2.3 to 2.8) and JSON lines (promptflow's results). A row is read
as if it were a run whose params and metrics are its columns, so that a profile's names for prompts,
answers and tokens work for both.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import Json, MetricPoint, RunRecord, SpanType
from migrator.transformer.found import Found, Judged, Status, Step
from migrator.transformer.judgements import judgements
from migrator.transformer.profiles import normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.values import as_number, parse_json

SCORE = re.compile(r"(?P<name>.+?)(?P<version>/v\d+)?/score\Z")  # mlflow.evaluate, 2.8 on
Row = Mapping[str, Json]


def row_steps(view: RunView) -> tuple[Step, ...]:
    """A step for each row of the tables of a run; nothing when no row can be read."""
    rows: list[tuple[Found, int, Row]] = []
    for found in view.every("tables"):
        fitting, wrong = _rows(found)
        rows += [(found, number, row) for number, row in enumerate(fitting, 1)]
        if wrong:
            view.issues.append(_not_a_table(view.run, found, wrong))
    steps = [_step(view, found, number, row) for found, number, row in rows]
    return tuple(_with_times(view.run, steps))


def _rows(found: Found) -> tuple[list[Row], str]:
    """A table's rows, and what is wrong with the table (empty when nothing is)."""
    value = found.value
    if isinstance(value, str) and found.key.lower().endswith(".csv"):
        return _csv_rows(value)
    if isinstance(value, str) and found.key.lower().endswith(".jsonl"):
        return _json_lines(value)
    if not isinstance(value, Mapping):
        return [], "it is not a JSON object"
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return [], 'it has no lists "columns" and "data"'
    names = [str(column) for column in columns]
    rows: list[Row] = []
    for row in data:
        if isinstance(row, list) and len(row) == len(names):
            rows.append(dict(zip(names, row, strict=True)))
    odd = len(data) - len(rows)
    return rows, f"{odd} of its {len(data)} rows do not fit its columns" if odd else ""


def _csv_rows(text: str) -> tuple[list[Row], str]:
    rows: list[Row] = []
    try:
        rows.extend(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        return rows, f"it is not CSV after row {len(rows)}: {error}"
    return rows, ""


def _json_lines(text: str) -> tuple[list[Row], str]:
    lines = [line for line in text.splitlines() if line.strip()]
    parsed = [parse_json(line) for line in lines]
    rows = [row for row in parsed if isinstance(row, Mapping)]
    odd = len(lines) - len(rows)
    return rows, f"{odd} of its {len(lines)} lines are not JSON objects" if odd else ""


def _not_a_table(run: RunRecord, table: Found, wrong: str) -> Issue:
    return Issue(
        Code.ARTIFACT_NOT_TABLE,
        f"{run.artifact_dir}/{table.key}" if run.artifact_dir else table.key,
        f"{table.key} of run {run.run_id} can't be read as a table: {wrong}.",
        "the rows that can be read, and the file as an artifact",
        Kind.RUN,
        run.run_id,
    )


def _step(view: RunView, table: Found, number: int, row: Row) -> Step:
    cells = RunView(_as_run(view, row), view.profile)
    inputs, given = cells.inputs()
    outputs, got = cells.outputs()
    duration = cells.duration_ms(None)
    usage, counted = cells.usage()
    found = cells.first("model")
    cost = cells.number("cost_usd")
    used = {found.key for found in (*given, *got)}
    where = f"{table.origin} row {number}"
    model = found or view.first("model")
    judged = [replace(each, origin=f"{where}, {each.origin}") for each in judgements(cells)]
    return Step(
        key=f"{table.key}/row-{number}",
        name=f"{view.run.name.strip() or view.run.run_id} row {number}",
        type=SpanType.LLM if model is not None or any(counted) else SpanType.CHAIN,
        duration_ms=duration.ms if duration else None,
        inputs=inputs,
        outputs=outputs,
        usage=usage,
        cost_usd=cost[0] if cost else None,
        model=model,
        status=_status(cells, where),
        facts={f"column.{key}": value for key, value in row.items() if key not in used},
        judged=(*judged, *_scores(row, where, view)),
        origins={
            "type": "what the row holds",
            "name": where,
            "tokens": f"{where}, {counted}" if counted else "",
            "inputs": ", ".join([where, *(f.key for f in given)]),
            "outputs": ", ".join([where, *(f.key for f in got)]),
        },
    )


def _status(cells: RunView, where: str) -> Status:
    """ERROR if a column says so, else OK."""
    error = next((each for each in cells.every("error_message") if str(each.value).strip()), None)
    if error is None or str(error.value).strip().lower() in ("none", "null", "nan"):
        return Status("OK", where, True)
    return Status("ERROR", f"{where}, {error.key}", True, "", str(error.value))


def _as_run(view: RunView, row: Row) -> RunRecord:
    """Make a run of a row: numbers become metrics, everything else params.

    CSV and the prompt engineering UI write numbers as text; they count as numbers in a column that
    the profile lists as a metric.
    """
    run = view.run
    params: dict[str, str] = {}
    metrics: dict[str, tuple[MetricPoint, ...]] = {}
    for key, value in row.items():
        number = as_number(value)
        known = view.index.knows("metric", normalise(key))
        if number is not None and (known or not isinstance(value, str)):
            metrics[key] = (MetricPoint(run.end_ms or run.start_ms or 0, number, 0),)
        elif isinstance(value, str):
            params[key] = value
        elif value is not None and value != [] and not _is_nan(value):
            params[key] = encoding.encode(value)
    return replace(run, params=params, metrics=metrics, tags={}, artifacts=(), texts={})


def _is_nan(value: Json) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _scores(row: Row, where: str, view: RunView) -> Iterator[Judged]:
    """Yield the scores of ``mlflow.evaluate``: those of a judge come with a justification."""
    for key, value in row.items():
        match = SCORE.match(key)
        if match is None or not isinstance(value, (bool, int, float, str)):
            continue
        if value == "" or _is_nan(value):
            continue
        reason = row.get(f"{key.removesuffix('score')}justification")
        of_judge = isinstance(reason, str)
        judge = view.first("judge_model") if of_judge else None
        by = str(judge.value) if judge else f"{match['name']}{match['version'] or ''}"
        yield Judged(
            name=encoding.cut(match["name"], 250),
            value=value,
            type="feedback",
            source_type="LLM_JUDGE" if of_judge else "CODE",
            source_id=encoding.cut(by, 250),
            rationale=encoding.clean_text(str(reason).strip()) if of_judge else "",
            origin=f"{where}, {key}",
        )


def _with_times(run: RunRecord, steps: Sequence[Step]) -> Iterator[Step]:
    """Share the run's time out among its rows: a table has no times."""
    start, end = run.start_ms, run.end_ms or run.start_ms
    if start is None or end is None:
        yield from steps
        return
    known = [step.duration_ms for step in steps if step.duration_ms is not None]
    has_durations = len(known) == len(steps)
    note = "times: a table has none; the run's time was shared out among its rows"
    at_ms = float(start)
    if has_durations and sum(known) > 1.1 * max(end - start, 1):
        at_ms -= sum(known)
        note = "times: a table has none; its rows took longer than the run was open, so before it"
    for step in steps:
        slot_ms = step.duration_ms or 0.0
        if not has_durations:
            slot_ms = max(end - start, 0) / len(steps)
        length_ms = step.duration_ms if step.duration_ms is not None else slot_ms
        yield replace(
            step,
            start_ms=round(at_ms),
            end_ms=round(at_ms + length_ms),
            origins={**step.origins, "start": "share of the run", "end": "share of the run"},
            inferences=(note,),
        )
        at_ms += slot_ms
