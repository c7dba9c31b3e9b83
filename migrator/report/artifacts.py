"""Where artifacts were looked for and found, as text."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from migrator.counting import counted
from migrator.outcome.summary import MOST_PREFIXES, ArtifactSummary
from migrator.report.printable import one_line


def root_lines(summary: ArtifactSummary) -> list[str]:
    """A line for each root of recorded locations that lies elsewhere by now."""
    lines = []
    for root, number in summary.changed_roots:
        why = "as --artifacts-at says" if root.is_told else "concluded from where files lie"
        line = f"{root.old} is now {root.new} ({why}): {counted(number, 'location')} found."
        lines.append(one_line(line))
    return lines


def hollow_lines(hollow: Mapping[str, int]) -> list[str]:
    """A line about traces without input and output whose artifacts were not found.

    ``hollow`` has their number by the beginning of the locations that lead nowhere.
    """
    if not hollow:
        return []
    total = sum(hollow.values())
    have = "trace has" if total == 1 else "traces have"
    ranked = sorted(hollow.items(), key=lambda each: (-each[1], each[0]))
    places = ", ".join(f"{prefix} ({counted(n, 'trace')})" for prefix, n in ranked[:MOST_PREFIXES])
    if len(ranked) > MOST_PREFIXES:
        places += ", …"
    line = (
        f"{total:,} rebuilt {have} neither input nor output. Artifacts of the runs, which may hold "
        f"them, were not found. Recorded below: {places}. --artifacts-at OLD=NEW says where they "
        "are now."
    )
    return [one_line(line)]


def prefixes_text(summary: ArtifactSummary, command: str) -> str:
    """List the commonest beginnings of recorded locations; "" if all of them lead to files.

    ``command`` is the command that converts; the option for files that lie elsewhere is added.
    """
    commonest = summary.prefixes.commonest(MOST_PREFIXES)
    lost = [prefix for prefix, _, found in commonest if not found]
    if not lost:
        return ""
    lines = ["Where artifacts were recorded, and how many of these locations were found:"]
    for prefix, number, found in commonest:
        there = f"{found:,}" if found else "none"
        lines.append(f"    {number:,} below {one_line(prefix)}, {there} found")
    where = shlex.quote(f"{one_line(lost[0])}=DIRECTORY")
    lines += ["If you have the files:", f"    {command} --artifacts-at {where}"]
    return "\n".join(lines)
