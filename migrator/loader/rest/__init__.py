"""Writes records and plans through the API of a running MLflow server, for ``--to http://…``.

What the API has no field for is in one table (``limits``). Everything written says in a tag what it
was made from, so that a second conversion finds it and adds only what lacks. MLflow is imported
only when a server is opened.
"""

from migrator.loader.rest.connection import Connection, open_server
from migrator.loader.rest.experiment_index import ExistingExperiment, existing_experiments
from migrator.loader.rest.limits import LIMITS, Limit, Survey
from migrator.loader.rest.publisher import Publisher

__all__ = [
    "LIMITS",
    "Connection",
    "ExistingExperiment",
    "Limit",
    "Publisher",
    "Survey",
    "existing_experiments",
    "open_server",
]
