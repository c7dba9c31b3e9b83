"""Writes records and plans through the API of a running MLflow server, for ``--to http://…``.

What the API has no field for is in one table (``limits``). Everything written says in a tag what it
was made from, so that a second conversion finds it and adds only what lacks. MLflow is imported
only when a server is opened.
"""

from migrator.loader.rest.connection import Connection, open_server
from migrator.loader.rest.experiment_index import There, experiments_there
from migrator.loader.rest.limits import LIMITS, Limit, Survey
from migrator.loader.rest.publisher import Published, Publisher

__all__ = [
    "LIMITS",
    "Connection",
    "Limit",
    "Published",
    "Publisher",
    "Survey",
    "There",
    "experiments_there",
    "open_server",
]
