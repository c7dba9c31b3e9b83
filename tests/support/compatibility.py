"""Keeps what tests ran with which versions, for ``docs/reference/compatibility.md``.

``pytest --record-compatibility`` writes one line into ``docs/reference/compatibility.json``, in
place of the earlier line for the same system, Python and MLflow.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

RECORD = Path(__file__).resolve().parents[2] / "docs" / "reference" / "compatibility.json"
LIBRARIES = ("sqlalchemy", "pandas", "click")


@dataclass(frozen=True, slots=True)
class TestRun:
    """One run of the tests: when, what, with which versions, and how it ended."""

    __test__ = False  # pytest: not a class of tests

    date: str
    system: str  # Linux, Darwin, Windows
    python: str  # 3.11
    mlflow: str  # 3.9.0
    libraries: Mapping[str, str]
    tests: str  # the files that were named; "all" if none was
    passed: int
    failed: int
    skipped: int

    @property
    def place(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        """What a run replaces: an earlier one of the same system, Python and MLflow."""
        return self.system, _numbers(self.python), _numbers(self.mlflow)


def this_run(files: Sequence[str], passed: int, failed: int, skipped: int) -> TestRun:
    """A run of the tests in this environment that ends now."""
    return TestRun(
        date=datetime.now(timezone.utc).date().isoformat(),
        system=platform.system(),
        python=".".join(platform.python_version_tuple()[:2]),
        mlflow=metadata.version("mlflow"),
        libraries={name: metadata.version(name) for name in LIBRARIES},
        tests=", ".join(files) or "all",
        passed=passed,
        failed=failed,
        skipped=skipped,
    )


def recorded(path: Path = RECORD) -> list[TestRun]:
    """The runs that are kept, sorted by system, Python and MLflow."""
    if not path.exists():
        return []
    lines = json.loads(path.read_text(encoding="utf-8"))
    return sorted((TestRun(**line) for line in lines), key=lambda run: run.place)


def record(run: TestRun, path: Path = RECORD) -> None:
    """Keep a run in place of the earlier one of its kind."""
    others = [each for each in recorded(path) if each.place != run.place]
    runs = sorted([*others, run], key=lambda each: each.place)
    path.write_text(json.dumps(list(map(asdict, runs)), indent=2) + "\n", encoding="utf-8")


def table(runs: Sequence[TestRun]) -> str:
    """The runs as a table in Markdown."""
    lines = [
        "| date | system | Python | MLflow | libraries | tests | passed | failed | skipped |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        libraries = ", ".join(f"{name} {version}" for name, version in run.libraries.items())
        lines.append(
            f"| {run.date} | {run.system} | {run.python} | {run.mlflow} | {libraries} "
            f"| {run.tests} | {run.passed:,} | {run.failed:,} | {run.skipped:,} |"
        )
    return "\n".join(lines)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
