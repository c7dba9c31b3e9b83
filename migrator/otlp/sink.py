"""The sink of ``export``: sends traces to a receiver in batches and ignores everything else."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from migrator.model import (
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

Encoded = list[tuple[bytes, int]]  # a trace's ResourceSpans as TracesData, and how many spans


class OtlpRecorder:
    """Encodes traces, in any process."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._encoded: Encoded = []

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

    def __init__(self, receiver: Receiver) -> None:
        self.traces = self.spans = self.empty = 0
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
                self.empty += 1  # OTLP has no trace without a span
                continue
            self.traces += 1
            self.spans += spans
            self._batch += data
            if len(self._batch) >= _BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Send the traces that are waiting. Raises TargetError."""
        if self._batch:
            # Messages one behind the other are one message: protobuf appends what is repeated.
            self._receiver.send(TracesData.FromString(bytes(self._batch)))
            self._batch.clear()

    def add_experiment(self, plan: ExperimentPlan) -> None:
        """Note an experiment's name."""
        self._names[plan.target_id] = plan.target_name

    def add_trace(self, plan: TracePlan, experiment_id: int) -> None:
        """Encode a trace; send it once enough are waiting."""
        self._own.add_trace(plan, experiment_id)
        self.replay(self._own.recorded())

    def add_run(self, run: RunRecord, experiment_id: int) -> None: ...
    def add_dataset(self, record: DatasetRecord, experiment_id: int) -> None: ...
    def add_logged_model(self, record: LoggedModelRecord, experiment_id: int) -> None: ...
    def add_registered_model(self, record: RegisteredModelRecord) -> None: ...
    def set_experiment_tag(self, experiment_id: int, key: str, value: str) -> None: ...
