"""Compares what was to be written with a database that MLflow can open, on its own stores.

``comparer`` takes the items, ``runs``, ``models`` and ``traces`` compare them.
"""

from migrator.verification.database.comparer import DatabaseComparer

__all__ = ["DatabaseComparer"]
