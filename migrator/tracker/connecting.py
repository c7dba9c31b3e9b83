"""Connects a tracker to the place where its traces go, and to MLflow's tracing."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

import mlflow

from migrator.tracker import exporter
from migrator.tracker.config import TrackerConfig
from migrator.tracker.delivery import DeliverySettings, delivery_to
from migrator.tracker.exit import handle_exit, handle_sigterm
from migrator.tracker.finishing import Finisher
from migrator.tracker.forks import handle_forks
from migrator.tracker.guard import Guard
from migrator.tracker.sink import Sink, sinks
from migrator.tracker.threads import carry_context


def connect(config: TrackerConfig, finisher: Finisher, guard: Guard) -> Sink:
    """Find or make the experiment, and let MLflow's spans go through the tracker.

    Raises what the fallback raises where not even that can be written.
    """
    delivery = delivery_to(
        DeliverySettings(
            config.tracking_uri, config.fallback_uri, config.server_timeout_s,
            in_background=config.async_logging, resend=config.resend,
        )
    )  # fmt: skip
    sink = Sink(
        delivery, config.experiment_name, delivery.connect(config.experiment_name), guard,
        finisher, config.span_timeout_s, exporter,
    )  # fmt: skip
    sinks.add(sink)
    exporter.router.take(sink)
    handle_exit()
    handle_sigterm()
    handle_forks()
    carry_context()
    _switch_on(config.autolog_enabled, guard)
    return sink


def _switch_on(integrations: bool | Sequence[str], guard: Guard) -> None:
    """Let MLflow trace calls of these libraries; True stands for LangChain's."""
    names = ("langchain",) if integrations is True else integrations
    for given in names or ():
        name = "langchain" if given == "langgraph" else given
        with guard.during(f"switch on autologging of {name}"):
            if importlib.util.find_spec(f"mlflow.{name}") is None:
                raise ModuleNotFoundError(f"MLflow {mlflow.__version__} has no mlflow.{name}")
            importlib.import_module(f"mlflow.{name}").autolog()
