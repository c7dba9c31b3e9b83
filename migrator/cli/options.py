"""The options that several commands share, and their values.

The parameters have the names of the fields of ``pipeline.Options``, which parses their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrator.errors import OptionError
from migrator.report.console import Console

if TYPE_CHECKING:
    from migrator.pipeline import Options

F = TypeVar("F", bound=Callable[..., Any])

GROUPS = click.Choice(["sweeps", "pipelines", "flat", "deleted", "tables"])


TRACE_OPTIONS = (
    click.option(
        "--include", multiple=True, type=GROUPS,
        help="Make traces of these too; by default they stay runs only.",
    ),
    click.option(
        "--exclude", multiple=True, type=GROUPS,
        help="Make no traces of these. With deleted, MLflow's own traces of deleted things are "
        "left out as well.",
    ),
    click.option("--profile", metavar="NAME", help="Use only this profile for run trees."),
    click.option(
        "--role", "roles", multiple=True, metavar="EXPERIMENT=ROLE",
        help="What all trees of an experiment (name or id) are: workflow, session, batch, "
        "call, sweep, pipeline or training; may be repeated.",
    ),
    click.option(
        "--group-by-time", is_flag=True,
        help="Join flat runs to their workflow, and workflows to their request, by time.",
    ),
    click.option(
        "--adopt-orphans", is_flag=True,
        help="Attach orphaned steps to the workflow that ran just before them.",
    ),
    click.option(
        "--profile-file", "profile_files", multiple=True, metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="Add a profile of your own (TOML); may be repeated.",
    ),
)  # fmt: skip
"""What becomes a trace, and how."""


def _negated(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    return not value


CHOICE_OPTIONS = (
    click.option(
        "--since", metavar="DATE",
        help="Only runs and traces that started or ended on or after DATE (2024-05-31, or with a "
        "time; UTC), and those still open.",
    ),
    click.option(
        "--until", metavar="DATE",
        help="Only runs and traces that started on or before DATE (2024-05-31: to the end of that "
        "day; with a time: before it; UTC).",
    ),
    click.option(
        "--run", "run_ids", multiple=True, metavar="ID",
        help="Only this run and the tree it belongs to, with its traces and logged models; may be "
        "repeated.",
    ),
    click.option(
        "--not-experiment", "not_experiments", multiple=True, metavar="NAME_OR_ID",
        help="Not this experiment; patterns as for --experiment. May be repeated.",
    ),
    click.option(
        "--no-deleted", "deleted", is_flag=True, callback=_negated,
        help="Leave out deleted experiments, runs and logged models, and their traces.",
    ),
    click.option(
        "--rename", multiple=True, metavar="OLD=NEW",
        help="Give an experiment or a registered model another name in the target; may be "
        "repeated. Tags that mention a registered model keep the old name.",
    ),
    click.option(
        "--only", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
        help="Only what this list names: the rejects file of an earlier conversion.",
    ),
)  # fmt: skip
"""Which part of the source is taken."""


KIND_OPTIONS = (
    click.option(
        "--no-runs", "runs", is_flag=True, callback=_negated,
        help="Leave the runs out, write traces only.",
    ),
    click.option(
        "--no-traces", "traces", is_flag=True, callback=_negated,
        help="Leave traces out, write runs only.",
    ),
)  # fmt: skip
"""Which kinds of things are taken."""

TARGET_OPTIONS = (
    click.option(
        "--on-conflict", type=click.Choice(["fail", "merge", "rename"]), default="fail",
        show_default=True,
        help="What to do when the target has another experiment of the same name or id. merge: the "
        "runs go into the one of the same name; where only the id is taken, the experiment gets "
        "another id. rename: a second experiment, NAME (ID). An experiment that came from the "
        "source before is never another one, whatever its name is now.",
    ),
    click.option(
        "--experiment-kind", type=click.Choice(["auto", "genai", "keep"]), default="auto",
        show_default=True,
        help="Which experiments MLflow opens in its GenAI view: auto marks those that hold "
        "mostly traces, genai all, keep none.",
    ),
)  # fmt: skip
"""What a target decides."""

EACH = click.option(
    "--each", is_flag=True,
    help="SOURCE is a directory of many file stores, such as Hydra's outputs or a folder for each "
    "user: take all that lie in it, as if each had been given.",
)  # fmt: skip
EXPERIMENT = click.option(
    "--experiment", "experiments", multiple=True, metavar="NAME_OR_ID",
    help="Only this experiment; may be repeated. A pattern with * ? or [] fits several names.",
)  # fmt: skip
ARTIFACTS = click.option(
    "--artifacts", default="auto", show_default=True,
    metavar="auto|relocate|keep|copy:DIR",
    help="What becomes of recorded artifact locations: relocate points those that lead nowhere to "
    "where the files are, keep leaves all as they are, copy copies the files into DIR, which is a "
    "directory or an address such as s3://bucket/prefix. auto relocates, except in a store "
    "whose files are all elsewhere.",
)  # fmt: skip
ARTIFACTS_AT = click.option(
    "--artifacts-at", multiple=True, metavar="OLD=NEW",
    help="Artifacts whose recorded locations begin with OLD are in NEW, as in "
    "mlflow-artifacts:/=/srv/mlartifacts; may be repeated, and the longest OLD counts. NEW is a "
    "directory, a bucket (s3://new/mlflow) or an MLflow server (http://host:5000).",
)  # fmt: skip
FETCH_LIMIT = click.option(
    "--fetch-limit", default="10GB", show_default=True, metavar="SIZE",
    help="Fetch at most so much of artifacts in object stores and behind servers; 0 looks at none.",
)  # fmt: skip
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N",
    help="Number of processes that read; by default one for each core. The result does not depend "
    "on it.",
)  # fmt: skip
REQUESTS = click.option(
    "--requests", type=click.IntRange(min=1), default=4, show_default=True, metavar="N",
    help="Number of requests at once to a source that is an MLflow server (http://…).",
)  # fmt: skip
REDACT = click.option(
    "--redact", multiple=True, metavar="PATTERN",
    help="Mask what matches this regular expression in every value, key and file name; may be "
    "repeated. Ids, locations, and names of experiments and registered models stay.",
)  # fmt: skip

SHOW_OPTIONS = (EACH, EXPERIMENT, *TRACE_OPTIONS, ARTIFACTS_AT, FETCH_LIMIT, REQUESTS, REDACT)
EXPORT_OPTIONS = (EACH, EXPERIMENT, *TRACE_OPTIONS, ARTIFACTS, ARTIFACTS_AT, FETCH_LIMIT, WORKERS,
                  REQUESTS, *CHOICE_OPTIONS, REDACT)  # fmt: skip
SCAN_OPTIONS = (EACH, EXPERIMENT, *KIND_OPTIONS, *EXPORT_OPTIONS[2:])
CONVERT_OPTIONS = (EACH, EXPERIMENT, *KIND_OPTIONS, *TRACE_OPTIONS, *TARGET_OPTIONS, ARTIFACTS,
                   ARTIFACTS_AT, FETCH_LIMIT, WORKERS, REQUESTS, *CHOICE_OPTIONS,
                   REDACT)  # fmt: skip


def with_options(*added: Callable[[F], F]) -> Callable[[F], F]:
    """A decorator that adds these options to a command, in this order."""

    def add(command: F) -> F:
        for option in reversed(added):
            command = option(command)
        return command

    return add


SHARD = click.option(
    "--shard", default="1/1", metavar="K/N",
    help="Only the K-th of N parts of about equal size. Separate jobs can convert the parts into "
    "one database, in any order.",
)  # fmt: skip
DASK = click.option(
    "--dask", metavar="ADDRESS",
    help="Let a Dask cluster read: tcp://host:8786, or its scheduler file. The result is the same. "
    "Needs the extra: mlflow-migrate[dask].",
)  # fmt: skip


def _set_color(context: click.Context, parameter: click.Parameter, value: str) -> None:
    console: Console | None = context.find_object(Console)
    if console is not None:
        console.color = value


OUTPUT_OPTIONS = (
    click.option(
        "--json", "as_json", is_flag=True,
        help="Print everything as JSON, for machines; -q and -v change nothing then.",
    ),
    click.option(
        "-q", "--quiet", is_flag=True, help="Print only errors, and what another option asks for.",
    ),
    click.option(
        "-v", "--verbose", is_flag=True,
        help="Print every issue and note, and lines of progress where there is no terminal.",
    ),
    click.option(
        "--color", type=click.Choice(["auto", "always", "never"]), default="auto",
        show_default=True, expose_value=False, callback=_set_color,
        help="Colour the output. auto does so on a terminal, unless NO_COLOR is set.",
    ),
)  # fmt: skip

SOURCES = click.argument("sources", nargs=-1, metavar="[SOURCE]...")
VALUES = click.option(
    "--values", is_flag=True,
    help="Show the damaged values themselves with the issues; they may be secret.",
)  # fmt: skip


def options_of(selected: dict[str, Any]) -> Options:
    """The options of a command, from the parameters that click parsed. Raises OptionError."""
    from migrator.pipeline import Options

    return Options(**selected)


@contextmanager
def with_executor(options: Options, dask: str | None) -> Iterator[Options]:
    """Yield the options with the executor of a Dask cluster, if one is named."""
    if dask is None:
        yield options
        return
    from migrator.workers import dask as cluster

    if options.workers:
        raise OptionError("--workers and --dask: the cluster itself says how many it has.")
    with cluster.connect(dask) as executor:
        yield replace(options, executor=executor, workers=executor.threads())
