"""Work that is shared: by processes of ours, by a Dask cluster, or by any other executor."""

from migrator.workers.pool import (
    AT_ONCE,
    DetectsLoss,
    ProcessExecutor,
    Work,
    cores,
    few_collections,
    results,
)

__all__ = [
    "AT_ONCE",
    "DetectsLoss",
    "ProcessExecutor",
    "Work",
    "cores",
    "few_collections",
    "results",
]
