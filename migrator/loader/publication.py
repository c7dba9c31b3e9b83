"""What passes between the writer and a target: the staged rows, and how to publish them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrator.issues import Issue


@dataclass(frozen=True, slots=True)
class Staged:
    """A finished staging file."""

    db: sqlite3.Connection  # its main database is the file
    path: str
    joined: frozenset[int]  # experiments whose own row is not compared with the target's


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the next conversion must find again to know without reading that nothing is new."""

    place: str  # of the source, and which part of it is converted
    content: str  # how its files are, and how they are converted; empty where that is not known


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How staged rows are published.

    With ``restore`` what people deleted comes back. ``source`` names the place of the source, and
    is empty where that is the target. ``state`` is remembered if the target is changed and nothing
    is rejected. ``is_alone`` keeps other conversions from writing into a
    server's database at once. ``check_rejects`` gets what the target makes us reject before
    anything is changed, and may raise. ``committing`` is called right before the single step that
    changes a SQLite file. ``on_progress`` gets the number of experiments sent to a server's
    database, and of all.
    """

    backup: bool = True
    restore: bool = False
    source: str = ""
    state: SourceState | None = None
    is_alone: bool = True
    check_rejects: Callable[[Sequence[Issue]], None] = lambda issues: None
    committing: Callable[[], None] = lambda: None
    on_progress: Callable[[int, int], None] = lambda done, total: None
