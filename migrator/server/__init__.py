"""Writes records and plans through the API of a running MLflow server, for ``--to http://…``.

What the API has no field for is in one table (``limits``). Everything written says in a tag what it
was made from, so that a second conversion finds it and adds only what lacks. MLflow is imported
only when a server is opened.
"""

from migrator.server.connection import Connection, open_server
from migrator.server.homes import There, experiments_there
from migrator.server.limits import LIMITS, Limit, Survey
from migrator.server.publisher import Published, Publisher

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
