"""Tracks new workflows as MLflow traces, in the vocabulary of migrated ones.

``MLFlowTracker`` takes over from the legacy tracker of that name: ``track_workflow`` and
``track_node`` are spans now. MLflow is imported when a tracker is enabled, not before.
"""

from migrator.tracker.config import TrackerConfig
from migrator.tracker.status import Status
from migrator.tracker.tracker import MLFlowTracker

__all__ = ["MLFlowTracker", "Status", "TrackerConfig"]
