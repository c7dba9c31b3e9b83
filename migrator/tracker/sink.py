"""What the spans of one tracker share: the interface between spans, exporter and tracker."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from migrator.tracker.guard import Guard

if TYPE_CHECKING:
    from migrator.tracker.delivery import Delivery
    from migrator.tracker.finishing import Finisher


class Sink(Protocol):
    """Where the spans of one tracker go, and what they share."""

    experiment: str
    experiment_id: str
    guard: Guard
    delivery: Delivery
    finisher: Finisher
    span_timeout_s: float
    tracing: Any  # the module ``exporter``, which needs MLflow; looked up once, not for each span
    open: dict[int, Any]  # spans, by ``id``, in the order they were opened
    lock: threading.RLock
    shared: set[str]  # traces that other processes write spans of as well


# The sinks of all trackers that are alive, for signals and forks.
sinks: weakref.WeakSet[Any] = weakref.WeakSet()
