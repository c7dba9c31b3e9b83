"""Steps that the rows of a logged table tell of: evaluations, predictions, prompt engineering.

Read are MLflow's tables ``{"columns": [...], "data": [[...]]}`` (``log_table``, the prompt
engineering UI's and ``mlflow.evaluate``'s ``eval_results_table.json``), CSV
(``mlflow.llm.log_predictions`` of 2.3 to 2.8) and JSON lines (promptflow's results). A row is read
as if it were a run whose params and metrics are its columns, so that a profile's names for prompts,
answers and tokens hold for both.
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
from migrator.transformer.profiles import normalise
from migrator.transformer.run_view import (
    Found,
    Judged,
    RunView,
    Status,
    Step,
    as_number,
    judgements,
    parse_json,
)

SCORE = re.compile(r"(?P<name>.+?)(?P<version>/v\d+)?/score\Z")  # mlflow.evaluate, 2.8 on
Row = Mapping[str, Json]


def row_steps(view: RunView) -> tuple[Step, ...]:
    """Return a step for each row of the tables of a run; nothing when none can be read."""
    rows: list[tuple[Found, int, Row]] = []
    for found in view.every("tables"):
        fitting, wrong = _rows(found)
        rows += [(found, number, row) for number, row in enumerate(fitting, 1)]
        if wrong:
            view.issues.append(_not_a_table(view.run, found, wrong))
    steps = [_step(view, found, number, row) for found, number, row in rows]
    return tuple(_with_times(view.run, steps))


def _rows(found: Found) -> tuple[list[Row], str]:
    """Return a table's rows, and what is wrong with it (nothing when all is right)."""
    value = found.value
    if isinstance(value, str) and found.key.lower().endswith(".csv"):
        rows: list[Row] = []
        try:
            rows.extend(csv.DictReader(io.StringIO(value), strict=True))
        except csv.Error as error:
            return rows, f"it is no CSV after row {len(rows)}: {error}"
        return rows, ""
    if isinstance(value, str) and found.key.lower().endswith(".jsonl"):
        lines = [line for line in value.splitlines() if line.strip()]
        rows = [row for line in lines if isinstance(row := parse_json(line), Mapping)]
        odd = len(lines) - len(rows)
        return rows, f"{odd} of its {len(lines)} lines are no JSON objects" if odd else ""
    if not isinstance(value, Mapping):
        return [], "it is no JSON object"
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return [], 'it has no lists "columns" and "data"'
    names = [str(column) for column in columns]
    rows = [
        dict(zip(names, row, strict=True))
        for row in data
        if isinstance(row, list) and len(row) == len(names)
    ]
    odd = len(data) - len(rows)
    return rows, f"{odd} of its {len(data)} rows do not fit its columns" if odd else ""


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
    used = {found.key for found in (*given, *got)}
    where = f"{table.origin} row {number}"
    model = found or view.first("model")
    error = next((f for f in cells.every("error_message") if str(f.value).strip()), None)
    status = Status("OK", where, True)
    if error is not None and str(error.value).strip().lower() not in ("none", "null", "nan"):
        status = Status("ERROR", f"{where}, {error.key}", True, "", str(error.value))
    judged = [replace(each, origin=f"{where}, {each.origin}") for each in judgements(cells)]
    return Step(
        key=f"{table.key}/row-{number}",
        name=f"{view.run.name.strip() or view.run.run_id} row {number}",
        type=SpanType.LLM if model is not None or any(counted) else SpanType.CHAIN,
        duration_ms=duration[0] if duration else None,
        inputs=inputs,
        outputs=outputs,
        usage=usage,
        cost_usd=cost[0] if (cost := cells.number("cost_usd")) else None,
        model=model,
        status=status,
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


def _as_run(view: RunView, row: Row) -> RunRecord:
    """Return a row as a run: numbers are its metrics, all else its params.

    CSV and the prompt engineering UI write numbers as text; where the profile knows a column's name
    as that of a metric, it is one.
    """
    run = view.run
    params: dict[str, str] = {}
    metrics: dict[str, tuple[MetricPoint, ...]] = {}
    for key, value in row.items():
        number = as_number(value)
        known = ("metric", normalise(key)) in view.profile.by_key
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
    """Share the run's time out among its rows: a table has none."""
    start, end = run.start_ms, run.end_ms or run.start_ms
    if start is None or end is None:
        yield from steps
        return
    known = [step.duration_ms for step in steps if step.duration_ms is not None]
    by_length = len(known) == len(steps)
    note = "times: a table has none; the run's time was shared out among its rows"
    at = float(start)
    if by_length and sum(known) > 1.1 * max(end - start, 1):
        at -= sum(known)
        note = "times: a table has none; its rows took longer than the run was open, so before it"
    for step in steps:
        slot = (step.duration_ms or 0.0) if by_length else max(end - start, 0) / len(steps)
        length = step.duration_ms if step.duration_ms is not None else slot
        yield replace(
            step,
            start_ms=round(at),
            end_ms=round(at + length),
            origins={**step.origins, "start": "share of the run", "end": "share of the run"},
            inferences=(note,),
        )
        at += slot
