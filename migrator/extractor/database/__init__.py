"""A tracking database as a source: SQLite, PostgreSQL or MySQL, of any schema of MLflow."""
