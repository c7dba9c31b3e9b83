"""The outcome as one HTML page: no scripts, nothing loaded, everything escaped.

It is read on a screen (light and dark), on a phone, and on paper; ``report.css`` is written into
it. Its numbers are those of the JSON report.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from importlib.resources import files

from migrator.issues import Issue, Kind, Severity
from migrator.report.printable import escaped as escape
from migrator.report.summary import Outcome, Week, monday
from migrator.report.text import (
    artifacts_text,
    date_range,
    files_text,
    look_links,
    rebuilt_lines,
    server_line,
    size,
    stay_lines,
)

PATHS_PER_CODE = 1000  # a page with a million rows opens in no browser; the JSON report has all
MOST_BARS = 260  # more are drawn together, several weeks a bar
FEWEST_BARS = 16  # fewer would be as broad as tiles
LONG_GAP = 13  # so many weeks without anything are drawn as one gap

Column = tuple[str, str]  # title, and the class of its cells: n for numbers, long, bar


def html_report(outcome: Outcome, values: bool = False) -> str:
    """Return the whole page. ``values`` shows the source's own words with the issues."""
    title = _title(outcome)
    style = files("migrator.report").joinpath("report.css").read_text(encoding="utf-8")
    sections = [
        ("time", "Runs and tokens by week", _timeline(outcome)),
        ("experiments", "Experiments", _experiments(outcome)),
        ("new-ids", "New ids of experiments", _new_ids(outcome)),
        ("trees", "The biggest trees", _trees(outcome)),
        ("issues", "What to look at", _issues(outcome, values)),
        ("ledger", "The ledger", _ledger(outcome)),
        ("next", "Next", _next(outcome)),
    ]
    shown = [(name, heading, content) for name, heading, content in sections if content]
    body = [
        f"<h1>{escape(title)}</h1>",
        _sources(outcome),
        _verdict(outcome),
        _tiles(outcome),
        "<nav>"
        + "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in shown)
        + "</nav>",
        *(f'<h2 id="{name}">{escape(head)}</h2>\n{content}' for name, head, content in shown),
        f"<footer>mlflow-migrate {escape(outcome.version)}, {outcome.seconds:,.1f} s. All times "
        "are UTC. The same numbers, and every issue, are in the JSON report.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n"
        f"<body>\n{chr(10).join(body)}\n</body></html>\n"
    )


def _title(outcome: Outcome) -> str:
    if outcome.target is None:
        return "What the file store holds"
    return "What would be converted" if outcome.dry_run else "What was converted"


def _sources(outcome: Outcome) -> str:
    lines = "".join(f'<p class="lead">{escape(source)}</p>' for source in outcome.sources)
    if outcome.shard_text:
        lines = f'<p class="lead">Shard {outcome.shard_text}</p>{lines}'
    if len(outcome.sources) <= 3:
        return lines
    return f"<details><summary>{len(outcome.sources):,} sources</summary>{lines}</details>"


def _verdict(outcome: Outcome) -> str:
    """Return in a sentence or two how it went."""
    ledger = outcome.ledger
    rejected = sum(i.count for i in ledger.issues if i.severity is Severity.REJECTED)
    done = outcome.target is not None and not outcome.dry_run
    if rejected:
        things = "1 thing" if rejected == 1 else f"{rejected:,} things"
        verb = ("was" if rejected == 1 else "were") if done else "will be"
        text = f"{things} {verb} left behind and named below; all else "
    else:
        text = "Everything "
    text += "was converted." if done else "can be converted."
    if done:
        text += f" The database is {outcome.target}"
        text += f"; what was there before is in {outcome.backup}." if outcome.backup else "."
    elif outcome.target is not None:
        text += " Nothing was written (dry run)."
    severity = " rejected" if rejected else ""
    told = escape(text).replace("named below", '<a href="#issues">named below</a>', 1)
    return f'<p class="verdict{severity}">{told}</p>'


def _tiles(outcome: Outcome) -> str:
    ledger, experiments = outcome.ledger, outcome.experiments
    native = sum(e.native_traces for e in experiments)
    rebuilt = sum(e.traces for e in experiments)
    given = sum(e.input_tokens for e in experiments)
    answered = sum(e.output_tokens for e in experiments)
    first = [e.first_ms for e in experiments if e.first_ms is not None]
    last = [e.last_ms for e in experiments if e.last_ms is not None]
    dates = _days(min(first), max(last)) if first and last else ""
    origin = f"{rebuilt:,} from runs, {native:,} that MLflow wrote"
    rejected = sum(i.count for i in ledger.issues if i.severity is Severity.REJECTED)
    tiles = [
        ("runs", "Runs", ledger.found[Kind.RUN], dates),
        ("traces", "Traces", rebuilt + native, origin if native else ""),
        ("tokens", "Tokens", given + answered, f"{given:,} in, {answered:,} out"),
        ("experiments", "Experiments", ledger.found[Kind.EXPERIMENT], ""),
        ("files", "Files", ledger.files, size(ledger.size_bytes)),
        ("rejected", "Left behind", rejected, "of all kinds"),
    ]
    return (
        '<dl class="tiles">'
        + "".join(
            f'<div><dt>{escape(label)}</dt><dd data-total="{name}">{number:,}'
            f"<small>{note}</small></dd></div>"
            for name, label, number, note in tiles
        )
        + "</dl>"
    )


# --------------------------------------------------------------------------- the timeline


def _timeline(outcome: Outcome) -> str:
    weeks = outcome.weeks
    if not weeks:
        return ""
    bars, together = _bars(weeks)
    each = "a week" if together == 1 else f"{together} weeks"
    gap = "; hatched: a longer time without any" if any(n is None for n, _ in bars) else ""
    has_tokens = any(week.input_tokens or week.output_tokens for week in weeks.values())
    charts = [
        _chart(
            bars,
            f'<span class="key">runs</span><span>{each} a bar, by their start{gap}</span>',
            [("", [week.runs for _, week in bars])],
        )
    ]
    if has_tokens:
        charts.append(
            _chart(
                bars,
                '<span class="key output">output tokens</span>'
                '<span class="key input">input tokens</span>',
                [
                    ("output", [week.output_tokens for _, week in bars]),
                    ("input", [week.input_tokens for _, week in bars]),
                ],
            )
        )
    rows = [
        [monday(number).isoformat(), *_numbers(w.runs, w.traces, w.input_tokens, w.output_tokens)]
        for number, w in weeks.items()
    ]
    columns = [
        ("week of", ""), ("runs", "n"), ("traces", "n"), ("input tokens", "n"),
        ("output tokens", "n"),
    ]  # fmt: skip
    untimed = sum(e.runs for e in outcome.experiments) - sum(w.runs for w in weeks.values())
    note = f"<p>Not drawn: {untimed:,} without a start time.</p>" if untimed else ""
    return (
        "".join(charts) + note + "<details><summary>Week by week, as a table</summary>"
        f"{_table(columns, rows, 'weeks')}</details>"
    )


def _bars(weeks: dict[int, Week]) -> tuple[list[tuple[int | None, Week]], int]:
    """Return a bar for each week between the first and the last, and how many make one bar.

    A bar without a number is a long gap.
    """
    slots: list[int | None] = []
    for number in sorted(weeks):
        before = slots[-1] if slots else None
        if before is not None and number - before <= LONG_GAP:
            slots += range(before + 1, number + 1)
        else:
            slots += [number] if before is None else [None, number]
    missing = max(0, FEWEST_BARS - len(slots))
    slots[:0] = range(min(weeks) - missing // 2, min(weeks))
    slots += range(max(weeks) + 1, max(weeks) + 1 + (missing + 1) // 2)
    together = -(-len(slots) // MOST_BARS)
    bars: list[tuple[int | None, Week]] = []
    for slot in slots:
        if slot is None:
            bars.append((None, Week()))
            continue
        last = bars[-1][0] if bars else None
        if together > 1 and last is not None and slot - last < together:
            bars[-1][1].add(weeks.get(slot, Week()))
        else:
            bars.append((slot, Week()))
            bars[-1][1].add(weeks.get(slot, Week()))
    return bars, together


def _chart(
    bars: Sequence[tuple[int | None, Week]], caption: str, parts: list[tuple[str, list[int]]]
) -> str:
    """Return one chart; ``parts`` are stacked, the first on top, one height for each bar."""
    top = _round_up(max(sum(heights) for heights in zip(*(h for _, h in parts), strict=True)))
    drawn = []
    for at, (number, week) in enumerate(bars):
        if number is None:
            drawn.append('<i class="gap" title="a long time without any"></i>')
            continue
        blocks = "".join(
            f'<b class="{name}" style="height:{100 * heights[at] / top:.2f}%"></b>'
            for name, heights in parts
            if heights[at]
        )
        told = (
            f"week of {monday(number)}: {week.runs:,} runs, {week.traces:,} traces, "
            f"{week.input_tokens + week.output_tokens:,} tokens"
        )
        drawn.append(f'<i title="{told}">{blocks}</i>')
    half = f"<span style='top:50%'>{_short(top // 2)}</span>" if top % 2 == 0 else ""
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f'<div class="plot"><div class="scale" aria-hidden="true"><span style="top:0">{_short(top)}'
        f'</span>{half}<span style="top:100%">0</span></div>'
        f'<div class="bars">{"".join(drawn)}</div>{_dates(bars)}</div></figure>'
    )


def _dates(bars: Sequence[tuple[int | None, Week]]) -> str:
    """Return at most seven dates below the bars, at the middle of theirs; phones show fewer."""
    numbered = [(at, number) for at, (number, _) in enumerate(bars) if number is not None]
    count = min(7, len(numbered))
    chosen = [numbered[round(i * (len(numbered) - 1) / max(1, count - 1))] for i in range(count)]
    spans = []
    for i, (at, number) in enumerate(chosen):
        day = monday(number)
        left = 0 if i == 0 else 100 if i == count - 1 else 100 * (at + 0.5) / len(bars)
        minor = "" if i in (0, count // 2, count - 1) else ' class="minor"'
        spans.append(f'<span{minor} style="left:{left:.1f}%">{day.day} {day:%b %Y}</span>')
    return f'<div class="dates" aria-hidden="true">{"".join(spans)}</div>'


def _round_up(number: int) -> int:
    """Return the next of 1, 2, 4, 5, 8, 10, 20, …"""
    power = 1
    while True:
        for digit in (1, 2, 4, 5, 8):
            if digit * power >= number:
                return digit * power
        power *= 10


def _short(number: int) -> str:
    for limit, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= limit:
            unit = 1000 if letter == "k" else limit
            return f"{number / unit:g} {letter}"
    return f"{number:,}"


# ------------------------------------------------------------------------------ the tables


def _experiments(outcome: Outcome) -> str:
    columns = [
        ("experiment", ""), ("runs", "n bar"), ("traces", "n"), ("spans", "n"), ("tokens", "n"),
        ("what its trees are", "long"), ("dates", "long"),
    ]  # fmt: skip
    most = max((e.runs for e in outcome.experiments), default=0)
    rows = []
    empty = 0
    for e in outcome.experiments:
        if not e.runs and not e.native_traces:
            empty += 1
            continue
        deleted = ", deleted" if e.lifecycle_stage == "deleted" else ""
        below = f"id {e.experiment_id}{deleted}"
        if len(outcome.sources) > 1:
            below += f", from {e.source}"
        if str(e.target_id) != e.experiment_id or e.target_name != e.name:
            below += f"; in the target {e.target_name} ({e.target_id})"
        rows.append(
            [
                f"{escape(e.name)}<small>{escape(below)}</small>",
                _bar(e.runs, most),
                *_numbers(e.traces + e.native_traces, e.spans, e.input_tokens + e.output_tokens),
                escape(", ".join(f"{n:,} {role}" for role, n in e.roles.most_common())),
                _days(e.first_ms, e.last_ms),
            ]
        )
    stay = "".join(f"<p>{escape(line)}</p>" for line in stay_lines(outcome))
    more = f"<p>And {empty:,} without runs or traces.</p>" if empty else ""
    return (_table(columns, rows, "experiments") if rows else "") + more + stay


def _trees(outcome: Outcome) -> str:
    biggest = outcome.biggest
    if not biggest:
        return ""
    columns = [
        ("root run", ""), ("runs", "n bar"), ("levels", "n"), ("taken for", "word"),
        ("traces", "n"), ("spans", "n"), ("tokens", "n"), ("began", ""), ("experiment", ""),
    ]  # fmt: skip
    most = max(tree.runs for _, tree in biggest)
    rows = [
        [
            f"{escape(tree.name or tree.root_run_id)}<small><code>{escape(tree.root_run_id)}</code>"
            "</small>",
            _bar(tree.runs, most),
            str(tree.depth),
            tree.role,
            *_numbers(tree.traces, tree.spans, tree.tokens),
            _days(tree.start_ms, tree.start_ms),
            escape(e.name),
        ]
        for e, tree in biggest
    ]
    command = f"mlflow-migrate show {biggest[0][1].root_run_id}"
    return (
        f"<p>Trees of nested runs. <code>{escape(command)}</code> draws one and the trace beside "
        f"it.</p>{_table(columns, rows, 'trees')}"
    )


def _new_ids(outcome: Outcome) -> str:
    if outcome.target is None or not outcome.new_ids:
        return ""
    columns: list[Column] = [("old id", ""), ("new id", ""), ("experiment", "")]
    rows = [[escape(e.experiment_id), str(e.target_id), escape(e.name)] for e in outcome.new_ids]
    return (
        "<p>The target can't hold these ids, or has given them to others. The old one is in the "
        "experiment's tag <code>migrator.source_experiment_id</code>.</p>"
        f"{_table(columns, rows, 'new-ids')}"
    )


def _issues(outcome: Outcome, values: bool) -> str:
    groups = outcome.ledger.issues_by_code()
    if not groups:
        return "<p>Nothing: no file was damaged, and nothing had to be repaired.</p>"
    words = {
        Severity.REJECTED: "left behind",
        Severity.DEGRADED: "repaired, cut or guessed",
        Severity.NOTE: "nothing lost",
    }
    counts = {severity: 0 for severity in words}
    for issue in outcome.ledger.issues:
        counts[issue.severity] += issue.count
    told = ", ".join(
        f'<b class="{severity.value}">{counts[severity]:,}</b> {word}'
        for severity, word in words.items()
        if counts[severity]
    )
    parts = [f"<p>{told}.</p>"]
    for code, issues in groups.items():
        entry = issues[0].code
        total = sum(issue.count for issue in issues)
        severity = entry.severity.value
        parts.append(
            f'<section class="issue {severity}" id="{escape(code)}" data-count="{total}"><header>'
            f"<code>{escape(code)}</code><span>{total:,} ×</span>"
            f'<span class="tag">{words[entry.severity]}</span></header>'
            f"<p>{escape(entry.meaning)}</p><p><b>What to do:</b> {escape(entry.action)}</p>"
            f"<details><summary>Where: {len(issues):,} "
            f"place{'' if len(issues) == 1 else 's'}</summary>{_places(issues, values)}"
            "</details></section>"
        )
    return "\n".join(parts)


def _of(issue: Issue) -> str:
    """Name the entity that an issue is about: its kind and its id, where there are any."""
    words = [issue.kind.value if issue.kind else "", issue.entity_id]
    return " ".join(filter(None, words))


def _places(issues: Sequence[Issue], values: bool) -> str:
    columns = [("path", ""), ("of", ""), ("what was found", "long"), ("kept", "long")]
    if values:
        columns.append(("value", "long"))
    rows = [
        [
            f"<code>{escape(issue.path)}</code>",
            escape(_of(issue)),
            escape(issue.message),
            escape(issue.kept),
            *([escape(issue.sample)] if values else []),
        ]
        for issue in issues[:PATHS_PER_CODE]
    ]
    more = len(issues) - PATHS_PER_CODE
    return _table(columns, rows) + (f"<p>… and {more:,} more.</p>" if more > 0 else "")


def _ledger(outcome: Outcome) -> str:
    names = ("found", "converted", "already_there", "merged", "rejected", "left_out")
    rows = outcome.ledger.as_rows()
    titles = {} if outcome.target and not outcome.dry_run else {"converted": "to be converted"}
    used = [name for name in names if name in names[:2] or any(row[name] for row in rows)]
    table = _table(
        [("", ""), *((titles.get(name) or name.replace("_", " "), "n") for name in used)],
        [[escape(str(row["kind"])), *(f"{row[name]:,}" for name in used)] for row in rows],
        "ledger",
    )
    told = [files_text(outcome), *rebuilt_lines(outcome), *artifacts_text(outcome).splitlines()]
    lines = "".join(f"<p>{escape(line)}</p>" for line in told)
    return (
        "<p>Every entity and every file has its place: what was found is the sum of the other "
        f"columns.</p>{table}{lines}"
    )


def _next(outcome: Outcome) -> str:
    """Return the commands to type after this, and links into a server once it runs."""
    if outcome.target is None:
        command = shlex.join(["mlflow-migrate", "convert", *outcome.sources])
        return f"<pre>{escape(command)}</pre>"
    if outcome.dry_run:
        return ""
    links = "".join(
        f'<p>{escape(name)}: <a href="{escape(traces)}">traces</a>'
        + (f', <a href="{escape(overview)}">overview</a>' if overview else "")
        + "</p>"
        for name, traces, overview in look_links(outcome)
    )
    told = "<p>MLflow's views open on the last days; these links show all of the history, once "
    told += "that server runs.</p>"
    return f"<pre>{escape(server_line(outcome))}</pre>" + (told + links if links else "")


# ------------------------------------------------------------------------------ small pieces


def _numbers(*numbers: int) -> list[str]:
    return [f"{number:,}" if number else "" for number in numbers]


def _days(first_ms: int | None, last_ms: int | None) -> str:
    words = date_range(first_ms, last_ms).split()
    return " ".join(f'<span class="day">{word}</span>' for word in words)


def _bar(number: int, most: int) -> str:
    share = 100 * number / most if most else 0
    return f'{number:,}<u style="width:{share:.1f}%"></u>'


def _table(columns: Sequence[Column], rows: Iterable[Sequence[str]], name: str = "") -> str:
    """Return a table of cells that are HTML already; a phone shows each row as a card."""

    def cell(column: Column, content: str) -> str:
        title, kind = column
        words = f' class="{kind}"' if kind else ""
        return f'<td{words} data-label="{escape(title)}">{content}</td>'

    head = "".join(
        f"<th{' class=n' if 'n' in kind.split() else ''}>{escape(title)}</th>"
        for title, kind in columns
    )
    body = "".join(
        f"<tr>{''.join(cell(c, content) for c, content in zip(columns, row, strict=True))}</tr>"
        for row in rows
    )
    marked = f' data-table="{name}"' if name else ""
    return (
        f'<div class="scroll"><table{marked}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
