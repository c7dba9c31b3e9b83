"""What the spans of one tracker share: the interface between spans, exporter and tracker."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from migrator.tracker.guard import Guard

if TYPE_CHECKING:
    from migrator.tracker.delivery import Delivery
    from migrator.tracker.finishing import Finisher


@dataclass(eq=False)
class Sink:
    """Where the spans of one tracker go, and what they share."""

    delivery: Delivery
    experiment: str
    experiment_id: str
    guard: Guard
    finisher: Finisher
    span_timeout_s: float
    tracing: Any  # the module ``exporter``, which needs MLflow; looked up once, not for each span
    open: dict[int, Any] = field(default_factory=dict)  # spans by ``id``, the oldest first
    lock: threading.RLock = field(default_factory=threading.RLock)
    shared: set[str] = field(default_factory=set)  # traces that other processes write to as well


# The sinks of all trackers that are alive, for signals and forks.
sinks: weakref.WeakSet[Sink] = weakref.WeakSet()
