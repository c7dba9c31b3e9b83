"""The commands about profiles."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from migrator import DEFAULT_SOURCE
from migrator.cli.app import CommandGroup
from migrator.cli.options import EXPERIMENT, REDACT, SOURCES
from migrator.cli.output import console, print_exactly, print_json, say, say_result, width
from migrator.errors import OptionError

if TYPE_CHECKING:
    from migrator.pipeline import PlannedTree
    from migrator.transformer import Profile, ProfileUsage

MOST_KEYS = 30  # keys that nothing reads, as text


@click.group(cls=CommandGroup, short_help="List, show, check, create and learn profiles.")
def profiles() -> None:
    """List, show, check and create profiles, which define what params and files of runs mean.

    \b
    mlflow-migrate profiles list
    mlflow-migrate profiles new my-tool --to my-tool.toml
    mlflow-migrate profiles check my-tool.toml ./mlruns
    mlflow-migrate profiles learn ./mlruns

    The reference is docs/reference/profiles.md.
    """


PROFILE_FILES = click.option(
    "--profile-file", "profile_files", multiple=True, metavar="FILE",
    type=click.Path(exists=True, dir_okay=False), help="Also this profile; may be repeated.",
)  # fmt: skip


@profiles.command("list")
@PROFILE_FILES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def list_profiles(profile_files: tuple[str, ...], as_json: bool) -> None:
    """List all profiles in the order in which they are tried."""
    from migrator.report.formats import hanging_table
    from migrator.transformer import load_profiles, recognised_by

    rows = [
        {
            "name": profile.name,
            "description": profile.description,
            "origin": profile.origin,
            "extends": sorted(profile.extends),
            "opt_in": profile.opt_in,
            "recognises": list(recognised_by(profile)),
        }
        for profile in load_profiles(profile_files)
    ]
    if as_json:
        print_json({"profiles": rows})
        return
    cells = [[str(row["name"]), str(row["origin"]), str(row["description"])] for row in rows]
    print_exactly(hanging_table(["name", "origin", "what it is for"], cells, width()))


@profiles.command("show")
@click.argument("name")
@PROFILE_FILES
def show_profile(name: str, profile_files: tuple[str, ...]) -> None:
    """Print the TOML of a profile, to read or as a start for your own."""
    from migrator.transformer import built_in_text, load_profiles

    for profile in load_profiles(profile_files):
        if profile.name == name and profile.origin != "built in":
            print_exactly(Path(profile.origin).read_text(encoding="utf-8"), nl=False)
            return
    print_exactly(built_in_text(name), nl=False)


@profiles.command("check", short_help="Check a profile of your own, alone or against a store.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@SOURCES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def check_profile(file: str, sources: tuple[str, ...], as_json: bool) -> None:
    """Check that a profile of your own is well formed, and how it fits SOURCE.

    A mistake is reported with its line, its key and what is allowed (exit code 2). With a SOURCE
    the trees that the profile takes are listed, how often each of its sources matched there, and
    the keys of those trees that nothing reads. Without one only the file itself is checked.
    """
    checked = _checked(file, sources)
    if as_json:
        print_json(checked.as_dict(file))
        return
    say_result("\n".join(checked.lines(file)))


@dataclass(frozen=True, slots=True)
class _Checked:
    """How a profile fits the trees of a store."""

    profile: Profile
    taken: Sequence[PlannedTree]
    trees: int | None  # None: no store was given
    usage: ProfileUsage

    @property
    def traces(self) -> int:
        """The number of traces that the trees become."""
        return sum(len(planned.plan.traces) for planned in self.taken)

    def as_dict(self, file: str) -> dict[str, object]:
        """The values of ``--json``."""
        has_store = self.trees is not None
        return {
            "profile": self.profile.name,
            "file": file,
            "trees": self.trees,
            "taken": [each.plan.root_run_id for each in self.taken] if has_store else None,
            "traces": self.traces if has_store else None,
            "sources": [asdict(use) for use in self.usage.sources()] if has_store else None,
            "unused": [asdict(key) for key in self.usage.unused()] if has_store else None,
        }

    def lines(self, file: str) -> Iterator[str]:
        """The text that the command prints."""
        from migrator.transformer import recognised_by

        profile = self.profile
        yield f'{file} is a profile: "{profile.name}", {profile.description or "undescribed"}'
        for line in recognised_by(profile):
            yield f"    takes trees in which {line}" if profile.recognise else f"    takes {line}"
        if self.trees is not None:
            yield from self._lines_of_trees(self.trees)
            yield from _lines_of_usage(self.usage, is_of_all=not self.taken)

    def _lines_of_trees(self, trees: int) -> Iterator[str]:
        from migrator.counting import counted

        taken, become = f"{len(self.taken):,}", counted(self.traces, "trace")
        yield f"It takes {taken} of {counted(trees, 'tree')} and makes {become} of them."
        for planned in self.taken[:5]:
            root = planned.plan.root_run_id
            yield f"    {root}  {planned.tree.runs[root].name}  {planned.plan.role.value}"
        if len(self.taken) > 5:
            yield f"    … and {len(self.taken) - 5:,} more"


def _checked(
    file: str, sources: Sequence[str], experiments: Sequence[str] = (), redact: Sequence[str] = ()
) -> _Checked:
    """Check a profile's file, alone or against a store."""
    from migrator import pipeline
    from migrator.transformer import ProfileUsage, load_profiles

    (profile,) = (each for each in load_profiles([file]) if each.origin == file)
    taken: list[PlannedTree] = []
    trees = 0
    of_taken, of_all = ProfileUsage(profile), ProfileUsage(profile)

    def count(planned: PlannedTree) -> None:
        nonlocal trees
        trees += 1
        of_all.add(planned.tree)
        if planned.plan.profile == profile.name:
            taken.append(planned)
            of_taken.add(planned.tree)

    if sources:
        groups = frozenset({profile.opt_in} if profile.opt_in else ())
        options = pipeline.Options(
            profile_files=(file,), include=groups, experiments=experiments, redact=redact
        )
        pipeline.scan(sources, options, on_tree=count)
    trees_read = trees if sources else None
    usage = of_taken if taken else of_all
    return _Checked(profile, taken, trees_read, usage)


def _lines_of_usage(usage: ProfileUsage, *, is_of_all: bool) -> Iterator[str]:
    """How often each source matched, those that never did, and the keys nobody reads."""
    from migrator.counting import counted
    from migrator.report.formats import table

    runs = counted(usage.runs, "run")
    yield f"Matches in the {runs} of {'all trees' if is_of_all else 'the trees it takes'}:"
    uses = usage.sources()
    rows = [[use.where, use.source, f"{use.matches:,}"] for use in uses]
    yield table(["field", "source", "matches"], rows, left={0, 1})
    for use in uses:
        if use.matches == 0:
            hint = f"; the nearest key there is {use.nearest}" if use.nearest else ""
            yield f"Warning: {use.source} of {use.where} never matched{hint}."
    unused = usage.unused()
    if not unused:
        return
    yield "Keys that nothing reads (kept as legacy.… on the spans; artifacts as files):"
    shown = [[key.key, f"{key.runs:,}", key.example] for key in unused[:MOST_KEYS]]
    yield table(["key", "runs", "example"], shown, left={0, 2})
    if len(unused) > MOST_KEYS:
        yield f"    … and {len(unused) - MOST_KEYS:,} more; --json lists all"


@profiles.command("learn", short_help="Propose a profile for runs that no profile knows.")
@SOURCES
@EXPERIMENT
@REDACT
@click.option("--name", default="learnt", show_default=True, help="The profile's name.")
@click.option("--to", metavar="FILE", help="Write it to a new file; by default it is printed.")
def learn_profile(
    sources: tuple[str, ...],
    experiments: tuple[str, ...],
    redact: tuple[str, ...],
    name: str,
    to: str | None,
) -> None:
    """Propose a profile for trees of an experiment that no profile knows, and check it.

    What is likely a question, an answer, tokens, a model, a session or a score is found by what the
    values look like. Each line of the TOML says how many runs it is from, with an example. Without
    --experiment it is the experiment of SOURCE whose trees tell the most. Nothing is sent anywhere.
    """
    from migrator import pipeline
    from migrator.counting import counted
    from migrator.transformer import proposed_toml

    places = sources or (DEFAULT_SOURCE,)
    options = pipeline.Options(experiments=experiments, redact=redact)
    learned = pipeline.learn(places, options)
    text = proposed_toml(name, learned.proposal, learned.experiment)
    if to is not None:
        _write_new(to, text)
        say_result("\n".join(_checked(to, places, experiments, redact).lines(to)))
    else:
        print_exactly(text, nl=False)
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.toml"
            file.write_text(text, encoding="utf-8")
            checked = _checked(str(file), places, experiments, redact)
        for line in "\n".join(checked.lines(file.name)).splitlines():
            print_exactly(f"# {line}".rstrip())  # what is printed is a profile as a whole
    for other, trees in learned.others.items():
        say(f"Experiment {other} has {counted(trees, 'tree')} without a profile, too.")


def _write_new(file: str, text: str) -> None:
    """Write a file that does not exist yet."""
    try:
        with Path(file).open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise OptionError(f"{file} exists already.", todo="Name another file.") from error
    except OSError as error:
        raise OptionError(
            f"{file} can't be written: {error}.", todo="Name another file."
        ) from error


@profiles.command("new", short_help="Print a template for a profile of your own.")
@click.argument("name")
@click.option("--extends", default="generic", show_default=True, metavar="NAME")
@click.option("--to", metavar="FILE", help="Write it to a new file; by default it is printed.")
def new_profile(name: str, extends: str, to: str | None) -> None:
    """Create a profile: print a template that shows every key."""
    from migrator.transformer import template

    text = template(name, extends, to or f"{name}.toml")
    if to is None:
        print_exactly(text, nl=False)
        return
    _write_new(to, text)
    console().finished(f"Wrote {to}.", 0)
    say_result(f"Wrote {to}. Next:\n    mlflow-migrate profiles check {shlex.quote(to)} ./mlruns")
