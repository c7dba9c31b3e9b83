"""Reads MLflow file stores into records and issues; never writes, never imports mlflow."""
