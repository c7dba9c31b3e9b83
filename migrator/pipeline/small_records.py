"""Runs of a very large tree as records that take less memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from migrator.model import RunRecord

V = TypeVar("V")
_NO_TEXTS: Mapping[str, str] = {}


class SharedKeys(Mapping[str, V], Generic[V]):
    """A mapping whose keys are those of many others, and kept once for all of them."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: tuple[V, ...]) -> None:
        """``places`` has the place of each key in ``values``."""
        self._places = places
        self._values = values

    def __getitem__(self, key: str) -> V:
        return self._values[self._places[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._values)


class SmallRecords:
    """Makes small records of runs that have much in common: equal texts and keys are kept once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._places: dict[tuple[str, ...], Mapping[str, int]] = {}

    def small(self, run: RunRecord) -> RunRecord:
        """A record that is planned like the run: without places that no plan needs."""
        return replace(
            run,
            artifact_uri="",
            artifact_dir=run.artifact_dir if run.artifacts else None,
            texts=run.texts or _NO_TEXTS,
            name=self._once(run.name),
            params=self._small_texts(run.params),
            tags=self._small_texts(run.tags),
            metrics=SharedKeys(self._places_of(run.metrics), tuple(run.metrics.values())),
        )

    def _small_texts(self, texts: Mapping[str, str]) -> SharedKeys[str]:
        return SharedKeys(self._places_of(texts), tuple(map(self._once, texts.values())))

    def _once(self, text: str) -> str:
        return self._texts.setdefault(text, text)

    def _places_of(self, mapping: Mapping[str, object]) -> Mapping[str, int]:
        keys = tuple(mapping)
        known = self._places.get(keys)
        if known is None:
            known = self._places[keys] = {key: place for place, key in enumerate(keys)}
        return known
