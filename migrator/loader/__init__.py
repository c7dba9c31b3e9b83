"""Writes records and plans into an MLflow database. The only stage that imports mlflow."""
