"""The samples of a run's tables: rows of several tables that are about one sample are joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from migrator import encoding
from migrator.model import Json
from migrator.transformer.logged_tables import Row
from migrator.transformer.profiles import normalise
from migrator.transformer.steps.cells import Cells, cell_type, is_empty
from migrator.transformer.steps.columns import Columns, Meaning
from migrator.transformer.values import as_number, words

SAMPLE_IDS = (
    "id", "sample_id", "request_id", "question_id", "example_id", "case_id", "test_case_id",
    "item_id", "query_id", "prompt_id", "record_id", "row_id", "trace_id", "qid", "uid", "uuid",
)  # fmt: skip
"""Names of columns with the id of a sample, the likeliest first; ``id`` may join any of them."""
POSITIONS = words("idx index row line_number fold turn seed hash unnamed_0")
"""Ids that only mean something beside the same column of another table."""
EPOCH = "epoch"
TEXTS = frozenset({Cells.WORD, Cells.TEXT, Cells.STRUCTURE})
EVALUATION_FILES = words(
    "eval_results_table.json llm_predictions.csv instance_results.jsonl result_table.json "
    "inference_inputs_outputs.json"
)
"""Names that say that every row is a sample, whatever its columns are called."""
SCORERS = words(
    "scorer metric metric_name criterion evaluator score_name assessment_name dimension"
)
SCORE_VALUES = ("score", "numeric_value", "value", "rating", "raw_value", "result")
SCORE_REASONS = ("explanation", "reason", "rationale", "justification", "comment")


@dataclass(frozen=True, slots=True)
class LongScores:
    """The columns of a table that has a row for each score: its name, value and rationale."""

    name: str
    value: str
    reason: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of a run with its columns by meaning."""

    path: str
    rows: tuple[Row, ...]
    columns: Columns
    is_tagged: bool  # ``mlflow.log_table`` wrote it
    ruled_scores: bool  # a rule of the profile reads a score in it

    @property
    def origin(self) -> str:
        return f"artifact {self.path}"

    def column(self, plain: str) -> str | None:
        """The column with a normalised name."""
        return next((name for name in self.columns.meanings if normalise(name) == plain), None)

    def long_scores(self) -> LongScores | None:
        """How the table lists scores, if it has a row for each score."""
        scorer = next((name for plain in SCORERS if (name := self.column(plain))), None)
        if scorer is None:
            return None
        value = next((name for plain in SCORE_VALUES if (name := self.column(plain))), None)
        reason = next((name for plain in SCORE_REASONS if (name := self.column(plain))), None)
        return LongScores(scorer, value, reason) if value is not None else None

    def is_of_samples(self) -> bool:
        """Whether it says something about samples: its rows are some, or have the ids of some."""
        return self.has_samples() or self.id_column() is not None

    def has_answers(self) -> bool:
        """Whether its rows are samples with an answer."""
        return bool(self.columns.of(Meaning.OUTPUT)) and self.has_samples()

    def has_samples(self) -> bool:
        """Whether its rows are samples: texts with an answer, or questions with a score."""
        if self.long_scores() is not None:
            return False
        given = self._types(Meaning.INPUT)
        if given and TEXTS.isdisjoint(given):
            return False  # numbers are features of ordinary machine learning
        has_answer = not TEXTS.isdisjoint(self._types(Meaning.OUTPUT))
        if self.path.partition("#")[0].rsplit("/", 1)[-1] in EVALUATION_FILES:
            return bool(given) or has_answer
        is_scored = self.ruled_scores or bool(self.columns.scored)
        if not has_answer:
            is_judged = self.ruled_scores or self.columns.judges
            has_result = is_judged or bool(self.columns.of(Meaning.OUTPUT))
            is_asked = self.columns.asks or bool(self.columns.worded)  # else totals, as of tasks
            return bool(given) and has_result and is_asked
        return self.columns.speaks or is_scored

    def _types(self, meaning: Meaning) -> list[Cells]:
        names = self.columns.of(meaning)
        return [cell_type(_read(row.get(name)) for row in self.rows) for name in names]

    def id_column(self) -> str | None:
        """The column that tells its samples apart best."""
        ids = {normalise(name): name for name in self.columns.of(Meaning.ID)}
        for plain in SAMPLE_IDS:
            column = ids.get(plain)
            if column is not None and (len(ids) == 1 or len(self.ids(column)) > 1):
                return column
        others = [name for plain, name in ids.items() if plain != EPOCH]
        return max(others, key=lambda name: len(self.ids(name)), default=None)

    def ids(self, column: str) -> set[str]:
        return {_text(row.get(column)) for row in self.rows if not is_empty(row.get(column))}

    def has_repeated_ids(self) -> bool:
        """Whether several rows have one id, such as the messages of a sample."""
        column = self.id_column()
        if column is None:
            return False
        epoch = self.column(EPOCH)
        keys = [(_text(row.get(column)), _text(row.get(epoch or ""))) for row in self.rows]
        return len(set(keys)) < len(keys)


@dataclass(slots=True, eq=False)
class Sample:
    """What a run's tables say about one sample."""

    table: Table  # the first that names it
    number: int  # of its row there, from 1
    parts: list[tuple[Table, Row]]  # at most one row of each table
    scores: list[tuple[Table, Row]] = field(default_factory=list)  # of tables of scores
    details: dict[str, list[Row]] = field(default_factory=dict)  # by path: several rows of a table

    @property
    def row(self) -> Row:
        return self.parts[0][1]


@dataclass(slots=True, eq=False)
class _Group:
    """The samples of one table, with what other tables say about them."""

    table: Table
    samples: list[Sample]


def join(tables: Iterable[Table]) -> list[Sample]:
    """The samples of all tables: tables that share an id column, or their inputs, are joined."""
    ordered = sorted(tables, key=lambda table: (table.has_repeated_ids(), not table.is_tagged))
    groups: list[_Group] = []
    for table in ordered:
        if table.has_samples() and not any(_attach(group, table) for group in groups):
            groups.append(_group(table))
    if not groups:
        groups = [_group(table) for table in ordered if _is_answered_elsewhere(table, ordered)][:1]
    for table in ordered:
        if not any(table is group.table for group in groups) and not table.has_samples():
            any(_attach(group, table) for group in groups)
    samples: list[Sample] = []
    for group in groups:
        samples += group.samples
    return samples


def _is_answered_elsewhere(table: Table, tables: Iterable[Table]) -> bool:
    """Whether a table holds the questions, and another by the same ids their answers or scores."""
    if not table.columns.asks or table.has_repeated_ids():
        return False
    for other in tables:
        has_result = other.columns.of(Meaning.OUTPUT) or other.columns.scored or other.ruled_scores
        if other is not table and has_result and _shared_ids(table, other):
            return True
    return False


def _group(table: Table) -> _Group:
    samples = [
        Sample(table, number, [(table, row)]) for number, row in enumerate(table.rows, start=1)
    ]
    return _Group(table, samples)


def _attach(group: _Group, table: Table) -> bool:
    """Join a table to a group. False: it is about other samples, or about other answers."""
    keys = _shared_ids(group.table, table) or _shared_inputs(group.table, table)
    if keys is None:
        return False
    own, other = keys
    rows: dict[str, list[Row]] = {}
    for row in table.rows:
        rows.setdefault(_key(row, other), []).append(row)
    if _is_other_answer(group, table, own, rows):
        return False
    of_key: dict[str, list[Sample]] = {}
    for sample in group.samples:
        of_key.setdefault(_key(sample.row, own), []).append(sample)
    for key, samples in of_key.items():
        _give(samples, table, rows.pop(key, []))
    if table.has_samples():  # samples that only this table has
        taken = {id(row) for left in rows.values() for row in left}
        group.samples += [each for each in _group(table).samples if id(each.row) in taken]
    return True


def _give(samples: Sequence[Sample], table: Table, rows: Sequence[Row]) -> None:
    """Give rows of a table to the samples of one key: one sample, or one for each epoch."""
    by_epoch = table.column(EPOCH)
    is_row_each = by_epoch is None and len(rows) == len(samples)
    for at, sample in enumerate(samples):
        mine = [rows[at]] if is_row_each else list(rows)
        own_epoch = sample.table.column(EPOCH)
        if by_epoch is not None and own_epoch is not None:
            epoch = _text(sample.row.get(own_epoch))
            mine = [row for row in rows if _text(row.get(by_epoch)) == epoch]
        if table.long_scores() is not None:
            sample.scores += [(table, row) for row in mine]
        elif len(mine) == 1:
            sample.parts.append((table, mine[0]))
        elif mine:
            sample.details[table.path] = mine


def _shared_ids(own: Table, other: Table) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The columns by whose values two tables are joined: most ids of one are ids of the other."""
    column = own.id_column()
    if column is None:
        return None
    plain, ids = normalise(column), own.ids(column)
    for candidate in _candidates(plain, other):
        found = other.ids(candidate)
        if found and 2 * len(found & ids) >= min(len(found), len(ids)):
            return (column,), (candidate,)
    return None


def _candidates(plain: str, other: Table) -> list[str]:
    ids = {normalise(name): name for name in other.columns.of(Meaning.ID)}
    names = [plain]
    if plain == "id":
        names += SAMPLE_IDS
    elif plain not in POSITIONS:
        names.append("id")
    return [ids[name] for name in names if name in ids]


def _shared_inputs(own: Table, other: Table) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The input columns that two tables of samples share, if they tell the samples apart."""
    if not (own.has_samples() and other.has_samples()):
        return None
    shared = [name for name in own.columns.of(Meaning.INPUT) if name in other.columns.meanings]
    if not shared:
        return None
    columns = tuple(shared)
    keys = [{_key(row, columns) for row in table.rows} for table in (own, other)]
    are_unique = len(keys[0]) == len(own.rows) and len(keys[1]) == len(other.rows)
    if not are_unique or 2 * len(keys[0] & keys[1]) < len(keys[1]):
        return None
    return columns, columns


def _is_other_answer(
    group: _Group, table: Table, own: tuple[str, ...], rows: Mapping[str, Sequence[Row]]
) -> bool:
    """Whether a table holds other answers, as of another model, or questions with ids of its own.

    Those are the numbers of rows, which each file of a benchmark's tasks counts from 0.
    """
    for meaning in (Meaning.INPUT, Meaning.OUTPUT):
        of_group = group.table.columns.of(meaning)
        same_name = [name for name in of_group if table.columns.meanings.get(name) is meaning]
        if _differ(group, rows, own, same_name):
            return True
    return False


def _differ(
    group: _Group,
    rows: Mapping[str, Sequence[Row]],
    own: tuple[str, ...],
    shared: Sequence[str],
) -> bool:
    """Whether most texts of the shared columns are not those of the group's samples."""
    same = different = 0
    for sample in group.samples:
        matches = rows.get(_key(sample.row, own), ())
        if len(matches) != 1:
            continue
        for name in shared:
            mine, theirs = sample.row.get(name), matches[0].get(name)
            if isinstance(mine, str) and isinstance(theirs, str):
                is_same = mine.strip() == theirs.strip()
                same, different = same + is_same, different + (not is_same)
    return different > same


def _key(row: Row, columns: Sequence[str]) -> str:
    return "\n".join(_text(row.get(column)) for column in columns)


def _read(cell: Json) -> Json:
    """A cell, as a number where a file has it as text: an answer may be one, a class too."""
    number = as_number(cell)
    return cell if number is None else number


def _text(cell: Json) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.strip() if isinstance(cell, str) else encoding.encode(cell)
