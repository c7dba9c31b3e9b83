"""Holds very many values that are much alike in little memory."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from itertools import islice
from typing import Generic, TypeVar, overload

V = TypeVar("V")

_SAMPLES = 4
_MOST_BYTES_BACK = 32_768  # zlib uses no more of a dictionary
_MOST_LIVE = 1_000  # objects of a mapping: so few are not worth the time


class PackedList(Sequence[V], Generic[V]):
    """Values that are much alike, compressed one by one; each is unpacked when it is asked for.

    The first ones stay as they are. The others are compressed with samples as zlib's dictionary, so
    that a packed value takes only what makes it different.
    """

    __slots__ = ("_dictionaries", "_first", "_first_count", "_packed")

    def __init__(self, first: int = _SAMPLES) -> None:
        """``first`` is the number of values that stay as they are."""
        self._first: list[V] = []
        self._first_count = first
        self._packed: list[bytes] = []  # each begins with the number of its dictionary
        self._dictionaries: list[bytes] = []

    def append(self, value: V) -> None:
        """Add a value, which pickle can keep."""
        if len(self._first) < self._first_count:
            self._first.append(value)
            return
        if not self._dictionaries:
            self.learn(self._first)
        self._packed.append(self._pack(value))

    def learn(self, values: Iterable[V]) -> None:
        """Take samples of what the next values will be like. At most 256 times."""
        samples = b"".join(map(_pickled, islice(values, _SAMPLES)))
        self._dictionaries.append(samples[-_MOST_BYTES_BACK:])

    def _pack(self, value: V) -> bytes:
        packer = zlib.compressobj(1, memLevel=6, zdict=self._dictionaries[-1])
        number = bytes([len(self._dictionaries) - 1])
        return number + packer.compress(_pickled(value)) + packer.flush()

    def __len__(self) -> int:
        return len(self._first) + len(self._packed)

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> list[V]: ...
    def __getitem__(self, index: int | slice) -> V | list[V]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place < len(self._first):
            return self._first[place]
        packed = self._packed[place - len(self._first)]
        unpacker = zlib.decompressobj(zdict=self._dictionaries[packed[0]])
        value: V = pickle.loads(unpacker.decompress(packed[1:]))
        return value

    def __repr__(self) -> str:
        return repr(list(self))

    def __setitem__(self, index: int, value: V) -> None:
        if index < len(self._first):
            self._first[index] = value
        else:
            self._packed[index - len(self._first)] = self._pack(value)


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


class PackedDict(MutableMapping[str, V], Generic[V]):
    """A mapping to values that are much alike, in a ``PackedList``.

    Those that were set or changed lately are not packed.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}  # in the list, where a value is once it was packed
        self._list: PackedList[V] = PackedList(_MOST_LIVE)
        self._live: dict[str, V] = {}
        self._settled = 0  # how often

    def __getitem__(self, key: str) -> V:
        """A value to read. What is changed in it may be lost."""
        value = self._live.get(key)
        return self._list[self._places[key]] if value is None else value

    def to_change(self, key: str) -> V:
        """A value that may be changed in place until the next call."""
        value = self._live.get(key)
        if value is None:
            value = self[key] = self[key]
        return value

    def __setitem__(self, key: str, value: V) -> None:
        if len(self._live) >= _MOST_LIVE:
            self._settle()
        self._live[key] = value

    def _settle(self) -> None:
        """Pack all values."""
        if not self._live:
            return
        self._settled += 1
        if self._settled.bit_count() == 1:  # ever more rarely: what is counted grows
            self._list.learn(self._live.values())
        for key, value in self._live.items():
            place = self._places.get(key)
            if place is None:
                self._places[key] = len(self._list)
                self._list.append(value)
            else:
                self._list[place] = value
        self._live.clear()

    def __delitem__(self, key: str) -> None:
        raise TypeError("values stay")

    def __contains__(self, key: object) -> bool:
        return key in self._live or key in self._places

    def __iter__(self) -> Iterator[str]:
        self._settle()
        return iter(self._places)

    def __len__(self) -> int:
        self._settle()
        return len(self._places)

    def as_list(self) -> PackedList[V]:
        """The values in the order of their keys."""
        self._settle()
        return self._list
