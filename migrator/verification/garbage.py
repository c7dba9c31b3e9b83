"""How often Python looks for garbage while MLflow's rows are read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS = 50_000  # between two collections; Python's own 700 cost a third of the CPU time


def collect_rarely() -> None:
    """Look for garbage rarely, and never in what is there already: MLflow's modules, mostly.

    SQLAlchemy makes many objects of each row, which live for a moment and are in no cycle.
    """
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])


@contextmanager
def rare_collections() -> Iterator[None]:
    """``collect_rarely`` until the block ends."""
    before = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
