"""The options of all commands.

They are parsed when ``Options`` is made, on the command line and from Python alike. So a wrong one
is refused before anything is read, and the rest of the code meets only values that can't be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from datetime import date, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from re import Pattern
from typing import Any, Literal, TypeAlias, get_args

from migrator import extractor, transformer
from migrator.errors import OptionError
from migrator.model import Role, RootChange
from migrator.pipeline.artifact_roots import parsed_changes
from migrator.pipeline.redaction import compiled
from migrator.pipeline.selection import RejectsList, Shard, parsed_end, parsed_time

Paths: TypeAlias = "str | Path | Sequence[str | Path]"
ExperimentKind = Literal["auto", "genai", "keep"]
Group = Literal["sweeps", "pipelines", "flat", "deleted", "tables"]

_BYTES = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>[KMGT]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
ON_CONFLICT: tuple[str, ...] = get_args(transformer.OnConflict)
EXPERIMENT_KINDS: tuple[str, ...] = get_args(ExperimentKind)
GROUPS: tuple[str, ...] = get_args(Group)
ROLES = tuple(role.value for role in Role)


@dataclass(frozen=True, slots=True, init=False)
class Options:
    """What a user can choose; the same for every command.

    The attributes are the parsed values. The constructor also takes what the command line takes,
    so these two are the same::

        Options(artifacts="keep", since="2024-05-31", roles=["chat=session"], redact="sk-.*")
        Options(artifacts=ArtifactChoice("keep"), since=date(2024, 5, 31),
                roles={"chat": Role.SESSION}, redact=re.compile("sk-.*"))

    Raises OptionError for a value that is not allowed, and names those that are; for options that
    contradict one another; for a profile, or a list for ``only``, that can't be read.
    """

    experiments: tuple[str, ...]
    """Names or ids of the experiments to take, or patterns such as ``prod-*``; empty for all."""
    each: bool
    """Take every file store in the folders that are given as sources."""
    not_experiments: tuple[str, ...]
    """Names, ids or patterns of experiments to leave out."""
    run_ids: tuple[str, ...]
    """Take only the trees that hold these runs; empty for all."""
    deleted: bool
    """Take deleted experiments, runs and logged models too."""
    runs: bool
    traces: bool
    include: frozenset[str]
    """Groups that become traces only on request: members of ``GROUPS``."""
    exclude: frozenset[str]
    """Groups, and roles of trees, that become no traces: members of ``GROUPS`` and ``ROLES``."""
    profile: str | None
    """The only profile to try."""
    profile_files: tuple[str, ...]
    """TOML files with profiles, tried before those built in."""
    on_conflict: transformer.OnConflict
    """What to do when the target has another experiment of the same name or id."""
    experiment_kind: ExperimentKind
    artifacts: transformer.ArtifactChoice
    artifacts_at: tuple[RootChange, ...]
    """Roots of recorded artifact locations, and where they are now."""
    fetch_limit: int
    """Bytes of artifacts that may be fetched from object stores and servers; 0 for none."""
    workers: int
    """Processes that read; 0 for one for each core. With an executor: how many it has."""
    requests: int
    """Requests that a source which is a server gets at once."""
    executor: Executor | None
    """Reads in place of our own processes, in ``scan`` and ``convert``."""
    roles: tuple[tuple[str, Role], ...]
    """Experiments (name or id), and the role that all their trees have."""
    group_by_time: bool
    adopt_orphans: bool
    since: datetime | None
    """Take only runs and traces that started or ended then or later, and those still open."""
    until: datetime | None
    """Take only runs and traces that started before this moment."""
    rename: tuple[tuple[str, str], ...]
    """Experiments and registered models of the source, and their names in the target."""
    restore: bool
    """Bring back what people deleted in the target since the last conversion."""
    check_all: bool
    """Read the sources even if the sizes and times of their files say that nothing is new."""
    only: RejectsList | None
    """Take only what this list names."""
    shard: Shard
    redact: tuple[Pattern[str], ...]
    """What matches one of these is masked."""

    def __init__(  # noqa: PLR0913  # a keyword for each option
        self,
        *,
        experiments: str | Iterable[str] = (),
        runs: bool = True,
        traces: bool = True,
        include: str | Iterable[str] = (),
        exclude: str | Iterable[str] = (),
        profile: str | None = None,
        profile_files: Paths = (),
        on_conflict: str = "fail",
        experiment_kind: str = "auto",
        artifacts: str | transformer.ArtifactChoice = "auto",
        artifacts_at: str | RootChange | Mapping[str, str] | Iterable[str | RootChange] = (),
        fetch_limit: int | str = "10GB",
        workers: int | None = None,
        requests: int = extractor.REQUESTS_AT_ONCE,
        executor: Executor | None = None,
        roles: Mapping[str, str | Role] | Iterable[str | tuple[str, str | Role]] = (),
        group_by_time: bool = False,
        adopt_orphans: bool = False,
        since: str | date | None = None,
        until: str | date | None = None,
        each: bool = False,
        not_experiments: str | Iterable[str] = (),
        run_ids: str | Iterable[str] = (),
        deleted: bool = True,
        rename: Mapping[str, str] | str | Iterable[str | tuple[str, str]] = (),
        restore: bool = False,
        check_all: bool = False,
        only: str | Path | RejectsList | None = None,
        shard: str | tuple[int, int] = (1, 1),
        redact: str | Pattern[str] | Iterable[str | Pattern[str]] = (),
    ) -> None:
        given: dict[str, Any] = {
            "experiments": experiments,
            "runs": runs,
            "traces": traces,
            "include": include,
            "exclude": exclude,
            "profile": profile,
            "profile_files": profile_files,
            "on_conflict": on_conflict,
            "experiment_kind": experiment_kind,
            "artifacts": artifacts,
            "artifacts_at": artifacts_at,
            "fetch_limit": fetch_limit,
            "workers": workers,
            "requests": requests,
            "executor": executor,
            "roles": roles,
            "group_by_time": group_by_time,
            "adopt_orphans": adopt_orphans,
            "since": since,
            "until": until,
            "each": each,
            "not_experiments": not_experiments,
            "run_ids": run_ids,
            "deleted": deleted,
            "rename": rename,
            "restore": restore,
            "check_all": check_all,
            "only": only,
            "shard": shard,
            "redact": redact,
        }
        for name, value in given.items():
            object.__setattr__(self, name, _parsed(name, value))
        self._refuse_contradictions()
        self._refuse_options_without_effect()
        if profile is not None or self.profile_files:
            self._check_profiles()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Make options of keywords. Raises OptionError for a name that is not an option's, too."""
        names = [each.name for each in fields(cls)]
        for name in given:
            if name not in names:
                close = get_close_matches(name, names, n=1)
                meant = f"Did you mean {close[0]}? " if close else ""
                raise OptionError(
                    f"There is no option {name!r}.",
                    todo=f"{meant}help(migrator.pipeline.Options) lists them.",
                )
        return cls(**given)

    @property
    def decisive(self) -> tuple[object, ...]:
        """Plain values that decide what comes into the target, the same in every process."""
        return (
            self.experiments, self.not_experiments, self.run_ids, self.deleted, self.runs,
            self.traces, sorted(self.include), sorted(self.exclude), self.profile,
            self.profile_files, self.on_conflict, self.experiment_kind, str(self.artifacts),
            list(map(str, self.artifacts_at)), self.fetch_limit, self.roles, self.group_by_time,
            self.adopt_orphans, str(self.since), str(self.until), self.rename, self.only,
            self.shard, [(each.pattern, each.flags) for each in self.redact],
        )  # fmt: skip

    def takes_experiment(self, experiment_id: str, name: str, *, is_deleted: bool) -> bool:
        """Whether an experiment is taken, as far as its id, name and state decide."""
        if is_deleted and not self.deleted:
            return False
        if any(fits_experiment(each, experiment_id, name) for each in self.not_experiments):
            return False
        chosen = any(fits_experiment(each, experiment_id, name) for each in self.experiments)
        return chosen or not self.experiments

    def _refuse_contradictions(self) -> None:
        if not self.runs and not self.traces:
            raise OptionError(
                "--no-runs and --no-traces leave neither runs nor traces.", todo="Give one of them."
            )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise OptionError(
                f"--since {self.since} and --until {self.until} leave nothing between them.",
                todo="Give an earlier --since or a later --until.",
            )
        if not self.deleted and "deleted" in self.include:
            raise OptionError(
                "--no-deleted and --include deleted contradict one another.",
                todo="Give one of them.",
            )
        if self.run_ids and self.only is not None:
            raise OptionError(
                "--run and --only both say which items are taken.", todo="Give one of them."
            )
        for group in sorted(self.include & self.exclude):
            raise OptionError(
                f"--include {group} and --exclude {group} contradict one another.",
                todo="Give one of them.",
            )
        roles: dict[str, Role] = {}
        for experiment, role in self.roles:
            first = roles.setdefault(experiment, role)
            if first is not role:
                raise OptionError(
                    f"--role {experiment}={first.value} and --role {experiment}={role.value} "
                    "contradict one another.",
                    todo="Give one of them.",
                )
        if self.artifacts.directory is None:
            return
        if not self.shard.is_whole:
            raise OptionError(
                f"--artifacts {self.artifacts} and --shard: where versions of registered models "
                "are copied to is decided over the whole source.",
                todo="Copy the files by other means, or convert without --shard.",
            )
        if self.redact:
            raise OptionError(
                f"--redact and --artifacts {self.artifacts}: the files would be copied as they "
                "are, with what is to be masked.",
                todo="Leave out one of the two.",
            )

    def _refuse_options_without_effect(self) -> None:
        if self.traces:
            return
        about_traces = {
            "--include": self.include,
            "--exclude": self.exclude,
            "--profile": self.profile,
            "--profile-file": self.profile_files,
            "--role": self.roles,
            "--group-by-time": self.group_by_time,
            "--adopt-orphans": self.adopt_orphans,
        }
        for option, value in about_traces.items():
            if value:
                raise OptionError(
                    f"{option} has no effect with --no-traces, which leaves all traces out.",
                    todo="Leave one of them out.",
                )

    def _check_profiles(self) -> None:
        names = [profile.name for profile in transformer.load_profiles(self.profile_files)]
        if self.profile is not None and self.profile not in names:
            todo = f"There are {', '.join(names)}."
            if self.profile.endswith(".toml"):
                todo = f"A file is given with --profile-file. {todo}"
            raise OptionError(f'There is no profile "{self.profile}".', todo=todo)


def fits_experiment(pattern: str, experiment_id: str, name: str) -> bool:
    """Whether an experiment has this name or id, or a name that fits the pattern."""
    return pattern in (name, experiment_id) or fnmatchcase(name, pattern)


def as_texts(values: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """One or several texts or paths as a tuple of texts. Raises OptionError for anything else."""
    if isinstance(values, (str, Path)):
        return (str(values),)
    if not isinstance(values, Iterable):
        raise OptionError(f"{values!r} is not a text, a path, or several of them.")
    return tuple(str(value) for value in values)


def as_text(what: str, value: str | Path) -> str:
    """The text of a text or a path that is not empty. Raises OptionError for anything else."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise OptionError(
            f"{what} {value!r} is not an address or a path.",
            todo="Give one, such as sqlite:///mlflow.db.",
        )
    return str(value)


def _one_of(option: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise OptionError(
            f"{option} {value!r} is not a valid choice.", todo=f"Choose from {', '.join(allowed)}."
        )
    return value


def _groups(option: str, values: str | Iterable[str], allowed: Sequence[str]) -> frozenset[str]:
    return frozenset(_one_of(option, value, allowed) for value in as_texts(values))


def _byte_count(given: int | str) -> int:
    """Parse a number of bytes, which may end in KB, MB, GB or TB (powers of 1,000)."""
    match = _BYTES.fullmatch(str(given).strip())
    if match is None:
        raise OptionError(
            f"--fetch-limit {given!r} is not a number of bytes.",
            todo="Give one as in 500MB or 20GB; 0 fetches nothing.",
        )
    return int(float(match["number"]) * _UNITS[match["unit"].upper()])


def _worker_count(workers: int | None) -> int:
    if workers is None:
        return 0
    if workers < 0:
        raise OptionError(
            f"--workers {workers} is not a number of processes.",
            todo="Give 1 or more, or leave it out for one for each core.",
        )
    return workers


def _request_count(requests: int) -> int:
    if requests < 1:
        raise OptionError(
            f"--requests {requests} is not a number of requests.", todo="Give 1 or more."
        )
    return requests


def _roles(
    given: Mapping[str, str | Role] | Iterable[str | tuple[str, str | Role]],
) -> tuple[tuple[str, Role], ...]:
    if isinstance(given, str):
        given = (given,)
    pairs = given.items() if isinstance(given, Mapping) else given
    return tuple(_role(pair) for pair in pairs)


def _role(pair: str | tuple[str, str | Role]) -> tuple[str, Role]:
    """Parse ``EXPERIMENT=ROLE``; an experiment's name may have equals signs of its own."""
    if isinstance(pair, str):
        experiment, _, role = pair.rpartition("=")
        text = pair
    else:
        experiment, role = pair[0], Role(pair[1]).value if pair[1] in ROLES else str(pair[1])
        text = f"{experiment}={role}"
    if not experiment or role not in ROLES:
        raise OptionError(
            f"--role {text!r} is not EXPERIMENT=ROLE.",
            todo=f"Choose the role from {', '.join(ROLES)}.",
        )
    return experiment, Role(role)


def _new_names(
    given: Mapping[str, str] | str | Iterable[str | tuple[str, str]],
) -> tuple[tuple[str, str], ...]:
    """Parse ``OLD=NEW``; names with an equals sign of their own can only be given as a mapping."""
    if isinstance(given, str):
        given = (given,)
    new_names: dict[str, str] = {}
    for pair in given.items() if isinstance(given, Mapping) else given:
        old, new = _new_name(pair)
        if new_names.setdefault(old, new) != new:
            raise OptionError(
                f"--rename gives {old!r} two names, {new_names[old]!r} and {new!r}.",
                todo="Give one of them.",
            )
    return tuple(new_names.items())


def _new_name(pair: str | tuple[str, str]) -> tuple[str, str]:
    parts = pair.split("=") if isinstance(pair, str) else list(pair)
    if len(parts) != 2 or not parts[0] or not parts[1].strip():
        raise OptionError(
            f"--rename {pair!r} is not OLD=NEW.",
            todo="Give both names, with one equals sign between them.",
        )
    return parts[0], parts[1]


def _patterns(
    given: str | Pattern[str] | Iterable[str | Pattern[str]],
) -> tuple[Pattern[str], ...]:
    if isinstance(given, (str, Pattern)):
        given = (given,)
    return tuple(compiled(pattern) for pattern in given)


def _flag(value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _optional_text(value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _unchanged(value: Any) -> Any:
    return value


def _optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def parse_if_given(value: Any) -> Any:
        return None if value is None else parse(value)

    return parse_if_given


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "experiments": as_texts,
    "runs": _flag,
    "traces": _flag,
    "include": partial(_groups, "--include", allowed=GROUPS),
    "exclude": partial(_groups, "--exclude", allowed=GROUPS + ROLES),
    "profile": _optional_text,
    "profile_files": as_texts,
    "on_conflict": partial(_one_of, "--on-conflict", allowed=ON_CONFLICT),
    "experiment_kind": partial(_one_of, "--experiment-kind", allowed=EXPERIMENT_KINDS),
    "artifacts": transformer.ArtifactChoice.parse,
    "artifacts_at": parsed_changes,
    "fetch_limit": _byte_count,
    "workers": _worker_count,
    "requests": _request_count,
    "executor": _unchanged,
    "roles": _roles,
    "group_by_time": _flag,
    "adopt_orphans": _flag,
    "since": _optional(parsed_time),
    "until": _optional(parsed_end),
    "each": _flag,
    "not_experiments": as_texts,
    "run_ids": as_texts,
    "deleted": _flag,
    "rename": _new_names,
    "restore": _flag,
    "check_all": _flag,
    "only": _optional(RejectsList.read),
    "shard": Shard.parse,
    "redact": _patterns,
}
"""Option -> a function that parses its value. It raises OptionError for one that is not allowed."""


def _parsed(name: str, value: Any) -> Any:
    try:
        return _PARSERS[name](value)
    except (TypeError, AttributeError) as error:  # of a value that is no text, number, list, …
        raise OptionError(
            f"The value {value!r} of the option {name} has a wrong type.",
            todo="help(migrator.pipeline.Options) lists what each option takes.",
        ) from error
