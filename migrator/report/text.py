"""The outcome of a scan or a conversion, for people: tables and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from migrator.issues import Code, Kind, Severity
from migrator.outcome.summary import (
    ArtifactSummary,
    Decision,
    ExperimentSummary,
    Outcome,
    ServerSummary,
)
from migrator.paths import shown as text_of
from migrator.report.printable import one_line

EXAMPLES_PER_CODE = 3
LISTED_WHOLE = frozenset({Code.EXPERIMENT_RENAMED})  # without -v too: nobody finds them otherwise
NEW_IDS = 10  # that are shown on the terminal
STAY = {  # reason -> (what they are, the flag that includes them)
    "sweeps": ("hyper-parameter sweeps", "--include sweeps"),
    "pipelines": ("ML pipelines", "--include pipelines"),
    "flat": ("runs without nested runs or LLM evidence", "--include flat"),
    "deleted": ("deleted runs", "--include deleted"),
    "no-rows": ("runs whose tables hold no row that could be read", ""),
    "native": ("runs in which MLflow wrote a trace itself; it is linked to them", ""),
    "unreadable": ("runs that could not be read", ""),
    "tables": ("runs with tables of evaluations or predictions", "--include tables"),
}


def scan_text(outcome: Outcome, command: str, verbose: bool = False, values: bool = False) -> str:
    """Return what ``scan`` prints; ``command`` is what to type next.

    ``values`` shows the source's own words with the issues.
    """
    sources = ", ".join(map(text_of, outcome.sources))
    parts = [
        f"{sources}: {_extent(outcome)}",
        shard_text(outcome),
        entities_table(outcome),
        experiments_table(outcome.experiments) if outcome.experiments else "",
        decisions_text(outcome.experiments, verbose),
        issues_text(outcome, verbose, values),
        would_make(outcome),
        artifacts_text(outcome),
        f"Next: {command}",
    ]
    return "\n\n".join(part for part in parts if part)


def convert_text(outcome: Outcome, verbose: bool = False, values: bool = False) -> str:
    """Return what ``convert`` prints: the ledger, what was rebuilt, the report, where to look.

    ``values`` shows the source's own words with the issues.
    """
    done = "Nothing was written (--dry-run)" if outcome.dry_run else f"Wrote {outcome.target}"
    if not outcome.dry_run and outcome.backup:
        done += f" (backup: {outcome.backup})"
    parts = [
        shard_text(outcome),
        ledger_table(outcome),
        files_text(outcome),
        rebuilt_text(outcome),
        artifacts_text(outcome) if outcome.server is None else server_text(outcome.server),
        new_ids_text(outcome, verbose) if outcome.server is None else "",
        issues_text(outcome, verbose, values),
        redacted_text(outcome),
        f"{done} in {outcome.seconds:.1f} s. Report: {outcome.report_path}"
        if outcome.report_path
        else f"{done} in {outcome.seconds:.1f} s.",
        f"What was rejected, for convert --only: {outcome.rejects_path}"
        if outcome.rejects_path
        else "",
        "" if outcome.dry_run else look_text(outcome),
    ]
    return "\n\n".join(part for part in parts if part)


def server_text(server: ServerSummary) -> str:
    """Return what a server's API could not keep, and which files were sent to it."""
    sent = (
        f"{server.files_sent:,} artifact files, {size(server.bytes_sent)}, were sent to the server."
    )
    return "\n".join(part for part in (limits_text(server), sent * bool(server.files_sent)) if part)


def limits_text(server: ServerSummary) -> str:
    """Return what a server's API can't keep of the source, and what is done instead."""
    if not server.limits:
        return ""
    lines = [f"What the API of the server (MLflow {server.version}) can't keep:"]
    lines += [
        f"    {limit.count:,} {limit.what}: {limit.why}; {limit.instead}."
        for limit in server.limits
    ]
    return "\n".join(lines)


def shard_text(outcome: Outcome) -> str:
    """Return which part of the sources this is, if it is one."""
    if not outcome.shard_text:
        return ""
    return f"Shard {outcome.shard_text}; what the others convert is left out here."


def ledger_table(outcome: Outcome) -> str:
    """Return the table of found, converted, already there, rejected (and more where any)."""
    rows = outcome.ledger.as_rows()
    columns = ["found", "converted", "already_there", "merged", "rejected", "left_out"]
    shown = [
        c
        for c in columns
        if c in ("found", "converted", "already_there", "rejected") or any(r[c] for r in rows)
    ]
    titles = {"already_there": "already there", "left_out": "left out", "merged": "equal, merged"}
    return table(
        ["", *(titles.get(c, c) for c in shown)],
        [[str(r["kind"]), *(f"{r[c]:,}" for c in shown)] for r in rows],
    )


def entities_table(outcome: Outcome) -> str:
    """Return the totals of a store per entity."""
    rows = outcome.ledger.as_rows()
    return table(
        ["", "found", "damaged"],
        [[str(r["kind"]), f"{r['found']:,}", f"{r['rejected']:,}"] for r in rows],
    )


def experiments_table(experiments: Sequence[ExperimentSummary]) -> str:
    """Return one line per experiment: its runs and what they become."""
    rows = []
    for e in experiments:
        name = e.name + (" (deleted)" if e.lifecycle_stage == "deleted" else "")
        roles = ", ".join(f"{n} {role}" for role, n in e.roles.most_common())
        tokens = f"{e.input_tokens + e.output_tokens:,}" if e.input_tokens + e.output_tokens else ""
        rows.append(
            [
                e.experiment_id,
                shorten(name, 40),
                f"{e.runs:,}",
                f"{e.trees:,}",
                str(e.depth or ""),
                roles,
                tokens,
                date_range(e.first_ms, e.last_ms),
                size(e.size_bytes),
                f"{e.traces + e.native_traces:,}",
                f"{e.spans:,}",
            ]
        )
    return table(
        ["id", "experiment", "runs", "trees", "depth", "role of its trees", "tokens",
         "dates (UTC)", "artifacts", "traces", "spans"],
        rows,
        left={0, 1, 5, 7},
    )  # fmt: skip


def decisions_text(experiments: Sequence[ExperimentSummary], verbose: bool) -> str:
    """Return which profile took which trees and why, an example of each.

    Unless ``verbose``, only those that become traces or look like more than a training run.
    """
    lines = []
    for experiment in experiments:
        kinds: dict[tuple[object, ...], list[Decision]] = {}
        for decision in experiment.decisions.values():
            if verbose or decision.role != "training":
                what = (decision.role, decision.profile, decision.left_as_runs)
                key = (*what, decision.example) if verbose else what
                kinds.setdefault(key, []).append(decision)
        shown = sorted(kinds.values(), key=lambda ds: -sum(d.trees for d in ds))
        if shown:
            lines.append(f"{shorten(experiment.name, 60)}:")
        for decisions in shown:
            first = decisions[0]
            traces = sum(decision.traces for decision in decisions)
            became = f"{traces:,} trace{'' if traces == 1 else 's'}"
            if first.left_as_runs is not None:
                became = f"stays runs ({first.left_as_runs})"
            trees = sum(decision.trees for decision in decisions)
            lines.append(
                f"    {trees:,} {first.role} by {first.profile}: {became}; as {first.example}"
            )
            reasons = list(first.reasons) if verbose else [shorten("; ".join(first.reasons), 160)]
            lines.extend(f"        {reason}" for reason in reasons if reason)
    return "\n".join(lines)


def new_ids_text(outcome: Outcome, verbose: bool) -> str:
    """Return the experiments that have another id in the target, some of them or all."""
    changed = outcome.new_ids
    if not changed:
        return ""
    shown = changed if verbose else changed[:NEW_IDS]
    rows = [[e.experiment_id, str(e.target_id), shorten(e.name, 60)] for e in shown]
    lines = [
        "Experiments with a new id (the old one is in tag migrator.source_experiment_id):",
        table(["old id", "new id", "experiment"], rows, left={0, 1, 2}),
    ]
    if len(changed) > len(shown):
        lines.append(f"… and {len(changed) - len(shown):,} more; -v and the report show all.")
    return "\n".join(lines)


def redacted_text(outcome: Outcome) -> str:
    """Say how many texts ``--redact`` masked, and how many match but stay."""
    lines = []
    if outcome.redacted:
        kinds = ", ".join(f"{n:,} of {kind}s" for kind, n in sorted(outcome.redacted.items()))
        lines.append(f"Masked by --redact: {kinds}.")
    if outcome.redaction_stayed:
        lines.append(
            "Not masked, though --redact matches, because other things refer to them (ids, names "
            f"of experiments and registered models, locations of files): "
            f"{outcome.redaction_stayed:,}."
        )
    return "\n".join(lines)


def issues_text(outcome: Outcome, verbose: bool, values: bool = False) -> str:
    """Return the issues by code, with some of their paths (all of them if ``verbose``)."""
    lines: list[str] = []
    for code, issues in outcome.ledger.issues_by_code().items():
        severity = issues[0].severity
        if severity is Severity.NOTE and not verbose:
            continue
        total = sum(issue.count for issue in issues)
        lines.append(f"{severity.value} {code} ({total:,}): {issues[0].code.meaning}")
        whole = verbose or issues[0].code in LISTED_WHOLE
        shown = issues if whole else issues[:EXAMPLES_PER_CODE]
        for issue in shown:
            kept = f" Kept: {issue.kept}." if issue.kept else ""
            sample = f" It reads {issue.sample!r:.400}." if values and issue.sample else ""
            lines.append("    " + one_line(f"{issue.path}: {issue.message}{sample}{kept}"))
        if len(issues) > len(shown):
            lines.append(f"    … and {len(issues) - len(shown):,} more; -v shows all")
        lines.append(f"    What to do: {issues[0].code.action}")
    notes = sum(issue.count for issue in outcome.ledger.issues if issue.severity is Severity.NOTE)
    if notes and not verbose:
        lines.append(f"{notes:,} notes about things that lose nothing; -v shows them.")
    return "\n".join(lines)


def would_make(outcome: Outcome) -> str:
    """Return what ``convert`` would make of the runs, and what it leaves as runs."""
    rebuilt = outcome.ledger.rebuilt
    native = sum(e.native_traces for e in outcome.experiments)
    runs = outcome.ledger.found[Kind.RUN] - outcome.ledger.rejected[Kind.RUN]
    lines = [
        f"convert would write {runs:,} runs, and rebuild {rebuilt[Kind.TRACE]:,} traces with "
        f"{rebuilt[Kind.SPAN]:,} spans from them."
    ]
    if native:
        lines.append(f"{native:,} traces that MLflow wrote itself are carried over.")
    return "\n".join([*lines, *stay_lines(outcome)])


def rebuilt_text(outcome: Outcome) -> str:
    """Return what was rebuilt from runs, and what stayed runs."""
    return "\n".join([*rebuilt_lines(outcome), *stay_lines(outcome)])


def rebuilt_lines(outcome: Outcome) -> list[str]:
    """Return a line about the traces rebuilt from runs, if there are any."""
    rebuilt = outcome.ledger.rebuilt
    if not rebuilt[Kind.TRACE]:
        return []
    profiles: dict[str, int] = {}
    for experiment in outcome.experiments:
        for profile, n in experiment.profiles.items():
            profiles[profile] = profiles.get(profile, 0) + n
    by = ", ".join(f"{n} trees by {p}" for p, n in sorted(profiles.items()))
    return [
        f"Rebuilt from runs: {rebuilt[Kind.TRACE]:,} traces with {rebuilt[Kind.SPAN]:,} spans"
        + (f" ({by})." if by else ".")
    ]


def stay_lines(outcome: Outcome) -> list[str]:
    """Return a line for each reason why trees stay runs, with the flag that includes them."""
    lines = []
    for reason, n in sorted(outcome.left_as_runs.items()):
        what, flag = STAY.get(reason, (reason, ""))
        how = f"; {flag} makes traces of them" if flag else ""
        lines.append(f"{n:,} {'tree stays' if n == 1 else 'trees stay'} runs: {what}{how}.")
    workflows, steps = outcome.groups_by_time
    if steps:
        lines.append(
            f"{steps:,} {'tree looks' if steps == 1 else 'trees look'} like the steps of "
            f"{workflows:,} workflow(s) or request(s), by time alone; --group-by-time joins them."
        )
    if outcome.orphans:
        lines.append(
            f"{outcome.orphans:,} run(s) look like steps that lost their workflow; --adopt-orphans "
            "puts them back."
        )
    return lines


def _extent(outcome: Outcome) -> str:
    """How much there is: the files of file stores, rows alone where the sources are databases."""
    ledger = outcome.ledger
    extent = []
    if ledger.files:
        extent.append(f"{ledger.files:,} files")
    else:
        rows = sum(ledger.found.values())
        extent.append("1 row" if rows == 1 else f"{rows:,} rows")
    if ledger.size_bytes:
        extent.append(size(ledger.size_bytes))
    return ", ".join(extent)


def files_text(outcome: Outcome) -> str:
    """What became of every regular file of the sources; empty where they are databases."""
    ledger = outcome.ledger
    if not ledger.files:
        return ""
    left = f" + {ledger.files_left_out:,} left out" if ledger.files_left_out else ""
    return (
        f"Files: {ledger.files:,} found = {ledger.files_read:,} read + {ledger.files_referred:,} "
        f"artifacts + {ledger.files_ignored:,} ignored{left}"
    )


def artifacts_text(outcome: Outcome) -> str:
    """Return where artifacts lie, what became of the recorded locations, and what to keep."""
    summary = outcome.artifacts
    if not any(summary.locations.values()):
        return ""
    lines = []
    for fate, (before, after) in _FATES.items():
        if fate in summary.locations:
            of = ", ".join(counted(n, kind) for kind, n in summary.locations[fate].items())
            lines.append(f"{before} {of}{after or _schemes(fate, summary)}")
    text = "Artifact locations: " + "; ".join(lines) + "."
    if summary.unserved:
        text += (
            f" {summary.unserved:,} of them went through a server (mlflow-artifacts:) and now name "
            "its files directly; --artifacts keep leaves them to a server."
        )
    if summary.files_copied or summary.files_there or summary.files_failed:
        text += (
            f"\nCopied {summary.files_copied:,} files, {size(summary.bytes_copied)}, to "
            f"{summary.choice.removeprefix('copy:')}; {summary.files_there:,} were there already"
        )
        failed = summary.files_failed
        text += f", {failed:,} could not be read." if failed else "."
    if summary.stay_in:
        text += (
            f"\nArtifacts still lie in {' and '.join(sorted(summary.stay_in))}: keep "
            f"{'it' if len(summary.stay_in) == 1 else 'them'}, or copy them out with "
            "--artifacts copy:DIR."
        )
    return text


_FATES = {  # what became of locations -> the words before and after whose they are
    "relocated": ("rewritten to where the files are:", ""),
    "copied": ("rewritten to the copies:", ""),
    "kept": ("as recorded:", ""),
    "remote": ("remote, as recorded:", ""),
    "stale": (
        "as recorded, though the files lie elsewhere:",
        " (--artifacts relocate corrects them)",
    ),
    "nowhere": ("as recorded, leading nowhere, with no files found:", ""),
}


def _schemes(fate: str, summary: ArtifactSummary) -> str:
    schemes = ", ".join(f"{scheme}: {n:,}" for scheme, n in sorted(summary.remote.items()))
    return f" ({schemes})" if fate == "remote" else ""


def counted(n: int, kind: str) -> str:
    """Return a number with its noun, such as ``1 trace`` and ``2 traces``."""
    return f"{n:,} {kind}{'' if n == 1 else 's'}"


def look_text(outcome: Outcome) -> str:
    """Return the exact server line, and links that show history (views open on 7 days)."""
    where = server_line(outcome) if outcome.server is None else _address(outcome)
    lines = ["Look at it:", f"    {where}"]
    links = look_links(outcome)
    if links:
        lines.append("MLflow's views open on the last days. These links show all of the history:")
    for name, traces, overview in links:
        lines.append(f"    {name}: {traces}")
        lines += [f"        {overview}"] if overview else []
    return "\n".join(lines)


def server_line(outcome: Outcome) -> str:
    """Return the command that serves the target."""
    uri = shlex.quote(outcome.target or "")
    return f"mlflow server --backend-store-uri {uri} --port 5000"


def _address(outcome: Outcome) -> str:
    """Return where the server is: the target itself, or that of ``server_line``."""
    return "http://127.0.0.1:5000" if outcome.server is None else outcome.target or ""


def look_links(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Return experiment, address of all its traces and of its overview ("" without times).

    Of the five experiments with the most traces, deleted ones aside; the addresses are those of
    ``server_line``.
    """
    sharers: dict[int, list[ExperimentSummary]] = {}  # several sources may share an experiment
    stages: dict[int, str] = {}  # of the first of them, which is the target's
    for experiment in outcome.experiments:
        stage = stages.setdefault(experiment.target_id, experiment.lifecycle_stage)
        if stage != "deleted" and experiment.traces + experiment.native_traces:
            sharers.setdefault(experiment.target_id, []).append(experiment)
    links = []
    for target_id, of in sorted(
        sharers.items(), key=lambda item: -sum(e.traces + e.native_traces for e in item[1])
    )[:5]:
        base = f"{_address(outcome)}/#/experiments/{target_id}"
        first = [e.first_ms for e in of if e.first_ms is not None]
        last = [e.last_ms for e in of if e.last_ms is not None]
        traces, overview = f"{base}/traces?startTimeLabel=ALL", ""
        if first and last:
            # MLflow carries the range on from tab to tab, and 3.9's Overview fails on "ALL".
            start, end = _iso(min(first) - 60_000), _iso(max(last) + 60_000)
            span = f"startTimeLabel=CUSTOM&startTime={start}&endTime={end}"
            traces = f"{base}/traces?{span}"
            overview = f"{base}/overview/usage?{span}"  # 3.17 has no bare /overview
        links.append((of[0].target_name, traces, overview))
    return links


# ------------------------------------------------------------------------- small pieces


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: set[int] | None = None
) -> str:
    """Return an aligned text table; the first column and those in ``left`` are left-aligned."""
    lefts = {0} if left is None else left
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    out = []
    for line in lines:
        cells = [
            cell.ljust(width) if i in lefts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(out)


def size(n: int) -> str:
    """Return a number of bytes for people, in binary units."""
    if n < 1024:
        return f"{n} B"
    value = float(n)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def shorten(text: str, limit: int) -> str:
    """Return ``text`` in one line of at most ``limit`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def date_range(first_ms: int | None, last_ms: int | None) -> str:
    """Return ``2024-05-01 … 2024-05-03`` (UTC), or one date."""
    if first_ms is None or last_ms is None:
        return ""
    first, last = _iso(first_ms)[:10], _iso(last_ms)[:10]
    return first if first == last else f"{first} … {last}"


def _iso(time_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return "9999-12-31T23:59:59.000Z"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"
