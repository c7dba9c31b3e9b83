"""The sink of ``export``: sends traces to a receiver in batches, and ignores other items."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from migrator.model import (
    Asset,
    DatasetRecord,
    ExperimentPlan,
    LoggedModelRecord,
    RegisteredModelRecord,
    RunRecord,
    TracePlan,
)
from migrator.otlp.encode import resource_spans
from migrator.otlp.receivers import Receiver

_BATCH_BYTES = 1 << 20  # receivers refuse requests of more than a few MiB

Encoded = list[tuple[bytes, int]]  # per trace: its spans as TracesData, and their number


class OtlpRecorder:
    """Encodes traces in a worker process."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._encoded: Encoded = []

    def blank(self) -> OtlpRecorder:
        """A recorder that has encoded nothing."""
        return OtlpRecorder(self._names)

    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Encode a trace."""
        data = TracesData(resource_spans=[resource_spans(plan, self._names[experiment_id])])
        self._encoded.append((data.SerializeToString(), len(plan.spans)))

    def recorded(self) -> Encoded:
        """Return the traces encoded since the last call."""
        encoded, self._encoded = self._encoded, []
        return encoded


class OtlpSink:
    """Sends traces to a receiver, and counts them."""

    lot_runs = 50  # of a recorder: its traces are sent between processes

    def __init__(self, receiver: Receiver) -> None:
        self.traces = self.spans = 0
        self.empty = 0  # traces without spans, which OTLP can't express
        self._receiver = receiver
        self._names: dict[int, str] = {}
        self._batch = bytearray()
        self._own = OtlpRecorder(self._names)

    def recorder(self) -> OtlpRecorder:
        """Make a recorder, which encodes traces for this sink in another process."""
        return OtlpRecorder(self._names)

    def replay(self, recorded: Encoded) -> None:
        """Send the traces that a recorder has encoded."""
        for data, spans in recorded:
            if not spans:
                self.empty += 1
                continue
            self.traces += 1
            self.spans += spans
            self._batch += data
            if len(self._batch) >= _BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Send the traces that are waiting. Raises TargetError."""
        if self._batch:
            # Concatenated messages are one message: protobuf appends repeated fields.
            self._receiver.send(TracesData.FromString(bytes(self._batch)))
            self._batch.clear()

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Remember the name of an experiment."""
        self._names[plan.target_id] = plan.target_name

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Encode a trace, and send a batch if it is full."""
        self._own.add_trace(plan, experiment_id)
        self.replay(self._own.recorded())

    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...
    def add_asset(self, record: Asset, experiment_id: int | None) -> None: ...
    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None: ...
