"""Standard streams that accept any text and never raise.

A stream may be unable to encode a character (a Windows code page), its disk may be full, or its
reader may be gone. None of this may end a command with a traceback, or change its exit code after
the target was written.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

NOTHING_WRITTEN = "Nothing was written."


class SafeStream(io.TextIOBase):
    """A text stream that writes characters outside its encoding as Python escapes.

    After the first error of the wrapped stream nothing more is written; the error is kept as
    ``error``. It has no ``buffer``, into which Click would write UTF-8 even if the encoding is
    ASCII.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the wrapped stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def is_unicode(self) -> bool:
        """True if the encoding has every character."""
        return codecs.lookup(self.encoding).name.startswith("utf")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if self.error is None:
            try:
                self._stream.write(shown)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None and not self._stream.closed:  # Python flushes it as it is collected
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Redirect the stream to nowhere: Python flushes its buffer at exit and fail again."""
        self.error = error
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)


def nothing() -> None:
    """Do nothing: no progress is shown."""


@dataclass(slots=True)
class Console:
    """The streams of a command, and the state of its target while it prints.

    ``state`` is a sentence, such as "Nothing was written.". ``exit_code`` is None until the command
    has done its work; after that no failing stream or interruption changes it. ``color`` is the
    value of ``--color``: auto, always or never.
    """

    out: SafeStream | None  # None if the process has no such stream
    err: SafeStream | None
    state: str = NOTHING_WRITTEN
    exit_code: int | None = None
    color: str = "auto"
    remove_progress: Callable[[], None] = nothing  # before a message; it is drawn again after it

    def finished(self, state: str, exit_code: int) -> None:
        """Record that the work is done. Call this before printing the result."""
        self.state, self.exit_code = state, exit_code

    @property
    def problem(self) -> str | None:
        """Why some output is lost, or None. A reader that left (``| head``) does not count."""
        error = None if self.out is None else self.out.error
        if error is None or error.errno == errno.EPIPE:
            return None
        return error.strerror or str(error)


@contextlib.contextmanager
def safe_streams() -> Iterator[Console]:
    """Replace standard output and error by safe streams until the block ends."""
    before = sys.stdout, sys.stderr
    out, err = (None if stream is None else SafeStream(stream) for stream in before)
    sys.stdout, sys.stderr = out, err
    try:
        yield Console(out, err)
    finally:
        sys.stdout, sys.stderr = before
