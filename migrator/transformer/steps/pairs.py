"""Calls that a run wrote down as pairs of texts: ``planner_prompt.txt``, ``planner_response.txt``.

So people log the agents of a workflow, or several questions with their answers, in one run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from migrator.transformer.found import Found, Status, Step
from migrator.transformer.input_parts import SYSTEM_STEMS
from migrator.transformer.prose import Prose, kind_of_text
from migrator.transformer.run_view import RunView
from migrator.transformer.values import natural, words

LEAST_PAIRS = 2  # one pair is the call of the run itself
MOST_PAIRS = 1_000
_ASKED = re.compile(r"(?:^|_)(?:prompt|question|query|input|request|instruction)(?:_|\Z)")
_ANSWERED = re.compile(r"(?:^|_)(?:response|answer|reply|output|completion|result)(?:_|\Z)")
_OF_ONE_CALL = words("user system final full raw llm model expected reference")
"""Words of names that tell the texts of one call apart, and no calls."""


class Pair(NamedTuple):
    """What one call was asked and what it answered, and the name that both texts have."""

    name: str
    asked: Found
    answered: Found


def pairs_of(view: RunView) -> tuple[Pair, ...]:
    """The pairs of texts of a run, by their names; nothing where there are fewer than two."""
    given = _by_name(_texts(view, ("inputs", "maybe_inputs")), _ASKED)
    asked = {name: found for name, found in given.items() if _reads_as_text(found)}
    if len(asked) < LEAST_PAIRS:
        return ()  # nearly every run
    answered = _by_name(_texts(view, ("outputs", "maybe_outputs")), _ANSWERED)
    names = sorted(asked.keys() & answered.keys(), key=lambda name: (name[0], natural(name[1])))
    if not LEAST_PAIRS <= len(names) <= MOST_PAIRS:
        return ()
    return tuple(Pair(name[1], asked[name], answered[name]) for name in names)


def steps_of_pairs(pairs: Iterable[Pair]) -> Sequence[Step]:
    """A call for each pair. Nobody knows when it ran."""
    return [
        Step(
            key=f"pair {pair.asked.key}",
            name=f"call_{pair.name}" if pair.name.isdecimal() else pair.name,
            inputs={pair.asked.stem: pair.asked.value},
            outputs=pair.answered.value,
            status=Status("OK", f"{pair.answered.origin} holds its answer", False),
            origins={"inputs": pair.asked.origin, "outputs": pair.answered.origin},
            inferences=("order: by name, no time is on record",),
        )
        for pair in pairs
    ]


def without(founds: Iterable[Found], pairs: Iterable[Pair]) -> list[Found]:
    """The values that are not part of a pair."""
    paired = {found.at for pair in pairs for found in (pair.asked, pair.answered)}
    return [found for found in founds if found.at not in paired]


def _texts(view: RunView, fields: Iterable[str]) -> Iterable[Found]:
    """The texts that fields find, and those in params of any name."""
    founds = chain.from_iterable(view.every(field) for field in fields)
    params = [Found(text, "param", key) for key, text in view.run.params.items()]
    for found in (*founds, *params):
        if isinstance(found.value, str) and found.value.strip():
            yield found


def _reads_as_text(found: Found) -> bool:
    """Whether a value has several words: sizes and names of settings come in pairs, too."""
    return kind_of_text(str(found.value)) >= Prose.TERMS


def _by_name(founds: Iterable[Found], word: re.Pattern[str]) -> dict[tuple[str, str], Found]:
    """Texts by their folder and by what their names have beside the word for their kind."""
    named: dict[tuple[str, str], Found] = {}
    for found in founds:
        name = word.sub("_", found.stem, count=1).strip("_")
        is_named = name and name != found.stem and found.stem not in SYSTEM_STEMS
        if is_named and _OF_ONE_CALL.isdisjoint(name.split("_")):
            folder = found.key.rpartition("/")[0] if found.place == "artifact" else found.place
            named.setdefault((folder, name), found)
    return named
