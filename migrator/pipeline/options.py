"""What a user can choose."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from migrator import transformer
from migrator.errors import OptionError


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

    def __post_init__(self) -> None:
        """Raise OptionError for options that contradict one another or have no effect."""
        if not self.runs and not self.traces:
            raise OptionError(
                "--no-runs and --no-traces leave neither runs nor traces.", todo="Give one of them."
            )
        for group in sorted(self.include & self.exclude):
            raise OptionError(
                f"--include {group} and --exclude {group} contradict one another.",
                todo="Give one of them.",
            )
        roles: dict[str, str] = {}
        for experiment, role in self.roles:
            if roles.setdefault(experiment, role) != role:
                raise OptionError(
                    f"--role {experiment}={roles[experiment]} and --role {experiment}={role} "
                    "contradict one another.",
                    todo="Give one of them.",
                )
        for option, is_given in self._about_traces().items():
            if is_given and not self.traces:
                raise OptionError(
                    f"{option} has no effect with --no-traces, which leaves all traces out.",
                    todo="Leave one of them out.",
                )

    def _about_traces(self) -> dict[str, bool]:
        """Say of each option that decides what becomes a trace whether it was given."""
        return {
            "--include": bool(self.include),
            "--exclude": bool(self.exclude),
            "--profile": self.profile is not None,
            "--profile-file": bool(self.profile_files),
            "--role": bool(self.roles),
            "--group-by-time": self.group_by_time,
            "--adopt-orphans": self.adopt_orphans,
        }
