"""Reads MLflow file stores into records and issues. Reads files only; never writes, never imports mlflow."""
