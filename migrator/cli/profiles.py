"""The commands about profiles."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.app import CommandGroup
from migrator.cli.options import SOURCES
from migrator.cli.output import console, print_json, say
from migrator.errors import OptionError

if TYPE_CHECKING:
    from migrator.pipeline import PlannedTree


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
    """Check that a profile of your own is well formed, and list the trees of SOURCE it takes.

    A mistake is reported with its line, its key and what is allowed (exit code 2). Without a
    SOURCE only the file itself is checked.
    """
    from migrator import pipeline
    from migrator.counting import counted
    from migrator.transformer import load_profiles, recognised_by

    (profile,) = (p for p in load_profiles([file]) if p.origin == file)
    taken: list[PlannedTree] = []
    trees = 0

    def count(planned: PlannedTree) -> None:
        nonlocal trees
        trees += 1
        if planned.plan.profile == profile.name:
            taken.append(planned)

    if sources:
        groups = frozenset({profile.opt_in} if profile.opt_in else ())
        options = pipeline.Options(profile_files=(file,), include=groups)
        pipeline.scan(sources, options, on_tree=count)
    traces = sum(len(planned.plan.traces) for planned in taken)
    if as_json:
        print_json(
            {
                "profile": profile.name,
                "file": file,
                "trees": trees if sources else None,
                "taken": [planned.plan.root_run_id for planned in taken] if sources else None,
                "traces": traces if sources else None,
            }
        )
        return
    say(f'{file} is a profile: "{profile.name}", {profile.description or "undescribed"}')
    for line in recognised_by(profile):
        say(f"    takes trees whose {line}" if profile.recognise else f"    takes {line}")
    if sources:
        become = counted(traces, "trace")
        say(f"It takes {len(taken):,} of {counted(trees, 'tree')} and makes {become} of them.")
        for planned in taken[:5]:
            root = planned.plan.root_run_id
            say(f"    {root}  {planned.tree.runs[root].name}  {planned.plan.role.value}")
        if len(taken) > 5:
            say(f"    … and {len(taken) - 5:,} more")


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
