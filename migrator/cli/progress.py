"""Shows how far a command is: one line that is redrawn on a terminal, or a line now and then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from migrator.report.formats import duration, shorten, size

REDRAWN_S = 0.1
PLAIN_S = 5.0  # between two lines where there is no terminal
RATE_AFTER_S = 1.0  # a rate of less time is a guess

STAGES = {
    "walking": "Finding runs",
    "listing": "Listing objects",
    "fetching": "Fetching objects",
    "reading the server": "Reading the server",
    "runs": "Reading runs",
    "traces": "Reading traces",
    "copying artifacts, bytes": "Copying artifacts",
    "checking": "Checking the new database",
    "publishing": "Writing to the target",
    "publishing experiments": "Writing experiments",
    "runs sent": "Sending runs",
}


@dataclass(slots=True)
class ProgressLine:
    """Draws the progress of one command. Call it with stage, number done, and total (0: unknown).

    ``redraws`` is True on a terminal; otherwise every few seconds a line is printed.
    """

    stream: TextIO
    redraws: bool
    clock: Callable[[], float] = time.monotonic
    _stage: str = field(default="", init=False)
    _began: float = field(default=0.0, init=False)
    _first: int = field(default=0, init=False)  # done when the stage began
    _last_s: float | None = field(default=None, init=False)
    _length: int = field(default=0, init=False)  # of the line on the terminal

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of the progress, and show it if it is time."""
        now = self.clock()
        if stage != self._stage:
            self._stage, self._began, self._first = stage, now, done
            if self.redraws:
                self._last_s = None
        if self._last_s is None and not self.redraws:
            self._last_s = now  # a short command prints no line
        pause = REDRAWN_S if self.redraws else PLAIN_S
        is_last = bool(total) and done >= total and self.redraws
        if self._last_s is not None and now - self._last_s < pause and not is_last:
            return
        self._last_s = now
        self._show(progress_text(stage, done, total, self._rate(done, now)))

    def _rate(self, done: int, now: float) -> float | None:
        seconds = now - self._began
        if seconds < RATE_AFTER_S or done <= self._first:
            return None
        return (done - self._first) / seconds

    def _show(self, text: str) -> None:
        if not self.redraws:
            self.stream.write(f"{text}\n")
        else:
            text = shorten(text, shutil.get_terminal_size().columns - 1)
            self.stream.write(f"\r{text.ljust(self._length)}")
            self._length = len(text)
        self.stream.flush()

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self._length:
            self.stream.write("\r" + " " * self._length + "\r")
            self.stream.flush()
            self._length = 0


def progress_text(stage: str, done: int, total: int, rate: float | None) -> str:
    """``Reading runs: 1,200 of 8,000 (15 %), 340/s, 20 s left``; ``rate`` is per second."""
    show = size if stage.endswith("bytes") else "{:,}".format
    text = STAGES.get(stage, stage.capitalize())
    if not done and not total:
        return f"{text} …"
    text += f": {show(done)}"
    if total:
        text += f" of {show(total)} ({100 * done // total} %)"
    if rate is not None:
        text += f", {show(round(rate))}/s"
        if total:
            text += f", {duration((total - done) / rate)} left"
    return text
