"""The commands about profiles."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.app import CommandGroup
from migrator.cli.options import SOURCES
from migrator.cli.output import console, print_json, say
from migrator.errors import OptionError

if TYPE_CHECKING:
    from migrator.pipeline import PlannedTree
    from migrator.transformer import ProfileUsage

MOST_KEYS = 30  # keys that nothing reads, as text


@click.group(cls=CommandGroup, short_help="List, show, check and create profiles.")
def profiles() -> None:
    """List, show, check and create profiles, which define what params and files of runs mean.

    \b
    mlflow-migrate profiles list
    mlflow-migrate profiles new my-tool --to my-tool.toml
    mlflow-migrate profiles check my-tool.toml ./mlruns

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
    from migrator.report.formats import table
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
    say(
        table(
            ["name", "origin", "what it is for"],
            [[str(row["name"]), str(row["origin"]), str(row["description"])] for row in rows],
            left={0, 1, 2},
        )
    )


@profiles.command("show")
@click.argument("name")
@PROFILE_FILES
def show_profile(name: str, profile_files: tuple[str, ...]) -> None:
    """Print the TOML of a profile, to read or as a start for your own."""
    from migrator.transformer import built_in_text, load_profiles

    for profile in load_profiles(profile_files):
        if profile.name == name and profile.origin != "built in":
            say(Path(profile.origin).read_text(encoding="utf-8"), nl=False)
            return
    say(built_in_text(name), nl=False)


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
    from migrator import pipeline
    from migrator.transformer import ProfileUsage, load_profiles, recognised_by

    (profile,) = (p for p in load_profiles([file]) if p.origin == file)
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
        options = pipeline.Options(profile_files=(file,), include=groups)
        pipeline.scan(sources, options, on_tree=count)
    usage = of_taken if taken else of_all
    if as_json:
        print_json(
            {
                "profile": profile.name,
                "file": file,
                "trees": trees if sources else None,
                "taken": [planned.plan.root_run_id for planned in taken] if sources else None,
                "traces": _traces(taken) if sources else None,
                "sources": [asdict(use) for use in usage.sources()] if sources else None,
                "unused": [asdict(key) for key in usage.unused()] if sources else None,
            }
        )
        return
    say(f'{file} is a profile: "{profile.name}", {profile.description or "undescribed"}')
    for line in recognised_by(profile):
        say(f"    takes trees whose {line}" if profile.recognise else f"    takes {line}")
    if sources:
        _say_taken(taken, trees)
        _say_usage(usage, is_of_all=not taken)


def _traces(taken: Sequence[PlannedTree]) -> int:
    return sum(len(planned.plan.traces) for planned in taken)


def _say_taken(taken: Sequence[PlannedTree], trees: int) -> None:
    from migrator.counting import counted

    become = counted(_traces(taken), "trace")
    say(f"It takes {len(taken):,} of {counted(trees, 'tree')} and makes {become} of them.")
    for planned in taken[:5]:
        root = planned.plan.root_run_id
        say(f"    {root}  {planned.tree.runs[root].name}  {planned.plan.role.value}")
    if len(taken) > 5:
        say(f"    … and {len(taken) - 5:,} more")


def _say_usage(usage: ProfileUsage, *, is_of_all: bool) -> None:
    """Print how often each source matched, those that never did, and the keys nobody reads."""
    from migrator.counting import counted
    from migrator.report.formats import table

    runs = counted(usage.runs, "run")
    say(f"Matches in the {runs} of {'all trees' if is_of_all else 'the trees it takes'}:")
    uses = usage.sources()
    rows = [[use.where, use.source, f"{use.matches:,}"] for use in uses]
    say(table(["field", "source", "matches"], rows, left={0, 1}))
    for use in uses:
        if use.matches == 0:
            hint = f"; the nearest key there is {use.nearest}" if use.nearest else ""
            say(f"Warning: {use.source} of {use.where} never matched{hint}.")
    unused = usage.unused()
    if not unused:
        return
    say("Keys that nothing reads (they are kept as legacy.… on the spans):")
    shown = [[key.key, f"{key.runs:,}", key.example] for key in unused[:MOST_KEYS]]
    say(table(["key", "runs", "example"], shown, left={0, 2}))
    if len(unused) > MOST_KEYS:
        say(f"    … and {len(unused) - MOST_KEYS:,} more; --json lists all")


@profiles.command("new", short_help="Print a template for a profile of your own.")
@click.argument("name")
@click.option("--extends", default="generic", show_default=True, metavar="NAME")
@click.option("--to", metavar="FILE", help="Write it to a new file; by default it is printed.")
def new_profile(name: str, extends: str, to: str | None) -> None:
    """Create a profile: print a template that shows every key."""
    from migrator.transformer import template

    text = template(name, extends, to or f"{name}.toml")
    if to is None:
        say(text, nl=False)
        return
    try:
        with Path(to).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise OptionError(f"{to} exists already.", todo="Name another file.") from error
    except OSError as error:
        raise OptionError(f"{to} can't be written: {error}.", todo="Name another file.") from error
    console().finished(f"Wrote {to}.", 0)
    say(f"Wrote {to}. Next: mlflow-migrate profiles check {shlex.quote(to)} ./mlruns")
