"""What was compared, and what differs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from migrator import conventions
from migrator.counting import counted
from migrator.issues import Kind
from migrator.model import Counts, TracePlan
from migrator.report.artifacts import hollow_lines
from migrator.report.formats import table
from migrator.verification.reading import Unreadable
from migrator.verification.values import Point, point_text

MAX_DIFFERENCES = 1000  # that a result keeps
MISSING = "(missing)"
NOTHING = "(nothing)"
_SHOWN_DIFFERENCES = 20
_OURS = "migrator."


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not in the target as it was to be written.

    ``field`` is the part of the entity (``status``, ``param lr``, ``metric loss, step 3``).
    ``expected`` and ``found`` are short texts around the first character that differs.
    """

    kind: Kind
    entity_id: str
    field: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, repr=False)
class VerifyResult:
    """The result of a comparison; ``differences`` are the first 1,000 of ``total``.

    What people changed in the target since the last conversion is ``changed``, and no difference.
    """

    differences: tuple[Difference, ...]
    total: int
    compared: Counts
    exceptions: Mapping[str, int] = field(default_factory=dict)  # limits of a server's API
    recounted: int = 0  # native traces whose size statistics count other spans than the source's
    changed: tuple[Difference, ...] = ()  # by people, since the last conversion; the first 1,000
    changed_total: int = 0
    # beginning of recorded locations -> rebuilt traces that lack input and output because of them
    hollow: Mapping[str, int] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        return self.total == 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "differences": [_as_dict(difference) for difference in self.differences],
            "total": self.total,
            "changed": [_as_dict(difference) for difference in self.changed],
            "changed_total": self.changed_total,
            "compared": {kind.value: count for kind, count in self.compared.items()},
            "exceptions": dict(self.exceptions),
            "recounted": self.recounted,
            "hollow_traces": dict(self.hollow),
        }

    def __str__(self) -> str:
        """The text of ``as_text``."""
        return self.as_text()

    def __repr__(self) -> str:
        """The same, for Python's prompt."""
        return str(self)

    def _repr_html_(self) -> str:
        """The text of ``as_text``, for a notebook."""
        return f"<pre>{escape(self.as_text())}</pre>"

    def as_text(self, verbose: bool = False) -> str:
        """Return the counts and the differences as text; the first 20 unless ``verbose``."""
        rows = [[kind.value, f"{count:,}"] for kind, count in self.compared.items()]
        lines = _lines(self.differences, self.total, verbose)
        word = "difference" if self.total == 1 else "differences"
        parts = [
            table(["", "compared"], rows) if rows else "There was nothing to compare.",
            "\n".join(lines),
            self._changed_text(verbose),
            self._exceptions_text(),
            self._recounted_text(),
            *hollow_lines(self.hollow),
            "No difference." if self.same else f"{self.total:,} {word}.",
        ]
        return "\n\n".join(part for part in parts if part)

    def _changed_text(self, verbose: bool) -> str:
        if not self.changed_total:
            return ""
        what = counted(self.changed_total, "change")
        head = f"{what} in the target since the last conversion, not counted as differences:"
        return "\n".join([head, *_lines(self.changed, self.changed_total, verbose)])

    def _exceptions_text(self) -> str:
        if not self.exceptions:
            return ""
        counts = ", ".join(f"{name} {n:,}" for name, n in self.exceptions.items())
        return (
            f"Not counted as differences, because the server's API can't keep them "
            f"(docs/reference/server-limits.md): {counts}."
        )

    def _recounted_text(self) -> str:
        if not self.recounted:
            return ""
        traces = counted(self.recounted, "trace")
        return (
            f"{conventions.SIZE_STATS} of {traces} has another number of spans than in the source "
            f"(kept as {conventions.MIGRATOR_SOURCE_SIZE_STATS}). That is not a difference "
            "(docs/reference/mapping.md)."
        )


def _as_dict(difference: Difference) -> dict[str, str]:
    return {
        "kind": difference.kind.value,
        "id": difference.entity_id,
        "field": difference.field,
        "expected": difference.expected,
        "found": difference.found,
    }


def _lines(differences: Sequence[Difference], total: int, verbose: bool) -> list[str]:
    """A line for each difference; for the first 20 unless ``verbose``."""
    shown = differences if verbose else differences[:_SHOWN_DIFFERENCES]
    lines = [
        f"{item.kind.value} {item.entity_id}, {item.field}: the source has {item.expected}, "
        f"the database {item.found}"
        for item in shown
    ]
    if total > len(shown):
        lines.append(f"… and {total - len(shown):,} more.")
    return lines


MadeByPeople = Callable[[Kind, str, str, str, str], bool]


def nobody(kind: Kind, entity_id: str, field_name: str, expected: str, found: str) -> bool:
    """Say that people did not make a difference: nothing is known of what they did."""
    return False


class Findings:
    """The differences found so far, and how much was compared.

    ``made_by_people`` says of a difference whether people made it in the target.
    """

    def __init__(self, made_by_people: MadeByPeople = nobody) -> None:
        self._made_by_people = made_by_people
        self._changed: list[Difference] = []
        self._changed_total = 0
        self._differences: list[Difference] = []
        self._total = 0
        self._compared: Counter[Kind] = Counter()
        self._recounted = 0

    def add(self, other: Findings) -> None:
        """Add what was found elsewhere, after what was found here.

        That is known by what this one knows of people's changes. Where more was found than is kept,
        the rest counts as differences.
        """
        for each in other._differences:
            self._add(each)
        self._total += other._total - len(other._differences)
        self._compared.update(other._compared)
        self._recounted += other._recounted

    def count(self, kind: Kind, number: int = 1) -> None:
        self._compared[kind] += number

    def count_recounted(self, plan: TracePlan) -> None:
        """Count a trace whose number of spans in ``mlflow.trace.sizeStats`` had to be changed."""
        self._recounted += conventions.MIGRATOR_SOURCE_SIZE_STATS in plan.metadata

    def differs(
        self, kind: Kind, entity_id: str, field_name: str, expected: str, found: str
    ) -> None:
        self._add(Difference(kind, entity_id, field_name, expected, found))

    def _add(self, each: Difference) -> None:
        if self._made_by_people(each.kind, each.entity_id, each.field, each.expected, each.found):
            self._changed_total += 1
            kept = self._changed
        else:
            self._total += 1
            kept = self._differences
        if len(kept) < MAX_DIFFERENCES:
            kept.append(each)

    def entity(self, kind: Kind, entity_id: str, found: Any) -> Entity | None:
        """Count an entity. Returns its collector of differences, None if the target lacks it."""
        self.count(kind)
        if found is None or isinstance(found, Unreadable):
            shown = MISSING if found is None else f"(unreadable: {found.why})"
            self.differs(kind, entity_id, kind.value, "one", shown)
            return None
        return Entity(self, kind, entity_id)

    def result(self) -> VerifyResult:
        compared = {kind: self._compared[kind] for kind in Kind if self._compared[kind]}
        return VerifyResult(
            tuple(self._differences),
            self._total,
            compared,
            recounted=self._recounted,
            changed=tuple(self._changed),
            changed_total=self._changed_total,
        )


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity that both sides have, and its differences."""

    findings: Findings
    kind: Kind
    entity_id: str

    def differs(self, field_name: str, expected: str, found: str) -> None:
        self.findings.differs(self.kind, self.entity_id, field_name, expected, found)

    def count(self, kind: Kind, number: int) -> None:
        self.findings.count(kind, number)

    def check(self, field_name: str, expected: object, found: object) -> None:
        if expected != found:
            self.differs(field_name, *shown_values(expected, found))

    def check_known(self, field_name: str, expected: object, found: object) -> None:
        """Like ``check``, but None, a value that the source lacks, agrees with anything."""
        if expected is not None:
            self.check(field_name, expected, found)

    def mapping(
        self,
        kind: Kind,
        label: str,
        expected: Mapping[str, str],
        found: Mapping[str, str],
        *,
        allowed: Iterable[str] = (),
        counted: bool = True,
    ) -> None:
        """Compare keys and values. ``allowed`` keys may be there without being expected."""
        if counted:
            self.count(kind, len(expected))
        if expected == found:
            return
        for key, value in expected.items():
            self.check(f"{label} {key}", value, found.get(key, MISSING))
        for key in sorted(found.keys() - expected.keys() - set(allowed)):
            if not key.startswith(_OURS):
                self.differs(f"{label} {key}", NOTHING, shown_values("", found[key])[1])

    def points(self, label: str, expected: set[Point], found: Sequence[Point]) -> None:
        """Compare the whole history of one metric; order does not matter."""
        if len(found) == len(expected) and expected.issuperset(found):
            return
        apart: dict[tuple[int, int], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        surplus = Counter(found) - Counter(expected)
        for side, points in enumerate((expected.difference(found), surplus.elements())):
            for point in sorted(points):
                apart[point[1], point[0]][side].append(point_text(point))
        for (step, timestamp_ms), (missing, unexpected) in sorted(apart.items()):
            self.differs(
                f"{label}, step {step}, time {timestamp_ms}",
                ", ".join(missing) or NOTHING,
                ", ".join(unexpected) or MISSING,
            )


def shown_values(expected: object, found: object) -> tuple[str, str]:
    """Return both values as short texts around the first place where they differ."""
    texts = [value if value in (MISSING, NOTHING) else repr(value) for value in (expected, found)]
    left, right = (str(text) for text in texts)
    if max(len(left), len(right)) <= 120:
        return left, right
    start = next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
    start = max(0, start - 40)
    return _window(left, start), _window(right, start)


def _window(text: str, start: int) -> str:
    before = "…" if start else ""
    after = "…" if len(text) > start + 120 else ""
    return f"{before}{text[start : start + 120]}{after}"
