"""Shows how far a command is: a bar on a terminal, or a line every few seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from typing_extensions import Never

PLAIN_S = 5.0  # between two lines where there is no terminal

STAGES = {
    "walking": "Finding runs",
    "listing": "Listing objects",
    "listing artifacts": "Listing artifacts",
    "fetching": "Fetching objects",
    "unpacking": "Unpacking entries",
    "runs": "Reading runs",
    "traces": "Reading traces",
    "copying artifacts, bytes": "Copying artifacts",
    "checking": "Checking the new database",
    "publishing": "Writing to the target",
    "publishing experiments": "Writing experiments",
    "runs sent": "Sending runs",
}

tqdm.monitor_interval = 0  # no thread of tqdm's own: the workers are forked


@dataclass(slots=True)
class ProgressLine:
    """Draws the progress of one command. Call it with stage, number done, and total (0: unknown).

    ``redraws`` is True on a terminal; otherwise a line is printed every ``pause_s`` seconds, and
    none by a short command.
    """

    stream: TextIO
    redraws: bool
    pause_s: float = PLAIN_S
    _stage: str = field(default="", init=False)
    _bar: tqdm[Never] | None = field(default=None, init=False)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of the progress, and show it if it is time."""
        if self._bar is None or stage != self._stage:
            self.clear()
            self._stage, self._bar = stage, self._bar_of(stage)
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)

    def _bar_of(self, stage: str) -> tqdm[Never]:
        is_size = stage.endswith("bytes")
        bar: tqdm[Never] = tqdm(
            desc=STAGES.get(stage, stage.capitalize()),
            unit="B" if is_size else "",
            unit_scale=is_size,
            unit_divisor=1024,
            file=self.stream if self.redraws else _Lines(self.stream),
            leave=False,
            dynamic_ncols=self.redraws,
            mininterval=0.1 if self.redraws else self.pause_s,
            delay=0 if self.redraws else self.pause_s,
            smoothing=0,  # the time left follows from the whole stage
        )
        return bar

    def clear(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@dataclass(frozen=True, slots=True)
class _Lines:
    """A stream for a bar in a pipe or a file: each drawing is a line, and none is removed."""

    stream: TextIO

    def write(self, text: str) -> None:
        if shown := text.strip():
            self.stream.write(f"{shown}\n")

    def flush(self) -> None:
        self.stream.flush()
