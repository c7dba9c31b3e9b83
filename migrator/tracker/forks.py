"""What a forked child does with the tracker it inherits: it writes its own spans, and no other's.

Before a fork the delivery threads are stopped between two traces, so that no lock is held and no
connection is in use while the child is made.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from mlflow.tracing.trace_manager import InMemoryTraceManager

from migrator.tracker import exporter
from migrator.tracker.delivery import Delivery, all_deliveries
from migrator.tracker.sink import sinks

STORE_MODULES = (
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
)
# For a trace that is being written. A server may take long, and the child asks it over connections
# of its own; but a child that is made while SQLite holds its locks hangs at its first connection.
MAX_WAIT_S = 5.0
MAX_DATABASE_WAIT_S = 120.0

_held: list[Delivery] = []


def handle_forks() -> None:
    """Register the handlers, once in a process."""
    if not _registered.is_set() and hasattr(os, "register_at_fork"):
        _registered.set()
        os.register_at_fork(
            before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
        )


_registered = threading.Event()


def _before() -> None:
    _held.clear()
    for delivery in all_deliveries():
        wait_s = MAX_WAIT_S if delivery.current.is_server else MAX_DATABASE_WAIT_S
        if delivery.writing.acquire(timeout=wait_s):
            _held.append(delivery)


def _after_in_parent() -> None:
    for delivery in _held:
        delivery.writing.release()
    _held.clear()
    # The child may write spans of the traces that are open now.
    for trace_id, sink in exporter.router.open_traces():
        sink.shared.add(trace_id)


def _after_in_child() -> None:
    _held.clear()
    for delivery in all_deliveries():
        delivery.after_fork()
    exporter.router.after_fork()
    for sink in list(sinks):
        sink.lock = threading.RLock()
        sink.guard.after_fork()
        sink.open.clear()
        sink.shared.clear()
    _give_up_traces()
    _give_up_connections()


def _give_up_traces() -> None:
    """Treat the traces that are open in the parent as traces of another process."""
    manager = InMemoryTraceManager.get_instance()
    manager._lock = threading.RLock()
    for trace in list(manager._traces.values()):
        trace.is_remote_trace = True
        trace.span_dict = {}
    for processor in exporter._processors():
        processor._deduplication_lock = threading.RLock()
        if hasattr(processor, "_pending_on_end_condition"):
            processor._pending_on_end_condition = threading.Condition()
            processor._pending_on_end_count = 0


def _give_up_connections() -> None:
    """Leave the parent's database connections alone: using or closing them would disturb it."""
    for store in _store_classes():
        for engine in list(store._engine_map.values()):
            engine.dispose(close=False)


def _store_classes() -> list[Any]:
    """List MLflow's database stores, as far as they are imported."""
    modules = [sys.modules.get(name) for name in STORE_MODULES]
    classes = [getattr(module, "SqlAlchemyStore", None) for module in modules]
    return [store for store in classes if hasattr(store, "_engine_map")]
