"""Searches sources for legacy tracking code, and rewrites the safe places on request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.codemod.patterns import Finding, findings_in
from migrator.codemod.rewrite import BOM, check_available, diff, replace, rewritten
from migrator.codemod.sources import (
    Source,
    Unreadable,
    contents,
    decoded,
    files_below,
    parsed,
    sources_of,
)
from migrator.counting import counted

EXIT_SKIPPED = 3


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not read or not rewritten, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """The edits of a file, made or proposed."""

    path: str
    edits: int
    diff: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of ``inspect``, sorted by path and place."""

    files: int
    findings: tuple[Finding, ...]
    changes: tuple[Change, ...]  # empty without --write or --diff
    skipped: tuple[Skipped, ...]
    written: bool

    @property
    def exit_code(self) -> int:
        """0, or 3 if a file could not be read or rewritten."""
        return EXIT_SKIPPED if self.skipped else 0

    @property
    def diff(self) -> str:
        """The unified diff of all changes."""
        return "".join(change.diff for change in self.changes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "files": self.files,
            "findings": [finding.as_dict() for finding in self.findings],
            "changes": [
                {"path": change.path, "edits": change.edits, "diff": change.diff}
                for change in self.changes
            ],
            "written": self.written,
            "skipped": [{"path": each.path, "reason": each.reason} for each in self.skipped],
        }

    def as_text(self) -> str:
        """Return the findings as text: the place and its line, and below it the replacement.

        Places that were rewritten are left out.
        """
        lines: list[str] = []
        done = {change.path for change in self.changes} if self.written else set()
        for each in self.findings:
            if each.edit is not None and each.path in done:
                continue
            cell = f" cell {each.cell}" if each.cell is not None else ""
            lines.append(f"{each.path}{cell}:{each.line}:{each.column}: {each.code}: {each.found}")
            lines.append(f"    {'--write: ' if each.edit else ''}{each.replacement}")
        lines += [f"{each.path}: skipped: {each.reason}" for each in self.skipped]
        lines.append(self.summary())
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the last line: the number of findings, and of those that --write rewrites."""
        files = counted(self.files, "file")
        if self.skipped:
            files += f", {len(self.skipped):,} skipped"
        if not self.findings:
            return f"{files}: no legacy code."
        by_code = Counter(each.code for each in self.findings)
        kinds = ", ".join(f"{count:,} {code}" for code, count in sorted(by_code.items()))
        safe = sum(each.edit is not None for each in self.findings)
        done = "rewritten" if self.written else "--write rewrites"
        count = sum(change.edits for change in self.changes) if self.written else safe
        return f"{files}: {kinds}; {done} {count:,}, the rest is yours to decide."


def inspect(paths: Sequence[str], *, write: bool = False, show_diff: bool = False) -> Inspection:
    """Find legacy tracking code below ``paths``; with ``write`` also make the safe edits.

    With ``show_diff`` the edits are only computed. A second run finds nothing to rewrite. Raises
    ``SourceError`` for a path that does not exist, and ``OptionError`` if edits are requested but
    libcst is not installed.
    """
    if write or show_diff:
        check_available()
    files, passed = files_below(paths)
    skipped = [Skipped(str(path), reason) for path, reason in passed]
    findings: list[Finding] = []
    edited: list[tuple[Path, bytes, Change]] = []
    for path in files:
        try:
            data = contents(path)
            found = [each for source in sources_of(path, data) for each in findings_in(source)]
            findings += found
            if (write or show_diff) and any(each.edit is not None for each in found):
                edited.append((path, *_edited(path, data, found)))
        except Unreadable as error:
            skipped.append(Skipped(str(path), str(error)))
    changes: list[Change] = []
    for path, new, change in edited:  # only after every file was checked
        try:
            if write:
                replace(path, new)
            changes.append(change)
        except OSError as error:
            skipped.append(Skipped(str(path), f"not rewritten: {error.strerror}"))
    skipped.sort(key=lambda each: each.path)
    return Inspection(len(files), tuple(findings), tuple(changes), tuple(skipped), write)


def _edited(path: Path, data: bytes, found: Sequence[Finding]) -> tuple[bytes, Change]:
    """Return the edited bytes of a file, and a summary of the change. Raises ``Unreadable``."""
    edits = sum(each.edit is not None for each in found)
    new = rewritten(data, found)
    text = decoded(new)
    again = findings_in(Source(path, text, parsed(text)))
    if len(again) < len(found) - edits or any(each.edit is not None for each in again):
        raise Unreadable("not rewritten: the result is not as intended")
    mark = "\ufeff" if data.startswith(BOM) else ""  # decoding removes it
    return new, Change(str(path), edits, diff(path, mark + decoded(data), mark + text))
