"""Writes records and plans into an MLflow database. The only stage that imports mlflow.

``open_target`` checks the database, a ``Writer`` fills a staging file beside it and publishes that
in one step, ``upgrade_database`` carries a converted database to a newer MLflow. MLflow itself is
imported only when a schema is made or upgraded.
"""

from migrator.loader.artifacts import copy_artifacts
from migrator.loader.sqlite.target import Target, open_target
from migrator.loader.sqlite.upgrade import UpgradeResult, upgrade_database
from migrator.loader.sqlite.writer import LoadResult, Writer

__all__ = [
    "LoadResult",
    "Target",
    "UpgradeResult",
    "Writer",
    "copy_artifacts",
    "open_target",
    "upgrade_database",
]
