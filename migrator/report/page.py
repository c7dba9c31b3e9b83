"""What the HTML report shows, as plain values: ``page.html`` has the words and the markup."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.counting import counted
from migrator.databases import new_targets
from migrator.issues import Code, Issue, Kind, Severity
from migrator.outcome.examples import Examples, ExampleSpan, ExampleTrace
from migrator.outcome.summary import ExperimentSummary, Outcome, Overall, TreeSize, Week, monday
from migrator.paths import readable_path
from migrator.report.artifacts import hollow_lines
from migrator.report.charts import Chart, bars_of, chart
from migrator.report.formats import date_range, size
from migrator.report.links import MOST_LINKS, Link, server_command, trace_links
from migrator.report.roles import roles_text
from migrator.report.text import artifacts_text, files_text, kept_lines, rebuilt_lines
from migrator.report.tree import duration, moment

PLACES_PER_CODE = 1000  # no browser opens a page with a million rows; the JSON report has all
FEWEST_WEEKS = 3  # that have runs or traces: a chart of fewer would say nothing
MOST_ALIKE = 3  # trees of one size, shown of each experiment
DEEPEST = 12  # levels by which a span's name is moved to the right
LEDGER_COLUMNS = ("found", "converted", "already_there", "merged", "rejected", "left_out")


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; ``style`` is the class of its cells (n for numbers, bar, long, word)."""

    title: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell. ``form`` is how the template writes it: text, code, days, bar or tree.

    ``below`` is a second, smaller line; ``percent`` the length of a bar.
    """

    text: str
    form: str = "text"
    below: str = ""
    percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a name that scripts and tests can find it by."""

    name: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]

    @property
    def titled_rows(self) -> list[list[tuple[Column, Cell]]]:
        """The rows, each cell with its column."""
        return [list(zip(self.columns, row, strict=True)) for row in self.rows]

    def without_empty_columns(self) -> Table:
        """The table without the columns in which no row has a text."""
        kept = [
            number
            for number in range(len(self.columns))
            if not self.rows or any(row[number].text for row in self.rows)
        ]
        columns = tuple(self.columns[number] for number in kept)
        return Table(self.name, columns, [[row[number] for number in kept] for row in self.rows])


@dataclass(frozen=True, slots=True)
class Tile:
    """A total at the top of the page, with what it is made of."""

    name: str
    label: str
    number: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Runs and tokens by week; ``untimed`` runs have no start time."""

    charts: list[Chart]
    weeks_per_bar: int
    has_gap: bool
    table: Table
    untimed: int


@dataclass(frozen=True, slots=True)
class Experiments:
    """The experiments with runs or traces, the number of the others, and trees kept as runs."""

    table: Table
    empty: int
    kept: list[str]


@dataclass(frozen=True, slots=True)
class Trees:
    """The biggest trees of nested runs, and the command that draws the first."""

    table: Table
    command: str


@dataclass(frozen=True, slots=True)
class DrawnSpan:
    """A span of a drawn trace; ``left`` and ``width`` are percent of the trace's time."""

    name: str
    kind: str
    is_error: bool
    depth: int
    left: float
    width: float
    length: str


@dataclass(frozen=True, slots=True)
class DrawnTrace:
    """A trace that is drawn as a tree; ``more`` of its spans are not."""

    title: str
    facts: str
    spans: list[DrawnSpan]
    more: int


@dataclass(frozen=True, slots=True)
class IssueGroup:
    """All issues of one code; ``more`` of its places are not in the table."""

    code: Code
    total: int
    places: int
    table: Table
    more: int


@dataclass(frozen=True, slots=True)
class Issues:
    """Issues by code, and their counts by severity (most severe first)."""

    totals: dict[str, int]
    groups: list[IssueGroup]


@dataclass(frozen=True, slots=True)
class LedgerTable:
    """The ledger, with a line each on files, rebuilt traces and artifacts."""

    table: Table
    lines: list[str]


@dataclass(frozen=True, slots=True)
class Next:
    """The command to type next, and links into the server that it starts."""

    command: str
    links: list[Link]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page; a section that is None is left out."""

    outcome: Outcome
    is_written: bool
    rejected: int
    has_damage: bool
    attention: list[str]
    tiles: list[Tile]
    timeline: Timeline | None
    experiments: Experiments
    trees: Trees | None
    traces: list[DrawnTrace] | None
    new_ids: Table | None
    issues: Issues
    ledger: LedgerTable
    next: Next | None


def page_of(outcome: Outcome, values: bool) -> Page:
    """Compute the page of an outcome; with ``values``, issues show what the source says."""
    issues, overall = _issues(outcome, values), outcome.overall
    return Page(
        outcome=outcome,
        is_written=_is_written(outcome),
        rejected=_rejected(outcome),
        has_damage=bool(issues.totals["rejected"] or issues.totals["degraded"]),
        attention=hollow_lines(outcome.artifacts.hollow),
        tiles=_tiles(outcome),
        timeline=_timeline(outcome, overall),
        experiments=_experiments(outcome),
        trees=_trees(overall),
        traces=_traces(overall.examples) or None,
        new_ids=_new_ids(outcome, overall),
        issues=issues,
        ledger=_ledger(outcome),
        next=_next(outcome),
    )


def _is_written(outcome: Outcome) -> bool:
    return outcome.target is not None and not outcome.dry_run


def _rejected(outcome: Outcome) -> int:
    issues = outcome.ledger.issues
    return sum(issue.count for issue in issues if issue.severity is Severity.REJECTED)


def _tiles(outcome: Outcome) -> list[Tile]:
    ledger, experiments = outcome.ledger, outcome.experiments
    native = sum(e.native_traces for e in experiments)
    rebuilt = sum(e.traces for e in experiments)
    origin = f"{rebuilt:,} from runs, {native:,} that the source has" if native else ""
    input_tokens = sum(e.input_tokens for e in experiments)
    output_tokens = sum(e.output_tokens for e in experiments)
    tokens_note = f"{input_tokens:,} in, {output_tokens:,} out"
    first = [e.first_ms for e in experiments if e.first_ms is not None]
    last = [e.last_ms for e in experiments if e.last_ms is not None]
    dates = date_range(min(first), max(last)) if first and last else ""
    return [
        Tile("runs", "Runs", ledger.found[Kind.RUN], dates),
        Tile("traces", "Traces", rebuilt + native, origin),
        Tile("tokens", "Tokens", input_tokens + output_tokens, tokens_note),
        Tile("experiments", "Experiments", ledger.found[Kind.EXPERIMENT]),
        Tile("files", "Files", ledger.files, size(ledger.size_bytes)),
        Tile("rejected", "Rejected", _rejected(outcome), "of all kinds"),
    ]


def _timeline(outcome: Outcome, overall: Overall) -> Timeline | None:
    weeks = dict(sorted(overall.weeks.items()))
    if not weeks:
        return None
    bars, weeks_per_bar = bars_of(weeks)
    has_chart = len(weeks) >= FEWEST_WEEKS
    charts = [chart(bars, ("runs",))] if has_chart else []
    if has_chart and any(week.input_tokens or week.output_tokens for week in weeks.values()):
        charts.append(chart(bars, ("output_tokens", "input_tokens")))
    columns = (
        Column("week from"),
        Column("runs", "n"),
        Column("traces", "n"),
        Column("input tokens", "n"),
        Column("output tokens", "n"),
    )
    rows = [
        [Cell(monday(number).isoformat()), *_week_cells(week)] for number, week in weeks.items()
    ]
    return Timeline(
        charts=charts,
        weeks_per_bar=weeks_per_bar,
        has_gap=any(bar.first_day is None for bar in bars),
        table=Table("weeks", columns, rows),
        untimed=sum(e.runs for e in outcome.experiments) - sum(w.runs for w in weeks.values()),
    )


def _week_cells(week: Week) -> list[Cell]:
    return _number_cells(week.runs, week.traces, week.input_tokens, week.output_tokens)


def _experiments(outcome: Outcome) -> Experiments:
    columns = (
        Column("experiment"),
        Column("runs", "n bar"),
        Column("traces", "n"),
        Column("spans", "n"),
        Column("tokens", "n"),
        Column("roles of its trees", "long"),
        Column("dates", "long"),
    )
    most = max((e.runs for e in outcome.experiments), default=0)
    shown = [e for e in outcome.experiments if e.runs or e.native_traces]
    rows = [
        [
            Cell(e.name, below=_experiment_facts(e, outcome)),
            _bar(e.runs, most),
            *_number_cells(
                e.traces + e.native_traces,
                e.spans + e.native_spans,
                e.input_tokens + e.output_tokens,
            ),
            Cell(roles_text(e.roles)),
            Cell(date_range(e.first_ms, e.last_ms), "days"),
        ]
        for e in shown
    ]
    table = Table("experiments", columns, rows).without_empty_columns()
    return Experiments(table, len(outcome.experiments) - len(shown), kept_lines(outcome))


def _experiment_facts(experiment: ExperimentSummary, outcome: Outcome) -> str:
    """Describe an experiment in a line: id, stage, source, and its place in the target."""
    facts = f"id {experiment.experiment_id}"
    if experiment.lifecycle_stage == "deleted":
        facts += ", deleted"
    if len(outcome.sources) > 1:
        facts += f", from {experiment.source}"
    changes = []
    if experiment.target_name != experiment.name:
        changes.append(f"named {experiment.target_name}")
    if str(experiment.target_id) != experiment.experiment_id:
        changes.append(f"id {experiment.target_id}")
    return f"{facts}; in the target {', '.join(changes)}" if changes else facts


def _trees(overall: Overall) -> Trees | None:
    biggest = overall.biggest
    if not biggest:
        return None
    columns = (
        Column("root run"),
        Column("runs", "n bar"),
        Column("levels", "n"),
        Column("role", "word"),
        Column("traces", "n"),
        Column("spans", "n"),
        Column("tokens", "n"),
        Column("start"),
        Column("experiment"),
    )
    most = max(tree.runs for _, tree in biggest)
    shown = _without_repeats(biggest)
    rows = [_tree_cells(experiment, tree, most) for experiment, tree in shown]
    command = shlex.join(["mlflow-migrate", "show", biggest[0][1].root_run_id])
    return Trees(Table("trees", columns, rows), command)


def _without_repeats(
    trees: Sequence[tuple[ExperimentSummary, TreeSize]],
) -> list[tuple[ExperimentSummary, TreeSize]]:
    """The first few of those that differ in name and id only."""
    seen: Counter[tuple[object, ...]] = Counter()
    shown = []
    for experiment, tree in trees:
        kind = (experiment.target_id, tree.runs, tree.depth, tree.role, tree.traces, tree.spans)
        seen[kind] += 1
        if seen[kind] <= MOST_ALIKE:
            shown.append((experiment, tree))
    return shown


def _traces(examples: Examples) -> list[DrawnTrace]:
    """Draw each example once, under all its titles."""
    titles: dict[str, list[str]] = {}
    found: dict[str, ExampleTrace] = {}
    for title, example in (
        ("the biggest", examples.biggest),
        ("the slowest", examples.slowest),
        ("a failed one", examples.failed),
    ):
        if example is not None:
            titles.setdefault(example.trace_id, []).append(title)
            found[example.trace_id] = example
    return [_drawn(found[trace_id], ", ".join(words)) for trace_id, words in titles.items()]


def _drawn(example: ExampleTrace, words: str) -> DrawnTrace:
    whole_ns = max(1, example.length_ns)
    return DrawnTrace(
        title=words[0].upper() + words[1:],
        facts=f"{example.experiment}, {moment(example.start_ns)}, {duration(example.length_ns)}, "
        f"{counted(example.spans_count, 'span')}, {example.trace_id}",
        spans=[_drawn_span(span, whole_ns) for span in example.spans],
        more=example.spans_count - len(example.spans),
    )


def _drawn_span(span: ExampleSpan, whole_ns: int) -> DrawnSpan:
    """A bar that stays inside the trace's time, also where a span does not."""
    words = []
    if span.type != "UNKNOWN":
        words.append(span.type)
    if span.is_error:
        words.append("failed")
    left = min(99.5, max(0.0, 100 * span.start_ns / whole_ns))
    return DrawnSpan(
        name=span.name,
        kind=", ".join(words),
        is_error=span.is_error,
        depth=min(span.depth, DEEPEST),
        left=left,
        width=max(0.5, min(100 - left, 100 * span.length_ns / whole_ns)),
        length=duration(span.length_ns),
    )


def _tree_cells(experiment: ExperimentSummary, tree: TreeSize, most: int) -> list[Cell]:
    return [
        Cell(tree.name or tree.root_run_id, "tree", below=tree.root_run_id),
        _bar(tree.runs, most),
        Cell(str(tree.depth)),
        Cell(tree.role),
        *_number_cells(tree.traces, tree.spans, tree.tokens),
        Cell(date_range(tree.start_ms, tree.start_ms), "days"),
        Cell(experiment.name),
    ]


def _new_ids(outcome: Outcome, overall: Overall) -> Table | None:
    if outcome.target is None or not overall.new_ids:
        return None
    columns = (Column("old id"), Column("new id"), Column("experiment"))
    rows = [[Cell(e.experiment_id), Cell(str(e.target_id)), Cell(e.name)] for e in overall.new_ids]
    return Table("new-ids", columns, rows)


def _issues(outcome: Outcome, values: bool) -> Issues:
    totals = dict.fromkeys(("rejected", "degraded", "note"), 0)
    for issue in outcome.ledger.issues:
        totals[issue.severity.value] += issue.count
    groups = [
        IssueGroup(
            code=issues[0].code,
            total=sum(issue.count for issue in issues),
            places=len(issues),
            table=_places(issues[:PLACES_PER_CODE], values),
            more=max(0, len(issues) - PLACES_PER_CODE),
        )
        for issues in outcome.ledger.issues_by_code().values()
    ]
    return Issues(totals, groups)


def _entity(issue: Issue) -> str:
    kind = "" if issue.kind is None else issue.kind.value
    return f"{kind} {issue.entity_id}".strip()


def _places(issues: Sequence[Issue], values: bool) -> Table:
    columns = [
        Column("path"),
        Column("item"),
        Column("problem", "long"),
        Column("kept", "long"),
    ]
    rows = [
        [
            Cell(issue.path, "code"),
            Cell(_entity(issue)),
            Cell(issue.message),
            Cell(issue.kept),
        ]
        for issue in issues
    ]
    if values:
        columns.append(Column("value", "long"))
        for row, issue in zip(rows, issues, strict=True):
            row.append(Cell(issue.sample))
    return Table("", tuple(columns), rows)


def _ledger(outcome: Outcome) -> LedgerTable:
    counts = outcome.ledger.as_rows()
    always = ("found", "converted")
    names = [n for n in LEDGER_COLUMNS if n in always or any(row[n] for row in counts)]
    titles = {name: name.replace("_", " ") for name in names}
    if not _is_written(outcome):
        titles["converted"] = "to be converted"
    columns = (Column(""), *(Column(titles[name], "n") for name in names))
    rows = [[Cell(str(row["kind"])), *(Cell(f"{row[name]:,}") for name in names)] for row in counts]
    lines = [files_text(outcome), *rebuilt_lines(outcome), *artifacts_text(outcome).splitlines()]
    return LedgerTable(Table("ledger", columns, rows), [line for line in lines if line])


def _next(outcome: Outcome) -> Next | None:
    if outcome.target is None:
        command = ["mlflow-migrate", "convert", *map(readable_path, outcome.sources)]
        if not outcome.ledger.files:  # the default target may be the source
            command += ["--to", next(new_targets(outcome.sources))]
        return Next(shlex.join(command), [])
    if outcome.dry_run:
        return None
    return Next(server_command(outcome), trace_links(outcome)[:MOST_LINKS])


def _number_cells(*numbers: int) -> list[Cell]:
    """Make cells of numbers; 0 is an empty one."""
    return [Cell(f"{number:,}" if number else "") for number in numbers]


def _bar(number: int, most: int) -> Cell:
    return Cell(f"{number:,}", "bar", percent=100 * number / most if most else 0.0)
