"""The standard streams of one command: they take any text, and they never raise.

A stream may lack characters (a Windows code page), its disk may be full, its reader may be gone.
None of this may change what a command says of its target, nor end it with a traceback.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

NOTHING_WRITTEN = "Nothing was written."


class SafeStream(io.TextIOBase):
    """A text stream that writes what its encoding lacks as Python escapes.

    The first error of the stream below ends the writing, and is kept as ``error``. There is no
    ``buffer``: Click would write UTF-8 into it where the encoding is ASCII.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def is_unicode(self) -> bool:
        """Whether every character can be shown."""
        return codecs.lookup(self.encoding).name.startswith("utf")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str | bytes) -> int:
        if isinstance(text, bytes):  # Click writes a shell's completion script so
            text = text.decode()
        shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if self.error is None:
            try:
                self._stream.write(shown)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send what is still buffered nowhere: Python flushes it at exit, and would fail again."""
        self.error = error
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)


@dataclass(slots=True)
class Console:
    """The streams of a command, and what is true of its target while it prints.

    ``state`` says that in a sentence. ``exit_code`` is None until the command has done its work;
    from then on neither a failing stream nor an interruption changes it.
    """

    out: SafeStream | None  # None: the process has no such stream
    err: SafeStream | None
    state: str = NOTHING_WRITTEN
    exit_code: int | None = None

    def finished(self, state: str, exit_code: int) -> None:
        """Note that the target is as it was meant to be, before anything is printed."""
        self.state, self.exit_code = state, exit_code

    @property
    def problem(self) -> str | None:
        """Why a part of the output is lost. A reader that went away (``| head``) has enough."""
        error = None if self.out is None else self.out.error
        if error is None or error.errno == errno.EPIPE:
            return None
        return error.strerror or str(error)


@contextlib.contextmanager
def safe_streams() -> Iterator[Console]:
    """Put safe streams in the place of standard output and error, until the block ends."""
    before = sys.stdout, sys.stderr
    out, err = (None if stream is None else SafeStream(stream) for stream in before)
    sys.stdout, sys.stderr = out, err
    try:
        yield Console(out, err)
    finally:
        sys.stdout, sys.stderr = before
