"""What a user can choose."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from migrator import transformer


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose; the same for every command."""

    experiments: tuple[str, ...] = ()  # names or ids; empty for all
    runs: bool = True
    traces: bool = True
    include: frozenset[str] = frozenset()  # sweeps, pipelines, flat, deleted, tables
    exclude: frozenset[str] = frozenset()
    profile: str | None = None  # the only profile to try
    profile_files: tuple[str, ...] = ()
    on_conflict: transformer.OnConflict = "fail"
    experiment_kind: str = "auto"  # auto | genai | keep
    artifacts: str = "auto"  # auto | relocate | keep | copy:DIR
    workers: int = 0  # processes that read; 0 for as many as there are cores
    executor: Executor | None = None  # reads instead, in scan and convert; workers: how many it has
    roles: tuple[tuple[str, str], ...] = ()  # experiment (name or id) and role of all its trees
    group_by_time: bool = False
    adopt_orphans: bool = False
    since: str | None = None  # a date: only what is younger, or not ended
    only: str | None = None  # a rejects file: only what it lists
    shard: tuple[int, int] = (1, 1)  # K and N: this one of N parts that are converted apart
    redact: tuple[str, ...] = ()  # regular expressions: values that are masked
