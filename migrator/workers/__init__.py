"""Shares work among processes, a Dask cluster, or any other executor."""

from migrator.workers.pool import (
    AT_ONCE,
    DetectsLoss,
    ProcessExecutor,
    Work,
    cores,
    results,
)

__all__ = [
    "AT_ONCE",
    "DetectsLoss",
    "ProcessExecutor",
    "Work",
    "cores",
    "results",
]
