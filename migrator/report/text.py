"""The outcome of a scan or a conversion as text: tables, sentences, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from migrator.counting import counted
from migrator.issues import Code, Issue, Kind, Severity
from migrator.outcome.summary import (
    ArtifactSummary,
    Decision,
    ExperimentSummary,
    Outcome,
    ServerSummary,
)
from migrator.paths import readable_path
from migrator.report.formats import date_range, shorten, size, table
from migrator.report.links import server_command, server_url, trace_links
from migrator.report.printable import one_line

EXAMPLES_PER_CODE = 3
LISTED_WHOLE = frozenset({Code.EXPERIMENT_RENAMED})  # even without -v: people need the new names
MOST_NEW_IDS = 10  # shown without -v

LEDGER_TITLES = {
    "found": "found",
    "converted": "converted",
    "already_there": "already there",
    "merged": "equal, merged",
    "rejected": "rejected",
    "left_out": "left out",
}
ALWAYS_SHOWN = frozenset({"found", "converted", "already_there", "rejected"})

# Role of a tree -> its noun in singular and plural, where these are not regular.
ROLE_NOUNS = {
    "batch": ("batch", "batches"),
    "training": ("training run", "training runs"),
}

# Reason -> what one such tree is, what several are, and the flag that makes traces of them.
KEPT_AS_RUNS = {
    "sweeps": ("hyper-parameter sweep", "hyper-parameter sweeps", "--include sweeps"),
    "pipelines": ("ML pipeline", "ML pipelines", "--include pipelines"),
    "flat": ("no nested runs, no sign of LLM calls", "", "--include flat"),
    "deleted": ("deleted", "", "--include deleted"),
    "no-rows": ("no row of the tables could be read", "", ""),
    "native": ("MLflow itself wrote a trace, and it is linked", "", ""),
    "unreadable": ("could not be read", "", ""),
    "tables": ("table of evaluations or predictions", "tables of evaluations or predictions",
               "--include tables"),
}  # fmt: skip

# What became of artifact locations -> a sentence part about their owners.
LOCATIONS = {
    "relocated": "rewritten to where the files are: {owners}",
    "copied": "rewritten to the copies: {owners}",
    "kept": "unchanged: {owners}",
    "remote": "unchanged, remote: {owners} ({schemes})",
    "stale": "unchanged, though the files are elsewhere: {owners} (--artifacts relocate corrects "
    "them)",
    "nowhere": "unchanged: {owners} without artifact files",
}


def scan_text(outcome: Outcome, command: str, verbose: bool = False, values: bool = False) -> str:
    """Render the output of ``scan``; ``command`` is the command to type next.

    With ``values``, issues show the values that the source has.
    """
    sources = ", ".join(map(readable_path, outcome.sources))
    parts = [
        f"{sources}: {_extent(outcome)}",
        shard_text(outcome),
        entities_table(outcome),
        experiments_table(outcome.experiments) if outcome.experiments else "",
        decisions_text(outcome.experiments, verbose),
        issues_text(outcome, verbose, values),
        forecast_text(outcome),
        artifacts_text(outcome),
        f"Next: {command}",
    ]
    return "\n\n".join(filter(None, parts))


def convert_text(outcome: Outcome, verbose: bool = False, values: bool = False) -> str:
    """Render the output of ``convert``: ledger, rebuilt traces, issues, and links.

    With ``values``, issues show the values that the source has.
    """
    parts = [
        shard_text(outcome),
        ledger_table(outcome),
        files_text(outcome),
        rebuilt_text(outcome),
    ]
    if outcome.server is None:
        parts += [artifacts_text(outcome), new_ids_text(outcome, verbose)]
    else:
        parts.append(server_text(outcome.server))
    parts += [
        issues_text(outcome, verbose, values),
        redacted_text(outcome),
        done_text(outcome),
    ]
    if outcome.rejects_path:
        parts.append(f"List of rejected items, for convert --only: {outcome.rejects_path}")
    if not outcome.dry_run:
        parts.append(look_text(outcome))
    return "\n\n".join(filter(None, parts))


# ---------------------------------------------------------------------------- what was done


def done_text(outcome: Outcome) -> str:
    """Name the target, its backup, the time taken, and the report."""
    done = f"Wrote {outcome.target}"
    if outcome.dry_run:
        done = "Nothing was written (--dry-run)"
    elif outcome.backup:
        done += f" (backup: {outcome.backup})"
    done += f" in {outcome.seconds:.1f} s."
    if outcome.report_path:
        done += f" Report: {outcome.report_path}"
    return done


def server_text(server: ServerSummary) -> str:
    """List the things that a server's API could not keep, and count the files sent to it."""
    parts = [limits_text(server)]
    if server.files_sent:
        files = counted(server.files_sent, "artifact file was", "artifact files were")
        parts.append(f"{files} sent to the server, {size(server.bytes_sent)}.")
    return "\n".join(filter(None, parts))


def limits_text(server: ServerSummary) -> str:
    """List the things that a server's API can't keep, with the reason and the replacement."""
    if not server.limits:
        return ""
    lines = [f"What the API of the server (MLflow {server.version}) can't keep:"]
    lines += [
        f"    {limit.count:,} {limit.what}: {limit.why}; {limit.instead}."
        for limit in server.limits
    ]
    return "\n".join(lines)


def shard_text(outcome: Outcome) -> str:
    """Return a sentence about the part of the sources that was converted; "" for the whole."""
    if not outcome.shard_text:
        return ""
    return f"Shard {outcome.shard_text}. Items of the other shards count as left out."


def redacted_text(outcome: Outcome) -> str:
    """Count the texts that ``--redact`` masked, and those that it matches but can't mask."""
    lines = []
    if outcome.redacted:
        masked = [
            f"{counted(number, 'text')} in {kind}s"
            for kind, number in sorted(outcome.redacted.items())
        ]
        lines.append(f"Masked by --redact: {', '.join(masked)}.")
    if outcome.redaction_stayed:
        matches = counted(outcome.redaction_stayed, "text matches", "texts match")
        lines.append(
            f"{matches} --redact but can't be masked: ids, names of experiments and registered "
            "models, and locations of files, which other items refer to."
        )
    return "\n".join(lines)


def look_text(outcome: Outcome) -> str:
    """Return the command that serves the target, and links that show all of its traces."""
    where = server_command(outcome) if outcome.server is None else server_url(outcome)
    lines = ["View the result:", f"    {where}"]
    links = trace_links(outcome)
    if links:
        lines.append("MLflow shows only recent days by default. These links open the full range:")
    for link in links:
        lines.append(f"    {link.experiment}: {link.traces}")
        if link.overview:
            lines.append(f"        {link.overview}")
    return "\n".join(lines)


# --------------------------------------------------------------------------------- the ledger


def ledger_table(outcome: Outcome) -> str:
    """Return the ledger: a line per kind of item, and the columns that have a number."""
    rows = outcome.ledger.as_rows()
    columns = [
        name for name in LEDGER_TITLES if name in ALWAYS_SHOWN or any(row[name] for row in rows)
    ]
    lines = [[str(row["kind"]), *(f"{row[name]:,}" for name in columns)] for row in rows]
    return table(["", *(LEDGER_TITLES[name] for name in columns)], lines)


def entities_table(outcome: Outcome) -> str:
    """Return the number of items of each kind in the sources, and how many are damaged."""
    rows = outcome.ledger.as_rows()
    lines = [[str(row["kind"]), f"{row['found']:,}", f"{row['rejected']:,}"] for row in rows]
    return table(["", "found", "damaged"], lines)


def files_text(outcome: Outcome) -> str:
    """Count the regular files of the sources by what became of them; empty for databases."""
    ledger = outcome.ledger
    if not ledger.files:
        return ""
    text = (
        f"Files: {ledger.files:,} found = {ledger.files_read:,} read + {ledger.files_referred:,} "
        f"artifacts + {ledger.files_ignored:,} ignored"
    )
    if ledger.files_left_out:
        text += f" + {ledger.files_left_out:,} left out"
    return text


def new_ids_text(outcome: Outcome, verbose: bool) -> str:
    """Return the experiments whose id in the target is new: the first ten, or all."""
    changed = outcome.new_ids
    if not changed:
        return ""
    shown = changed if verbose else changed[:MOST_NEW_IDS]
    rows = [[e.experiment_id, str(e.target_id), shorten(e.name, 60)] for e in shown]
    lines = [
        "Experiments with a new id (the old one is in tag migrator.source_experiment_id):",
        table(["old id", "new id", "experiment"], rows, left=(0, 1, 2)),
    ]
    if len(changed) > len(shown):
        lines.append(f"… and {len(changed) - len(shown):,} more; -v and the report list all.")
    return "\n".join(lines)


# --------------------------------------------------------------------- experiments and their trees


def experiments_table(experiments: Sequence[ExperimentSummary]) -> str:
    """Return a line per experiment: its runs, their roles, and the traces made of them."""
    return table(
        ["id", "experiment", "runs", "trees", "depth", "role of its trees", "tokens",
         "dates (UTC)", "artifacts", "traces", "spans"],
        map(_experiment_row, experiments),
        left=(0, 1, 5, 7),
    )  # fmt: skip


def _experiment_row(experiment: ExperimentSummary) -> list[str]:
    name = experiment.name
    if experiment.lifecycle_stage == "deleted":
        name += " (deleted)"
    tokens = experiment.input_tokens + experiment.output_tokens
    return [
        experiment.experiment_id,
        shorten(name, 40),
        f"{experiment.runs:,}",
        f"{experiment.trees:,}",
        str(experiment.depth or ""),
        ", ".join(f"{number} {role}" for role, number in experiment.roles.most_common()),
        f"{tokens:,}" if tokens else "",
        date_range(experiment.first_ms, experiment.last_ms),
        size(experiment.size_bytes),
        f"{experiment.traces + experiment.native_traces:,}",
        f"{experiment.spans:,}",
    ]


def decisions_text(experiments: Sequence[ExperimentSummary], verbose: bool) -> str:
    """List the trees of each experiment by their result, with reasons and an example.

    Plain training runs are listed only if ``verbose``.
    """
    lines = []
    for experiment in experiments:
        groups = _equal_decisions(experiment, verbose)
        if groups:
            lines.append(f"{shorten(experiment.name, 60)}:")
        for decisions in groups:
            lines.append(f"    {_decision_line(decisions)}")
            reasons = decisions[0].reasons
            if not verbose:
                reasons = (shorten("; ".join(reasons), 160),)
            lines += [f"        {reason}" for reason in reasons if reason]
    return "\n".join(lines)


def _equal_decisions(experiment: ExperimentSummary, verbose: bool) -> list[list[Decision]]:
    """Group decisions of equal role, profile and result; the group with most trees is first."""
    groups: dict[tuple[object, ...], list[Decision]] = {}
    for decision in experiment.decisions.values():
        key: tuple[object, ...] = (decision.role, decision.profile, decision.left_as_runs)
        if verbose:
            key = (*key, decision.example)
        elif decision.role == "training":
            continue
        groups.setdefault(key, []).append(decision)
    return sorted(groups.values(), key=_trees_of, reverse=True)


def _trees_of(decisions: Sequence[Decision]) -> int:
    return sum(decision.trees for decision in decisions)


def _decision_line(decisions: Sequence[Decision]) -> str:
    """Return ``800 workflows (profile x) → 800 traces, e.g. 0010…``."""
    first = decisions[0]
    singular, plural = ROLE_NOUNS.get(first.role, (first.role, ""))
    trees = counted(_trees_of(decisions), singular, plural)
    profile = f" (profile {first.profile})" if first.profile else ""
    became = counted(sum(decision.traces for decision in decisions), "trace")
    if first.left_as_runs is not None:
        became = f"kept as runs ({first.left_as_runs})"
    return f"{trees}{profile} → {became}, e.g. {first.example}"


def forecast_text(outcome: Outcome) -> str:
    """Count the runs and traces that ``convert`` would write, and the trees kept as runs."""
    rebuilt = outcome.ledger.rebuilt
    native = sum(experiment.native_traces for experiment in outcome.experiments)
    runs = outcome.ledger.found[Kind.RUN] - outcome.ledger.rejected[Kind.RUN]
    lines = [
        f"convert would write {counted(runs, 'run')}, and rebuild "
        f"{counted(rebuilt[Kind.TRACE], 'trace')} with {counted(rebuilt[Kind.SPAN], 'span')} from "
        "them."
    ]
    if native:
        lines.append(f"It would also write {counted(native, 'trace')} that MLflow itself recorded.")
    return "\n".join([*lines, *kept_lines(outcome)])


def rebuilt_text(outcome: Outcome) -> str:
    """Count the traces that were rebuilt from runs, and the trees kept as runs."""
    return "\n".join([*rebuilt_lines(outcome), *kept_lines(outcome)])


def rebuilt_lines(outcome: Outcome) -> list[str]:
    """Return a line about the traces rebuilt from runs, if there are any."""
    rebuilt = outcome.ledger.rebuilt
    if not rebuilt[Kind.TRACE]:
        return []
    profiles: Counter[str] = Counter()
    for experiment in outcome.experiments:
        profiles.update(experiment.profiles)
    traces, spans = counted(rebuilt[Kind.TRACE], "trace"), counted(rebuilt[Kind.SPAN], "span")
    line = f"Rebuilt from runs: {traces} with {spans}"
    if profiles:
        trees = [f"{counted(n, 'tree')} by {name}" for name, n in sorted(profiles.items())]
        line += f" ({', '.join(trees)})"
    return [f"{line}."]


def kept_lines(outcome: Outcome) -> list[str]:
    """Return a line per reason for which trees were kept as runs, with the flag that changes it."""
    lines = []
    for reason, number in sorted(outcome.left_as_runs.items()):
        singular, plural, flag = KEPT_AS_RUNS.get(reason, (reason, "", ""))
        what = singular if number == 1 else plural or singular
        line = f"{counted(number, 'tree')} kept as runs ({what})"
        if flag:
            line += f"; {flag} makes traces of them too"
        lines.append(f"{line}.")
    workflows, steps = outcome.groups_by_time
    if steps:
        trees = counted(steps, "tree looks like a step", "trees look like steps")
        of = counted(workflows, "workflow or request", "workflows or requests")
        lines.append(f"{trees} of {of}, by time alone; --group-by-time joins them.")
    if outcome.orphans:
        runs = counted(
            outcome.orphans,
            "run looks like a step without its workflow",
            "runs look like steps without their workflow",
        )
        lines.append(f"{runs}; --adopt-orphans attaches orphaned steps to the workflow before.")
    return lines


def _extent(outcome: Outcome) -> str:
    """How much there is: the files of file stores, rows where the sources are databases."""
    ledger = outcome.ledger
    if ledger.files:
        extent = counted(ledger.files, "file")
    else:
        extent = counted(sum(ledger.found.values()), "row")
    return f"{extent}, {size(ledger.size_bytes)}" if ledger.size_bytes else extent


# ---------------------------------------------------------------------------------- artifacts


def artifacts_text(outcome: Outcome) -> str:
    """Count artifact locations by result, and name the directories that must be kept."""
    summary = outcome.artifacts
    if not any(summary.locations.values()):
        return ""
    text = f"Artifact locations: {'; '.join(_location_parts(summary))}."
    if summary.unserved:
        were = counted(summary.unserved, "of them was", "of them were")
        text += (
            f" {were} served by an MLflow server (mlflow-artifacts:) and now name the files "
            "directly; --artifacts keep leaves them as they are."
        )
    if summary.files_copied or summary.files_there or summary.files_failed:
        text += f"\n{_copied(summary)}"
    if summary.stay_in:
        directories = sorted(summary.stay_in)
        keep = "that directory" if len(directories) == 1 else "these directories"
        text += (
            f"\nThe database points to files in {' and '.join(directories)}; keep {keep}, or copy "
            "the files with --artifacts copy:DIR."
        )
    return text


def _location_parts(summary: ArtifactSummary) -> list[str]:
    schemes = ", ".join(f"{scheme}: {n:,}" for scheme, n in sorted(summary.remote.items()))
    parts = []
    for became, text in LOCATIONS.items():
        owners = summary.locations.get(became)
        if owners is not None:
            named = ", ".join(counted(number, kind) for kind, number in owners.items())
            parts.append(text.format(owners=named, schemes=schemes))
    return parts


def _copied(summary: ArtifactSummary) -> str:
    directory = summary.choice.removeprefix("copy:")
    there = counted(summary.files_there, "was already there", "were already there")
    text = f"Copied {counted(summary.files_copied, 'file')}, {size(summary.bytes_copied)}, to "
    text += f"{directory}; {there}"
    if summary.files_failed:
        text += f", {summary.files_failed:,} could not be read"
    return f"{text}."


# ------------------------------------------------------------------------------------- issues


def issues_text(outcome: Outcome, verbose: bool, values: bool = False) -> str:
    """Return the issues by code, each with three paths, or all if ``verbose``.

    Notes are only counted unless ``verbose``.
    """
    lines: list[str] = []
    for issues in outcome.ledger.issues_by_code().values():
        if verbose or issues[0].severity is not Severity.NOTE:
            lines += _issue_lines(issues, verbose, values)
    notes = sum(issue.count for issue in outcome.ledger.issues if issue.severity is Severity.NOTE)
    if notes and not verbose:
        them = "it" if notes == 1 else "them"
        lines.append(f"{counted(notes, 'note')}, nothing lost; -v lists {them}.")
    return "\n".join(lines)


def _issue_lines(issues: Sequence[Issue], verbose: bool, values: bool) -> list[str]:
    code = issues[0].code
    total = sum(issue.count for issue in issues)
    lines = [f"{code.severity.value} {code.value} ({total:,}): {code.meaning}"]
    shown = issues
    if not verbose and code not in LISTED_WHOLE:
        shown = issues[:EXAMPLES_PER_CODE]
    for issue in shown:
        text = f"{issue.path}: {issue.message}"
        if values and issue.sample:
            text += f" It reads {issue.sample!r:.400}."
        if issue.kept:
            text += f" Kept: {issue.kept}."
        lines.append(f"    {one_line(text)}")
    if len(issues) > len(shown):
        lines.append(f"    … and {len(issues) - len(shown):,} more; -v lists all")
    lines.append(f"    What to do: {code.action}")
    return lines
