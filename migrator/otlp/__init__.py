"""Sends traces in OpenTelemetry's protocol (OTLP) to a file or a receiver, for other tools."""

from migrator.otlp.receivers import Receiver, check_receiver, open_receiver
from migrator.otlp.sink import OtlpSink

__all__ = ["OtlpSink", "Receiver", "check_receiver", "open_receiver"]
