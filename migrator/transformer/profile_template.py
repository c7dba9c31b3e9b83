"""For people who write profiles: a template to begin with, and a profile in few words."""

from __future__ import annotations

from migrator.errors import OptionError
from migrator.transformer.profiles import (
    STEP_READERS,
    TREE_ROLES,
    Profile,
    Recognition,
    Source,
    built_in_names,
)

TEMPLATE = """\
# A profile says which params, metrics, tags and artifacts of your runs mean what.
# Try it: mlflow-migrate profiles check {file} ./mlruns
#         mlflow-migrate scan ./mlruns --profile-file {file}
name = "{name}"
description = "What logged these runs, in one line."
extends = "{extends}"  # all that it knows holds too; what stands here comes first

# A tree is this profile's if all lines of one [[recognise]] hold. Several may be given. Without
# any, the profile takes what no other does.
[[recognise]]
root_has = ["param:my_param", "metric:my_metric"]  # all of them, on the root
# child_has = ["tag:my_tag"]                       # all of them, on one run below it
# root_name = '^my_workflow_'                      # a regular expression
# child_name = '^step_'

# role = "workflow"  # what all its trees are: {roles}
# steps = "..."      # code that reads a run's own files: {steps}

# Where each field stands, most telling first. A source is param:KEY, metric:KEY, tag:KEY,
# artifact:PATH or artifact:FILE.json#key.inside; root.param:KEY is the root's. "*" is any text; an
# artifact without "/" is met in any folder. Case, accents and separators of keys don't matter.
[fields]
inputs = ["artifact:question.txt", "param:question"]
outputs = ["artifact:answer.txt"]
# model = ["param:model"]
# input_tokens = ["metric:prompt_tokens"]
# output_tokens = ["metric:completion_tokens"]
# cost_usd = ["metric:cost"]
# duration_s = ["metric:latency"]
# session = ["param:session_id"]
# user = ["param:user_id"]
# success = ["metric:success"]        # 1 or 0
# error_message = ["param:error"]

# Type and name of spans: the first rule that fits.
# [[spans]]
# run_name = '^search'
# type = "RETRIEVER"
# name = "search {{param:index}}"

# Values that say how good a result was (feedback), or what it should have been (expectation).
# [[assessments]]
# from = ["metric:user_rating"]
# source = "HUMAN"
"""


def template(name: str, extends: str, file: str) -> str:
    """The TOML of a profile to begin with. Raises OptionError for a name that does not fit."""
    built_in = built_in_names()
    if extends not in built_in:
        raise OptionError(
            f'There is no built-in profile "{extends}" to extend.',
            todo=f"There are {', '.join(built_in)}.",
        )
    if not name.strip() or any(c in '"\\' or not c.isprintable() for c in name):
        raise OptionError(
            f"A profile can't be named {name!r}.", todo="Use letters, digits and hyphens."
        )
    return TEMPLATE.format(
        name=name,
        extends=extends,
        file=file,
        roles=", ".join(TREE_ROLES),
        steps=", ".join(STEP_READERS),
    )


def recognised_by(profile: Profile) -> tuple[str, ...]:
    """A sentence for each way in which a profile recognises a tree."""
    return tuple(_group(group) for group in profile.recognise) or ("what no other recognises",)


def _group(group: Recognition) -> str:
    parts = []
    if group.root_name is not None:
        parts.append(f"the root is named {group.root_name.pattern}")
    if group.root_has:
        parts.append(f"the root has {_listed(group.root_has)}")
    if group.child_name is not None:
        parts.append(f"a run below is named {group.child_name.pattern}")
    if group.child_has:
        parts.append(f"a run below has {_listed(group.child_has)}")
    return "; ".join(parts)


def _listed(sources: tuple[Source, ...]) -> str:
    return ", ".join(source.text for source in sources)
