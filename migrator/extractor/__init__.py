"""Reads MLflow file stores into records and issues; never writes, never imports mlflow.

``open_source`` finds the store, ``index`` lists what is in it, and the ``read_…`` functions read
one entity's directory each. They are independent of one another, so a pool may call them.
"""

from migrator.extractor.filestore.artifacts import (
    artifact_files,
    experiment_locations,
    look_at,
    look_at_experiment,
    look_at_logged_model,
    look_at_run,
    look_at_trace,
    look_into,
    owner_locations,
    path_parts,
    scheme_of,
)
from migrator.extractor.filestore.models import read_logged_model, read_registered_model
from migrator.extractor.filestore.must_fetch import is_read
from migrator.extractor.filestore.runs import read_dataset, read_experiment, read_run
from migrator.extractor.filestore.store import (
    count_files,
    find_artifact_roots,
    index,
    open_source,
    weigh,
)
from migrator.extractor.filestore.traces import read_trace

__all__ = [
    "artifact_files",
    "count_files",
    "experiment_locations",
    "find_artifact_roots",
    "index",
    "is_read",
    "look_at",
    "look_at_experiment",
    "look_at_logged_model",
    "look_at_run",
    "look_at_trace",
    "look_into",
    "open_source",
    "owner_locations",
    "path_parts",
    "read_dataset",
    "read_experiment",
    "read_logged_model",
    "read_registered_model",
    "read_run",
    "read_trace",
    "scheme_of",
    "weigh",
]
