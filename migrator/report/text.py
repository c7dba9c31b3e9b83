"""The outcome of a scan or a conversion as text: tables, sentences, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.counting import counted
from migrator.issues import Code, Issue, Kind, Severity
from migrator.outcome.summary import (
    ArtifactSummary,
    Decision,
    ExperimentSummary,
    Outcome,
    ServerSummary,
)
from migrator.report.artifacts import hollow_lines, root_lines
from migrator.report.formats import Column, date_range, fitted_table, shorten, size, table, wrapped
from migrator.report.headline import convert_headline, new_rebuilt
from migrator.report.links import MOST_LINKS, server_command, server_url, trace_links
from migrator.report.printable import one_line
from migrator.report.roles import roles_text, trees_of_role

EXAMPLES_PER_CODE = 3
LISTED_WHOLE = frozenset({Code.EXPERIMENT_RENAMED})  # even without -v: people need the new names
MOST_NEW_IDS = 10  # shown without -v
MOST_SAMPLE = 400  # characters of a damaged value

LEDGER_TITLES = {
    "found": "found",
    "converted": "converted",
    "already_there": "already there",
    "merged": "equal, merged",
    "rejected": "rejected",
    "left_out": "left out",
}
ALWAYS_SHOWN = frozenset({"found", "converted", "already_there", "rejected"})


# Reason -> what one such tree is, what several are, and the flag that makes traces of them.
KEPT_AS_RUNS = {
    "sweeps": ("hyper-parameter sweep", "hyper-parameter sweeps", "--include sweeps"),
    "pipelines": ("ML pipeline", "ML pipelines", "--include pipelines"),
    "flat": ("no nested runs, no sign of LLM calls", "", "--include flat"),
    "deleted": ("deleted", "", "--include deleted"),
    "no-rows": ("no row of the tables could be read", "", ""),
    "native": ("it has a trace already", "they have traces already", ""),
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
    "stale": "unchanged, though the files are elsewhere: {owners} (--artifacts relocate or "
    "copy:DIR corrects them)",
    "nowhere": "unchanged: {owners} without artifact files",
}


@dataclass(frozen=True, slots=True)
class Style:
    """How much a text shows, and how wide its lines are.

    With ``values``, issues show the values that the source has. ``width`` is None where lines may
    be of any length, as in a file. With ``limits_above``, what a server can't keep stands on the
    same screen already.
    """

    verbose: bool = False
    values: bool = False
    width: int | None = None
    limits_above: bool = False


DEFAULT_STYLE = Style()


def convert_text(outcome: Outcome, style: Style = DEFAULT_STYLE) -> str:
    """Render the output of ``convert``.

    A line that says what was done comes first, then what needs attention, the ledger, and how to
    look at the result.
    """
    if not outcome.is_read:
        return page([convert_headline(outcome)], style)
    parts = [
        convert_headline(outcome),
        shard_text(outcome),
        problems_text(outcome, style),
        new_ids_text(outcome, style.verbose),
        redacted_text(outcome),
        ledger_table(outcome),
        files_text(outcome),
        rebuilt_text(outcome),
        artifacts_text(outcome) if outcome.server is None else server_text(outcome.server, style),
        notes_text(outcome, style),
        written_text(outcome),
    ]
    if not outcome.dry_run:
        parts.append(look_text(outcome, style.verbose))
    return page(parts, style)


def page(parts: Sequence[str], style: Style) -> str:
    """Join the parts that are not empty, and break their lines."""
    return wrapped("\n\n".join(filter(None, parts)), style.width)


# ---------------------------------------------------------------------------- what was done


def written_text(outcome: Outcome) -> str:
    """Name the files that a conversion wrote beside the target, one on each line."""
    files = {
        "Backup": outcome.backup,
        "Report": outcome.report_path,
        "Rejected items, for convert --only": outcome.rejects_path,
    }
    return "\n".join(f"{title}: {path}" for title, path in files.items() if path)


def server_text(server: ServerSummary, style: Style = DEFAULT_STYLE) -> str:
    """List the things that a server's API could not keep, and count the files sent to it."""
    parts = [limits_text(server)]
    if server.limits and style.limits_above:
        kinds = counted(len(server.limits), "kind of thing", "kinds of things")
        parts = [f"What the API of the server can't keep is listed above: {kinds}."]
    if server.files_sent:
        files = counted(server.files_sent, "artifact file was", "artifact files were")
        parts.append(f"{files} sent to the server, {size(server.bytes_sent)}.")
    return "\n".join(filter(None, parts))


def withheld_text(name: str, sentences: Sequence[str]) -> str:
    """What a source holds and does not give; printed before it is read."""
    listed = "".join(f"\n    {sentence}" for sentence in sentences)
    return f"What the API of {name} does not give:{listed}"


def limits_text(server: ServerSummary) -> str:
    """List the things that a server's API can't keep, with the reason and the replacement."""
    if not server.limits:
        return ""
    lines = [f"What the API of the server (MLflow {server.version}) can't keep:"]
    lines += [
        f"    {limit.what} ({limit.count:,}): {limit.why}; {limit.instead}."
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


def release_text(release: str) -> str:
    """A sentence about the releases that open a database with the schema of ``release``."""
    if release == "3.9":
        return "MLflow 3.9 opens it. A newer MLflow upgrades it at once; then 3.9 can't open it."
    return f"MLflow {release} opens it; 3.9 can't (--schema 3.9 writes one that it can)."


def look_text(outcome: Outcome, verbose: bool = False) -> str:
    """The command that serves the target, and links that show all of its traces.

    The experiments with most traces are listed, and the others counted; ``verbose`` lists all.
    """
    where = server_command(outcome) if outcome.server is None else server_url(outcome)
    lines = ["View the result:", f"    {where}"]
    if outcome.schema_release is not None:
        lines.append(release_text(outcome.schema_release))
    links = trace_links(outcome)
    shown = links if verbose else links[:MOST_LINKS]
    if links:
        lines.append("MLflow shows only recent days by default. These links open the full range:")
    for link in shown:
        lines.append(f"    {shorten(link.experiment, 60)} ({counted(link.count, 'trace')}):")
        lines.append(f"        {link.traces}")
        if link.overview:
            lines.append(f"        {link.overview}")
    rest = len(links) - len(shown)
    if rest:
        experiments = counted(rest, "more experiment has", "more experiments have")
        lines.append(f"    … {experiments} traces; -v lists all")
    return "\n".join(lines)


# --------------------------------------------------------------------------------- the ledger


def ledger_table(outcome: Outcome) -> str:
    """Return the ledger: a line per kind of item, and the columns that have a number."""
    rows = outcome.ledger.as_rows()
    columns = [
        name for name in LEDGER_TITLES if name in ALWAYS_SHOWN or any(row[name] for row in rows)
    ]
    lines = [[str(row["kind"]), *(f"{row[name]:,}" for name in columns)] for row in rows]
    lines += _rebuilt_rows(outcome, columns)
    return table(["", *(LEDGER_TITLES[name] for name in columns)], lines)


def _rebuilt_rows(outcome: Outcome, columns: Sequence[str]) -> list[list[str]]:
    """The lines of traces and spans made from runs: these were not found, so a cell is empty."""
    ledger, new = outcome.ledger, new_rebuilt(outcome)
    rows = []
    for kind in (Kind.TRACE, Kind.SPAN):
        total, there = ledger.rebuilt[kind], ledger.rebuilt_already_there[kind]
        counts = {
            "converted": new[kind],
            "already_there": there,
            "rejected": total - new[kind] - there,
        }
        if total:
            cells = [f"{counts[name]:,}" if name in counts else "" for name in columns]
            rows.append([f"rebuilt {kind.value}", *cells])
    return rows


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
        f"Files: {ledger.files:,} found = {ledger.files_read:,} read + "
        f"{counted(ledger.files_referred, 'artifact')} + {ledger.files_ignored:,} ignored"
    )
    if ledger.files_left_out:
        text += f" + {ledger.files_left_out:,} left out"
    return text


def new_ids_text(outcome: Outcome, verbose: bool) -> str:
    """Return the experiments whose id in the target is new: the first ten, or all."""
    changed = outcome.overall.new_ids
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


EXPERIMENT_COLUMNS = (
    Column("experiment", is_left=True),
    Column("id", is_left=True, rank=5),
    Column("runs"),
    Column("trees", rank=3),
    Column("depth", rank=6),
    Column("role of its trees", is_left=True, rank=1),
    Column("tokens", rank=2),
    Column("dates (UTC)", is_left=True, rank=4),
    Column("artifacts", rank=7),
    Column("traces"),
    Column("spans"),
)


def experiments_table(experiments: Sequence[ExperimentSummary], width: int | None = None) -> str:
    """Return a line per experiment: its runs, their roles, and the traces made of them."""
    text, hidden = fitted_table(EXPERIMENT_COLUMNS, list(map(_experiment_row, experiments)), width)
    if hidden:
        text += f"\nA wider terminal also shows {', '.join(reversed(hidden))}."
    return text


def _experiment_row(experiment: ExperimentSummary) -> list[str]:
    name = experiment.name
    if experiment.lifecycle_stage == "deleted":
        name += " (deleted)"
    tokens = experiment.input_tokens + experiment.output_tokens
    return [
        shorten(name, 40),
        experiment.experiment_id,
        f"{experiment.runs:,}",
        f"{experiment.trees:,}",
        str(experiment.depth or ""),
        roles_text(experiment.roles),
        f"{tokens:,}" if tokens else "",
        date_range(experiment.first_ms, experiment.last_ms),
        size(experiment.size_bytes),
        f"{experiment.traces + experiment.native_traces:,}",
        f"{experiment.spans + experiment.native_spans:,}",
    ]


def decisions_text(experiments: Sequence[ExperimentSummary], verbose: bool) -> str:
    """List the trees of each experiment by their result, with reasons and an example.

    Single runs without LLM evidence are listed only if ``verbose``.
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
    trees = trees_of_role(_trees_of(decisions), first.role)
    profile = f" (profile {first.profile})" if first.profile else ""
    became = counted(sum(decision.traces for decision in decisions), "trace")
    if first.left_as_runs is not None:
        became = f"kept as runs ({first.left_as_runs})"
    return f"{trees}{profile} → {became}, e.g. {first.example}"


def rebuilt_text(outcome: Outcome) -> str:
    """Count the traces that were rebuilt from runs, and the trees kept as runs."""
    return "\n".join([*rebuilt_lines(outcome), *kept_lines(outcome)])


def rebuilt_lines(outcome: Outcome) -> list[str]:
    """Return lines about the traces rebuilt from runs, if there are any."""
    rebuilt = outcome.ledger.rebuilt
    if not rebuilt[Kind.TRACE]:
        return []
    profiles: Counter[str] = Counter()
    for experiment in outcome.experiments:
        profiles.update(experiment.profiles)
    traces, spans = counted(rebuilt[Kind.TRACE], "trace"), counted(rebuilt[Kind.SPAN], "span")
    lines = [f"Rebuilt from runs: {traces} with {spans}."]
    if profiles:
        by_profile = [f"{name} ({n:,})" for name, n in profiles.most_common()]
        lines.append(f"Trees of runs by the profile that read them: {', '.join(by_profile)}.")
    return lines + hollow_lines(outcome.artifacts.hollow)


def _trees_with_unused_tables(outcome: Outcome) -> int:
    """The trees with tables of ``mlflow.log_table`` that are not counted as kept as runs for it."""
    issues = outcome.ledger.issues_by_code().get(Code.TABLES_UNUSED.value, ())
    return sum(issue.count for issue in issues)


def kept_lines(outcome: Outcome) -> list[str]:
    """Return a line per reason for which trees were kept as runs, with the flag that changes it."""
    lines = []
    for reason, number in sorted(outcome.overall.left_as_runs.items()):
        singular, plural, flag = KEPT_AS_RUNS.get(reason, (reason, "", ""))
        what = singular if number == 1 else plural or singular
        line = f"{counted(number, 'tree')} kept as runs ({what})"
        if flag:
            line += f"; {flag} makes traces of them too"
        lines.append(f"{line}.")
    if unused := _trees_with_unused_tables(outcome):
        trees = counted(unused, "tree")
        lines.append(f"{trees} logged tables that no trace shows; --include tables reads them.")
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
    text = "\n".join([text, *root_lines(summary)])
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


def issues_text(outcome: Outcome, style: Style = DEFAULT_STYLE) -> str:
    """The problems, and below them the notes."""
    parts = [problems_text(outcome, style), notes_text(outcome, style)]
    return "\n\n".join(filter(None, parts))


def problems_text(outcome: Outcome, style: Style = DEFAULT_STYLE) -> str:
    """What was rejected or degraded, by code, each with three paths, or all if verbose."""
    lines: list[str] = []
    for issues in outcome.ledger.issues_by_code().values():
        if issues[0].severity is not Severity.NOTE:
            lines += _issue_lines(issues, style)
    return "\n".join(lines)


def notes_text(outcome: Outcome, style: Style = DEFAULT_STYLE) -> str:
    """The number of notes, which lose nothing; if verbose, all of them by code."""
    notes = outcome.ledger.issues_count(Severity.NOTE)
    if not notes:
        return ""
    if not style.verbose:
        them = "it" if notes == 1 else "them"
        return f"{counted(notes, 'note')}, nothing lost; -v lists {them}."
    lines: list[str] = []
    for issues in outcome.ledger.issues_by_code().values():
        if issues[0].severity is Severity.NOTE:
            lines += _issue_lines(issues, style)
    return "\n".join(lines)


def _issue_lines(issues: Sequence[Issue], style: Style) -> list[str]:
    code = issues[0].code
    total = sum(issue.count for issue in issues)
    lines = [f"{code.severity.value} {code.value} ({total:,}): {code.meaning}"]
    shown = issues
    if not style.verbose and code not in LISTED_WHOLE:
        shown = issues[:EXAMPLES_PER_CODE]
    for issue in shown:
        text = f"{issue.path}: {issue.message}"
        if style.values and issue.sample:
            text += f" It reads {shorten(repr(issue.sample), MOST_SAMPLE)}."
        if issue.kept:
            text += f" Kept: {issue.kept}."
        lines.append(f"    {one_line(text)}")
    if len(issues) > len(shown):
        lines.append(f"    … and {len(issues) - len(shown):,} more; -v lists all")
    lines.append(f"    What to do: {code.action}")
    return lines
