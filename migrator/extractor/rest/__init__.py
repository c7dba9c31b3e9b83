"""An MLflow tracking server as a source, read through its REST API."""
