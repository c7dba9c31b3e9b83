"""``export``: the traces of the sources as OTLP, into a file or to a receiver."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.counting import counted
from migrator.credentials import masked
from migrator.errors import OptionError
from migrator.outcome.summary import Outcome
from migrator.pipeline.conversion import check_outside
from migrator.pipeline.options import Options, Paths, as_text
from migrator.pipeline.stores import (
    Progress,
    Say,
    fetched,
    name_sources,
    new_outcome,
    no_progress,
    open_stores,
    say_nothing,
)
from migrator.pipeline.walk import walk_sources
from migrator.pipeline.walk_context import Observer


@dataclass(frozen=True, slots=True, repr=False)
class Exported:
    """What ``export`` sent; ``outcome`` says what was found, as that of ``scan``."""

    outcome: Outcome
    traces: int
    spans: int
    without_spans: int  # native traces whose spans are lost: OTLP can't say them

    def __str__(self) -> str:
        """The sentence that the command prints."""
        traces, spans = counted(self.traces, "trace"), counted(self.spans, "span")
        text = f"Sent {traces} with {spans} to {self.outcome.target}."
        if self.without_spans:
            text += f" Left out: {counted(self.without_spans, 'trace')} without spans."
        return text

    def __repr__(self) -> str:
        """The same, for Python's prompt."""
        return str(self)


def export(
    sources: Paths,
    to: str | Path,
    options: Options | None = None,
    *,
    headers: Sequence[tuple[str, str]] = (),
    progress: Progress = no_progress,
    say: Say = say_nothing,
) -> Exported:
    """Send the traces of the sources, native and rebuilt, to a file or a receiver as OTLP.

    A file appears only when it is complete. ``say`` is that of ``scan``. Raises SourceError,
    OptionError, TargetError, and LedgerError (a defect).
    """
    from migrator import otlp  # its protobuf classes take a while to load

    began = time.monotonic()
    options = options or Options()
    to = as_text("The receiver", to)
    otlp.check_receiver(to, headers)
    if options.artifacts.mode == "copy":
        raise OptionError(
            f"--artifacts {options.artifacts}: export sends traces, and copies no files.",
            todo="Leave it out, or convert with it.",
        )
    with fetched(sources, options, progress) as places:
        stores = open_stores(places, say)
        outcome = new_outcome(stores, options, masked(to))
        if "://" not in to:
            check_outside(outcome.sources, "--otlp", to)
        receiver = otlp.open_receiver(to, headers)
        try:
            sink = otlp.OtlpSink(receiver)
            observer = Observer(progress=progress)
            walked = walk_sources(stores, options, sink, outcome, observer=observer)
            walked.check_handed()
            sink.flush()
            receiver.close()
        except KeyboardInterrupt as interrupt:
            receiver.discard()
            raise KeyboardInterrupt(f"Interrupted. {receiver.kept()}") from interrupt
        except BaseException:
            receiver.discard()
            raise
        name_sources(stores, outcome)
    outcome.ledger.add_outcome(walked.handed, {})
    outcome.seconds = time.monotonic() - began
    return Exported(outcome, sink.traces, sink.spans, sink.empty)
