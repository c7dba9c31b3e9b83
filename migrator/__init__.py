"""mlflow-migrate: MLflow file stores to MLflow 3.9, nested runs as traces."""

__version__ = "0.1.0"

DEFAULT_SOURCE = "./mlruns"
DEFAULT_TARGET = "sqlite:///mlflow.db"
