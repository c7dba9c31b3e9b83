"""mlflow-migrate: MLflow file stores, with their nested runs, into an MLflow 3.9 database with traces."""

__version__ = "0.1.0"
