"""Steps from the rows of logged tables: evaluations, predictions, prompt engineering.

A row is read as if it were a run whose params and metrics are its columns, so that a profile's
names for tokens, models and scores work for both. What a column means beside that is found by its
name and its type (``columns``). Tables of one run that are about the same samples are joined
(``joining``): each sample is one step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from migrator import encoding
from migrator.issues import Code, Issue, Kind
from migrator.model import Json, MetricPoint, RunRecord, SpanType
from migrator.transformer.found import Found, Judged, Status, Step
from migrator.transformer.input_parts import framed_chat
from migrator.transformer.judgements import judgements
from migrator.transformer.logged_tables import (
    Row,
    RowsOf,
    likely_tables,
    read_tables,
    tables_by_tag,
    tables_in_rows,
)
from migrator.transformer.profiles import AssessmentRule, Source, normalise, parse_source
from migrator.transformer.run_view import RunView
from migrator.transformer.steps.cells import column_names, is_empty, typed_rows
from migrator.transformer.steps.column_words import NEUTRAL, REASON_KEYS, VALUE_KEYS
from migrator.transformer.steps.columns import FIELDS_OF_ROWS, Meaning, Sorter
from migrator.transformer.steps.joining import EVALUATION_FILES, Sample, Table, join
from migrator.transformer.steps.nested import plain_rows
from migrator.transformer.steps.sides import one_model_each
from migrator.transformer.values import as_number, parse_json

SCORE = re.compile(r"(?P<name>.+?)(?P<version>/v\d+)?/score\Z")  # mlflow.evaluate, 2.8 on
VERSIONED = re.compile(r"(?:/v\d+)?/score\Z")
HUMAN = re.compile(r"(?:\A|_)(?:human|user|annotator|reviewer|thumbs?)(?:_|\Z)")
JUDGES = tuple(
    parse_source(text) for text in ("param:judge_model", "tag:judge_model", "param:evaluator_model")
)
"""Where a run names the model that judged."""
NAME_KEYS = ("name", "metric", "metric_name", "assessment_name", "scorer", "key", "criterion")
BESIDE_THE_CALL = (Meaning.FIELD, Meaning.FACT, Meaning.ID, Meaning.RULED)
"""Columns that hold neither what was asked or answered nor what was judged."""
NAME_CHARS = 250  # the length of an assessment's name and source in MLflow's table


def row_steps(view: RunView) -> tuple[Step, ...]:
    """A step for each sample in the tables of a run; nothing when no row can be read."""
    steps = [_step(view, sample) for sample in join(_tables(view))]
    return tuple(_with_times(view.run, steps))


def rows_as_runs(view: RunView) -> Iterator[RunRecord]:
    """Yield the samples in the tables of a run, each as a run whose keys are its columns."""
    for sample in join(_tables(view)):
        yield _as_run(view, _Cells.of(sample).row)


def _tables(view: RunView) -> list[Table]:
    """The tables in a run's files; a file that should be one and is none becomes an issue."""
    tagged = tables_by_tag(view.run)
    likely = {path for path in likely_tables(view.run) if _should_be_table(path, tagged)}
    tables: list[Table] = []
    for found in view.every("tables"):
        read = read_tables(found.key, found.value)
        made = _of_file(view, found.key, read, found.key in tagged)
        wrong = read[0].wrong
        if not wrong and not any(table.is_of_samples() for table in made):
            wrong = "it has no column with an answer or a score"
        if wrong and found.key in likely:
            view.issues.append(_not_a_table(view.run, found, wrong))
        tables += made
    return tables


def _of_file(view: RunView, path: str, read: Sequence[RowsOf], is_tagged: bool) -> list[Table]:
    """The tables of a file. Where one holds answers, others without are totals, not samples."""
    tables: list[Table] = []
    for each in read:
        if not each.rows:
            continue
        table = _table(view, _path(path, each), each.rows, is_tagged)
        inner: list[Table] = []
        if not (table.columns.asks and table.has_samples()):
            for inside in tables_in_rows(each):
                made = _table(view, _path(path, inside), inside.rows, is_tagged)
                inner += [made] if made.columns.asks and made.has_samples() else []
        tables += inner or [table]
    if any(table.has_answers() for table in tables):
        tables = [table for table in tables if table.has_answers() or not table.has_samples()]
    return tables


def _path(path: str, read: RowsOf) -> str:
    """The path of a file, with the keys of the table inside it."""
    return f"{path}#{read.place}" if read.place else path


def _should_be_table(path: str, tagged: frozenset[str]) -> bool:
    """Whether a file with a likely name holds a table for sure: JSON may hold anything."""
    name = path.rsplit("/", 1)[-1]
    return path in tagged or name in EVALUATION_FILES or not name.lower().endswith(".json")


def _table(view: RunView, path: str, rows: tuple[Row, ...], is_tagged: bool) -> Table:
    """Sort the columns of a table, by the profile and by their names and types."""
    rows = typed_rows(one_model_each(plain_rows(rows)))
    names = column_names(rows)
    first_cells: dict[str, Json] = {}
    for name in names:
        filled = (row[name] for row in rows if not is_empty(row.get(name)))
        first_cells[name] = next(filled, None)
    shape = RunView(_as_run(view, first_cells), view.profile)
    of_fields: set[str] = set()
    for field in FIELDS_OF_ROWS:
        of_fields.update(found.key for found in shape.every(field))
    ruled: set[str] = set()
    has_scores = False
    for rule, source in shape.judging():
        keys = [found.key for found in shape.all(source)]
        if _knows_only_the_name(rule, source):
            continue
        ruled.update(keys)
        has_scores = has_scores or (rule.type == "feedback" and bool(keys))
    columns = Sorter(names, rows, view.profile, of_fields, ruled).sort()
    return Table(path, rows, columns, is_tagged, has_scores)


def _knows_only_the_name(rule: AssessmentRule, source: Source) -> bool:
    """Whether a rule says no more of a score than how its name ends; the cells say more."""
    is_pattern = source.pattern is not None
    return is_pattern and rule.source_type == "CODE" and not rule.name and not rule.rationale


def _not_a_table(run: RunRecord, table: Found, wrong: str) -> Issue:
    return Issue(
        Code.ARTIFACT_NOT_TABLE,
        f"{run.artifact_dir}/{table.key}" if run.artifact_dir else table.key,
        f"{table.key} of run {run.run_id} can't be read as a table: {wrong}.",
        "the rows that can be read, and the file as an artifact",
        Kind.RUN,
        run.run_id,
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """The cells of a sample from all its tables, by meaning. Of one column the first table's."""

    row: Mapping[str, Json]
    meanings: Mapping[str, Meaning]
    scored: Mapping[str, str]  # the name of the feedback in a column
    reasons: Mapping[str, str]  # the column with the rationale of a feedback's name
    worded: frozenset[str]  # the feedback that a judge explains in words

    @classmethod
    def of(cls, sample: Sample) -> _Cells:
        row: dict[str, Json] = {}
        meanings: dict[str, Meaning] = {}
        scored: dict[str, str] = {}
        reasons: dict[str, str] = {}
        worded: frozenset[str] = frozenset()
        plain: set[str] = set()
        for table, cells in sample.parts:
            new = [name for name in cells if normalise(name) not in plain]
            plain.update(normalise(name) for name in new)
            for name in new:
                row[name], meanings[name] = cells[name], table.columns.meanings[name]
            scored = {**table.columns.scored, **scored}
            reasons = {**table.columns.reasons, **reasons}
            worded |= table.columns.worded
        return cls(row, meanings, scored, reasons, worded)

    def of_meaning(self, meaning: Meaning) -> dict[str, Json]:
        """The cells of a meaning, by their columns; each value once."""
        found: dict[str, Json] = {}
        for name, value in self.row.items():
            if self.meanings[name] is meaning and value not in found.values():
                found[name] = value
        return found


def _step(view: RunView, sample: Sample) -> Step:
    cells = _Cells.of(sample)
    row = RunView(_as_run(view, cells.row), view.profile)
    inputs, given = _inputs(cells)
    outputs, got = _outputs(cells)
    duration = row.duration_ms(None)
    usage, counted = row.usage()
    own_model = _own_model(row, cells)
    cost = row.number("cost_usd")
    where = f"{sample.table.origin} row {sample.number}"
    judged = tuple(_judged(view, sample, cells, row))
    model = own_model or view.model() or (view.root and view.root.model()) or None
    shown = (Meaning.INPUT, Meaning.OUTPUT)
    facts = {
        f"column.{name}": value
        for name, value in cells.row.items()
        if cells.meanings[name] not in shown
    }
    facts.update({f"table.{path}": list(rows) for path, rows in sample.details.items()})
    name = view.run.name.strip() or view.run.run_id
    return Step(
        key=f"{sample.table.path}/row-{sample.number}",
        name=f"{name} row {sample.number}",
        type=SpanType.LLM if model is not None or any(usage) else SpanType.CHAIN,
        duration_ms=duration.ms if duration else None,
        inputs=inputs,
        outputs=outputs,
        usage=usage,
        token_details=row.token_details(),
        cost_usd=cost[0] if cost else None,
        model=model,
        session=row.text("session") or None,
        status=_status(row, judged, where),
        facts=facts,
        judged=judged,
        origins={
            "type": "what the row holds",
            "name": where,
            "tokens": f"{where}, {counted}" if counted else "",
            "inputs": ", ".join([where, *given]),
            "outputs": ", ".join([where, *got]),
        },
    )


def _own_model(row: RunView, cells: _Cells) -> Found | None:
    """The model that a row names for itself, not in a question, an answer or a score."""
    listed = {found.key for found in row.every("model")}
    for found in row.models():
        if found.key in listed or cells.meanings.get(found.key) in BESIDE_THE_CALL:
            return found
    return None


def _inputs(cells: _Cells) -> tuple[Json, tuple[str, ...]]:
    """The inputs of a sample and the columns they stand in."""
    found = cells.of_meaning(Meaning.INPUT)
    if not found:
        return None, ()
    values = {
        name: parse_json(each) if isinstance(each, str) else each for name, each in found.items()
    }
    if len(values) == 1:
        (only,) = values.values()
        if encoding.is_chat(only):
            return {"messages": only}, tuple(found)
        if isinstance(only, Mapping):
            return only, tuple(found)
    stems = {normalise(name): value for name, value in values.items()}
    if (chat := framed_chat(stems)) is not None:
        return {"messages": chat}, tuple(found)
    return stems, tuple(found)


def _outputs(cells: _Cells) -> tuple[Json, tuple[str, ...]]:
    """The outputs of a sample and the columns they stand in."""
    found = cells.of_meaning(Meaning.OUTPUT)
    values = {
        name: parse_json(each) if isinstance(each, str) else each for name, each in found.items()
    }
    if len(values) == 1:
        (only,) = values.values()
        return only, tuple(found)
    return ({normalise(name): value for name, value in values.items()} or None), tuple(found)


def _status(cells: RunView, judged: Sequence[Judged], where: str) -> Status:
    """ERROR if a column says so, other than in the words of a grader; else OK."""
    reasons = {each.rationale for each in judged if each.rationale}
    error = next((each for each in cells.every("error_message") if str(each.value).strip()), None)
    if error is None or str(error.value).strip().lower() in ("none", "null", "nan"):
        return Status("OK", where, True)
    said = str(error.value)
    if said.strip() in reasons:
        return Status("OK", where, True)  # what a test found wrong with the answer
    return Status("ERROR", f"{where}, {error.key}", True, "", said)


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
        elif not is_empty(value):
            params[key] = encoding.encode(value)
    return replace(run, params=params, metrics=metrics, tags={}, artifacts=(), texts={})


# --------------------------------------------------------------------------- judgements


def _judged(view: RunView, sample: Sample, cells: _Cells, row: RunView) -> Iterator[Judged]:
    """Yield expectations and scores: by the profile's rules, then by meaning, each name once."""
    where = f"{sample.table.origin} row {sample.number}"
    names: set[str] = set()
    for each in (
        *_by_rules(cells, row, where),
        *_expectations(cells, where),
        *_listed_scores(view, sample),
        *_column_scores(view, cells, where),
    ):
        if each.name not in names:
            names.add(each.name)
            yield each


def _by_rules(cells: _Cells, row: RunView, where: str) -> Iterator[Judged]:
    for each in judgements(row):
        key = each.origin.partition(" ")[2]
        if cells.meanings.get(key) is not Meaning.RULED:
            continue
        value = each.value
        cell = cells.row.get(key)
        if isinstance(value, float) and isinstance(cell, int) and not isinstance(cell, bool):
            value = cell  # a metric is a float, the table has a whole number
        yield replace(
            each,
            value=value,
            rationale=each.rationale or _reason(cells, each.name),
            source_id=f"column {key}" if each.source_id == each.origin else each.source_id,
            origin=f"{where}, {key}",
        )


def _expectations(cells: _Cells, where: str) -> Iterator[Judged]:
    for column, value in cells.of_meaning(Meaning.EXPECTATION).items():
        for name, expected in _named_expectations(column, value):
            yield Judged(
                name=encoding.cut(encoding.clean_text(name), NAME_CHARS),
                value=expected,
                type="expectation",
                source_type="HUMAN",
                source_id=encoding.cut(f"column {column}", NAME_CHARS),
                rationale="",
                origin=f"{where}, {column}" if name == column else f"{where}, {column} {name}",
            )


def _named_expectations(column: str, value: Json) -> Iterator[tuple[str, Json]]:
    """Yield what was expected by name: ``mlflow.genai.evaluate`` has one object of them all."""
    entries = parse_json(value) if isinstance(value, str) else value
    if normalise(column) == "expectations" and isinstance(entries, Mapping):
        yield from entries.items()
    else:
        yield column, value


def _column_scores(view: RunView, cells: _Cells, where: str) -> Iterator[Judged]:
    """Yield the scores in a sample's own columns; an object of scores gives each of them."""
    for column, value in cells.row.items():
        if cells.meanings[column] is not Meaning.FEEDBACK:
            continue
        origin = f"{where}, {column}"
        name = cells.scored[column]
        scores = parse_json(value) if isinstance(value, str) else value
        if isinstance(scores, (Mapping, list)):
            for inner, entry in _named_scores(name, scores):
                score, reason = _score_and_reason(entry)
                if score is not None and not NEUTRAL.search(normalise(inner)):
                    yield _feedback(view, inner, inner, (score, reason), f"{origin} {inner}")
            continue
        match = SCORE.match(column)
        by = f"{match['name']}{match['version'] or ''}" if match else column
        judged = (value, _reason(cells, name))
        yield _feedback(view, name, by, judged, origin, is_worded=name in cells.worded)


def _named_scores(column: str, scores: Json) -> Iterator[tuple[str, Json]]:
    """Yield the scores in a cell: a list of them, one of them, or an object of them by name."""
    if isinstance(scores, list):
        for entry in scores:
            if isinstance(entry, Mapping):
                name = next((entry[key] for key in NAME_KEYS if key in entry), None)
                if isinstance(name, str):
                    yield name, entry
    elif isinstance(scores, Mapping):
        if not set(scores).isdisjoint(VALUE_KEYS) and not set(scores).isdisjoint(REASON_KEYS):
            yield column, scores
        else:
            yield from scores.items()


def _score_and_reason(entry: Json) -> tuple[Json, str]:
    """The value and rationale in an object of scores; None when it holds no score."""
    if not isinstance(entry, Mapping):
        return (entry if _is_scalar(entry) else None), ""
    reason = next((entry[key] for key in REASON_KEYS if key in entry), "")
    value = next((entry[key] for key in VALUE_KEYS if key in entry), None)
    inner = entry.get("feedback")
    if value is None and isinstance(inner, Mapping):
        value = inner.get("value")
    return (value if _is_scalar(value) else None), str(reason or "")


def _is_scalar(value: Json) -> bool:
    return isinstance(value, (bool, int, float, str)) and not is_empty(value)


def _listed_scores(view: RunView, sample: Sample) -> Iterator[Judged]:
    """Yield the scores of tables that have a row for each score."""
    for table, row in sample.scores:
        at = table.long_scores()
        if at is None or not _is_scalar(row.get(at.value)) or is_empty(row.get(at.name)):
            continue
        name = str(row[at.name])
        reason = str(row.get(at.reason) or "") if at.reason else ""
        yield _feedback(view, name, name, (row[at.value], reason), f"{table.origin}, {name}")


def _reason(cells: _Cells, name: str) -> str:
    column = cells.reasons.get(name)
    value = cells.row.get(column) if column else None
    return "" if value is None else encoding.clean_text(str(value)).strip()


def _feedback(
    view: RunView,
    name: str,
    by: str,
    judged: tuple[Json, str],
    origin: str,
    *,
    is_worded: bool = False,
) -> Judged:
    """A score with the name of its source: a judge gives reasons in words, code does not."""
    value, rationale = judged
    is_worded = is_worded or " " in rationale.strip()
    source = _source_type(view, name, origin, has_rationale=bool(rationale), is_worded=is_worded)
    judges = [found.value for at in JUDGES for found in view.all(at)]
    by = str(judges[0]) if judges and source == "LLM_JUDGE" else by
    return Judged(
        name=encoding.cut(encoding.clean_text(name), NAME_CHARS),
        value=value,
        type="feedback",
        source_type=source,
        source_id=encoding.cut(by, NAME_CHARS),
        rationale=encoding.clean_text(rationale).strip(),
        origin=origin,
    )


def _source_type(
    view: RunView, name: str, origin: str, *, has_rationale: bool, is_worded: bool
) -> str:
    """By the profile's rule for a metric of that name, else by the name and the rationale."""
    if VERSIONED.search(origin):  # mlflow.evaluate: a judge always gives its reasons
        return "LLM_JUDGE" if has_rationale else "CODE"
    for each in view.index.judging_among("metric", [normalise(name)]):
        rule = view.profile.assessments[each.rule]
        if rule.type == "feedback":
            return rule.source_type
    if HUMAN.search(normalise(name)):
        return "HUMAN"
    return "LLM_JUDGE" if is_worded or "llm_judged" in origin else "CODE"


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
