"""File stores: MLflow's ``mlruns`` directories."""

from migrator.extractor.filestore.source import FileStoreSource

__all__ = ["FileStoreSource"]
