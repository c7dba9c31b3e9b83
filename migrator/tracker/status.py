"""What ``MLFlowTracker.status`` reports."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.tracker.guard import Guard
from migrator.tracker.sink import Sink


@dataclass(frozen=True, slots=True)
class Status:
    """Where traces go, and what has become of them."""

    enabled: bool
    tracking_uri: str | None = None  # where they go now
    configured_uri: str | None = None
    experiment_name: str | None = None
    experiment_id: str | None = None
    fallback_reason: str | None = None  # None while the configured place takes them
    delivered: int = 0  # traces written to the configured place
    in_fallback: int = 0
    pending: int = 0
    unfinished: int = 0  # of those delivered or in the fallback: still open, or left open
    lost: int = 0
    errors: int = 0  # of the tracker itself
    last_error: str | None = None


def status_of(sink: Sink | None, guard: Guard) -> Status:
    """Report on a tracker; ``sink`` is None if it is disabled, or could not be set up."""
    if sink is None:
        return Status(False, errors=guard.errors, last_error=guard.last)
    delivery = sink.delivery
    return Status(
        enabled=True,
        tracking_uri=delivery.current.uri,
        configured_uri=delivery.place.uri,
        experiment_name=sink.experiment,
        experiment_id=delivery.current.experiments.get(sink.experiment),
        fallback_reason=delivery.fallen_back,
        delivered=delivery.delivered,
        in_fallback=delivery.in_fallback,
        pending=delivery.pending,
        unfinished=delivery.unfinished,
        lost=delivery.lost,
        errors=guard.errors + delivery.guard.errors,
        last_error=guard.last or delivery.guard.last,
    )
