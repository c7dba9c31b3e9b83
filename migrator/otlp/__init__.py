"""Traces for other tools than MLflow: OpenTelemetry's protocol (OTLP), to a file or a receiver."""

from migrator.otlp.receivers import Receiver, check_receiver, open_receiver
from migrator.otlp.sink import OtlpSink

__all__ = ["OtlpSink", "Receiver", "check_receiver", "open_receiver"]
