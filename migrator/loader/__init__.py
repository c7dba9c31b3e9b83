"""Writes records and plans into MLflow's databases, or through the API of an MLflow server.

``open_target`` checks a database, a ``Writer`` fills a staging file beside it and publishes its
rows, ``upgrade_database`` carries a converted database to a newer MLflow. ``loader.rest`` writes
through a running server instead. MLflow itself is imported only when a schema is made or upgraded,
and for a server.
"""

from migrator.loader.artifacts import copy_artifacts
from migrator.loader.publication import PublishOptions, SourceState
from migrator.loader.remote_copies import copy_to_object_store
from migrator.loader.sqlite.upgrade import UpgradeResult, upgrade_database
from migrator.loader.targets import Target, open_target
from migrator.loader.writer import Writer
from migrator.outcome.written import Written

__all__ = [
    "PublishOptions",
    "SourceState",
    "Target",
    "UpgradeResult",
    "Writer",
    "Written",
    "copy_artifacts",
    "copy_to_object_store",
    "open_target",
    "upgrade_database",
]
