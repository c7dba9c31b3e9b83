"""The report of a migration as one HTML page: no scripts, nothing loaded, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from migrator.issues import CATALOG
from migrator.report.summary import Outcome
from migrator.report.text import date_range, files_text, rebuilt_text, size

PATHS_PER_CODE = 1000  # a page with a million rows opens in no browser; the JSON report has all

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
th,td{border:1px solid #8884;padding:.2rem .6rem;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td{overflow-wrap:anywhere}
.rejected{color:#b3261e}.degraded{color:#8a5a00}.note{color:#4a6572}
code{font-size:.92em}
:root{color-scheme:light dark}
@media (prefers-color-scheme:dark){
.rejected{color:#ff8a80}.degraded{color:#ffcc66}.note{color:#9fb8c4}}
"""


def html_report(outcome: Outcome, values: bool = False) -> str:
    """Return the whole report. ``values`` shows the source's own words with the issues."""
    ledger = outcome.ledger
    done = "Nothing was written (dry run)." if outcome.dry_run or outcome.target is None else ""
    facts = [
        ("Sources", ", ".join(outcome.sources)),
        ("Target", outcome.target or ""),
        ("Backup", outcome.backup or ""),
        ("Exit code", f"{outcome.exit_code}. {done}".strip()),
        ("Files", files_text(outcome).removeprefix("Files: ")),
        ("Size", size(ledger.size_bytes)),
    ]
    rows = ledger.as_rows()
    columns = ("found", "converted", "already_there", "merged", "rejected", "left_out")
    body = [
        "<h1>Migration report</h1>",
        _table(("", ""), ([name, value] for name, value in facts if value)),
        "<h2>Ledger</h2>",
        "<p>For every kind, found = converted + already there + merged + rejected + left out.</p>",
        _table(
            ("", *(column.replace("_", " ") for column in columns)),
            ([str(row["kind"]), *(f"{row[column]:,}" for column in columns)] for row in rows),
            numbers=range(1, 7),
        ),
        *(f"<p>{escape(line)}</p>" for line in rebuilt_text(outcome).splitlines()),
        "<h2>Experiments</h2>",
        _table(
            ("id", "experiment", "runs", "traces", "spans", "dates (UTC)", "in the target"),
            (
                [
                    e.experiment_id,
                    e.name + (" (deleted)" if e.lifecycle_stage == "deleted" else ""),
                    f"{e.runs:,}",
                    f"{e.traces + e.native_traces:,}",
                    f"{e.spans:,}",
                    date_range(e.first_ms, e.last_ms),
                    f"{e.target_name} ({e.target_id})",
                ]
                for e in outcome.experiments
            ),
            numbers=range(2, 5),
        ),
        "<h2>Issues</h2>",
        *(_issues(outcome, values) or ["<p>None.</p>"]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>mlflow-migrate {escape(outcome.version)}</title><style>{_STYLE}</style></head>"
        f"<body>\n{chr(10).join(body)}\n</body></html>\n"
    )


def _issues(outcome: Outcome, values: bool) -> list[str]:
    parts = []
    for code, issues in outcome.ledger.issues_by_code().items():
        entry = CATALOG[issues[0].code]
        total = sum(issue.count for issue in issues)
        parts.append(
            f'<details id="{escape(code)}"><summary class="{entry.severity.value}">'
            f"{entry.severity.value} <code>{escape(code)}</code> ({total:,}): "
            f"{escape(entry.meaning)}</summary><p>What to do: {escape(entry.action)}</p>"
        )
        header = ("path", "entity", "what was found", "kept") + (("value",) if values else ())
        parts.append(
            _table(
                header,
                (
                    [
                        issue.path,
                        f"{issue.kind or ''} {issue.entity_id}".strip(),
                        issue.message,
                        issue.kept,
                        *([issue.sample] if values else []),
                    ]
                    for issue in issues[:PATHS_PER_CODE]
                ),
            )
        )
        if len(issues) > PATHS_PER_CODE:
            parts.append(f"<p>… and {len(issues) - PATHS_PER_CODE:,} more.</p>")
        parts.append("</details>")
    return parts


def _table(
    header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> str:
    right = frozenset(numbers)

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if i in right else ''}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    head = f"<tr>{line('th', header)}</tr>" if any(header) else ""
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"
