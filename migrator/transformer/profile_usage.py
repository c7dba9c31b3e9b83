"""How a profile fits a store: which of its sources match, and which keys nobody reads."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from migrator import encoding
from migrator.model import RunRecord
from migrator.transformer.found import Found
from migrator.transformer.logged_keys import values_inside
from migrator.transformer.profiles import Profile, Source, normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.steps import TABLE_ROWS
from migrator.transformer.steps.tables import rows_as_runs
from migrator.transformer.trees import RunTree
from migrator.transformer.values import last_value

EXAMPLE_CHARS = 60
RECOGNISE = "[[recognise]]"


@dataclass(frozen=True, slots=True)
class SourceUse:
    """A source that the user's file names, and the number of runs (or rows) it matched in."""

    where: str  # the field, or the part of the file
    source: str  # as written
    matches: int
    nearest: str  # the likeliest key for a source that never matched; empty: none is alike


@dataclass(frozen=True, slots=True)
class UnusedKey:
    """A key of runs that no source of the profile, or of those it extends, matches."""

    key: str  # as a source: "param:prompt"
    runs: int
    example: str


@dataclass(slots=True)
class ProfileUsage:
    """Counts over the trees that were added."""

    profile: Profile
    runs: int = 0
    _matches: Counter[tuple[str, str]] = field(default_factory=Counter)
    _keys: Counter[str] = field(default_factory=Counter)  # of runs and rows, as sources
    _unused: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, str] = field(default_factory=dict)

    def add(self, tree: RunTree) -> None:
        """Count the runs of a tree, and the rows of their tables if the profile reads those."""
        root = tree.runs.get(tree.root_id)
        root_view = RunView(root, self.profile) if root is not None else None
        for run in tree.runs.values():
            view = RunView(run, self.profile, root_view if run is not root else None)
            self.runs += 1
            rows = list(rows_as_runs(view)) if self.profile.steps == TABLE_ROWS else []
            self._count(view)
            for row in rows:
                self._count(RunView(row, self.profile))

    def sources(self) -> list[SourceUse]:
        """Every source of the user's file, in the order of the file's parts."""
        uses: list[SourceUse] = []
        for where, sources in self.profile.own.items():
            for source in sources:
                matches = self._matches[where, source.text]
                nearest = "" if matches else self._nearest(source)
                uses.append(SourceUse(where, source.text, matches, nearest))
        return uses

    def unused(self) -> list[UnusedKey]:
        """Keys that no source matches, the most frequent first."""
        counts = sorted(self._unused.items(), key=lambda entry: (-entry[1], entry[0]))
        return [UnusedKey(key, number, self._examples[key]) for key, number in counts]

    def _count(self, view: RunView) -> None:
        for where, sources in self.profile.own.items():
            for source in sources:
                if view.has(source):
                    self._matches[where, source.text] += 1
        founds = list(self._founds(view))
        others = {f"{found.place}:{found.key}" for found in founds}
        for place, key, example in _keys_of(view.run):
            name = f"{place}:{key}"
            self._keys[name] += 1
            if name not in others and not self._is_read(view, place, key):
                self._count_unused(name, example)
        for name, example in _unread_inside(view, founds):
            self._count_unused(name, example)

    def _count_unused(self, name: str, example: str) -> None:
        self._unused[name] += 1
        self._examples.setdefault(name, example)

    def _founds(self, view: RunView) -> Iterator[Found]:
        """What the sources of the user's file find in a run, but for those that recognise it."""
        for _, source in view.judging():
            yield from view.all(source)
        of_fields = [each for where, each in self.profile.own.items() if where != RECOGNISE]
        for sources in (*of_fields, *self.profile.attributes.values()):
            for source in sources:
                yield from view.all(source)

    def _is_read(self, view: RunView, place: str, key: str) -> bool:
        if place == "artifact":
            return bool(view.index.sources_at(key))
        return bool(view.index.fields_of(place, normalise(key)))

    def _nearest(self, source: Source) -> str:
        """The key in the store that is most like a source's, or the same key at another place."""
        if source.place == "field":
            return ""
        names: dict[str, str] = {}
        for name in self._keys:
            place, _, key = name.partition(":")
            plain = key.rpartition("/")[2] if place == "artifact" else normalise(key)
            if plain not in names or place == source.place:
                names[plain] = name
        alike = difflib.get_close_matches(source.key, names, n=1, cutoff=0.6)
        return names[alike[0]] if alike else ""


def _keys_of(run: RunRecord) -> Iterator[tuple[str, str, str]]:
    """The place and key of all that a run logged, with its value; MLflow's own tags excepted."""
    for key, text in run.params.items():
        yield "param", key, _example(text)
    for key, points in run.metrics.items():
        yield "metric", key, f"{last_value(points):g}"
    for key, text in run.tags.items():
        if not key.startswith("mlflow."):
            yield "tag", key, _example(text)
    for artifact in run.artifacts:
        yield "artifact", artifact.path, _example(run.texts.get(artifact.path, ""))


def _unread_inside(view: RunView, founds: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """The values inside JSON files that are read in parts, as sources, with an example each."""
    read: dict[str, set[str]] = {}
    for found in founds:
        if found.place == "artifact":
            read.setdefault(found.key, set()).add(found.inside)
    for path, insides in read.items():
        value = view.parsed(path)
        if "" in insides or not isinstance(value, Mapping):
            continue
        for inner, each in values_inside(value):
            if not any(f"{inner}.".startswith(f"{inside}.") for inside in insides):
                yield f"artifact:{path}#{inner}", _example(str(each))


def _example(text: str) -> str:
    plain = " ".join(encoding.clean_text(text).split())
    return plain if len(plain) <= EXAMPLE_CHARS else f"{plain[:EXAMPLE_CHARS]}…"
