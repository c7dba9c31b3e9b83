"""Writes records and plans through the API of a running MLflow server, for ``--to http://…``.

The table ``limits`` lists what the API has no field for. Everything written has a tag that names
its source, so that a second conversion finds it and adds only what is missing. MLflow is imported
only when a server is opened.
"""

from migrator.loader.rest.connection import Connection, open_server
from migrator.loader.rest.experiment_index import (
    RunLocations,
    ServedExperiment,
    existing_experiments,
)
from migrator.loader.rest.limits import LIMITS, Limit, Survey
from migrator.loader.rest.lock import alone
from migrator.loader.rest.publisher import Publisher
from migrator.loader.rest.publishing import PublishSettings

__all__ = [
    "LIMITS",
    "Connection",
    "Limit",
    "PublishSettings",
    "Publisher",
    "RunLocations",
    "ServedExperiment",
    "Survey",
    "alone",
    "existing_experiments",
    "open_server",
]
