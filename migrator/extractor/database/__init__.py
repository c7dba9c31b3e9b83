"""A tracking database as a source: SQLite, PostgreSQL or MySQL, of any schema of MLflow."""

from __future__ import annotations

from migrator.extractor.database.source import DatabaseSource

__all__ = ["DatabaseSource"]
