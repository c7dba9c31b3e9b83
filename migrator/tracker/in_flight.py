"""A note on disk of the trace that is being written, in case the process is killed meanwhile.

MLflow takes a trace in several requests. A process that is killed between two of them leaves a
trace without name, session, tags and feedback, and nobody else has the rest. The next tracker with
the same settings finds the note and writes the trace to the fallback. A note holds prompts and
answers, so only its owner can read it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from sqlalchemy import make_url

TRIES = 5  # to write into a folder that other processes remove when it is empty
_loaded_s = time.time()
_numbers = itertools.count()


class InFlight:
    """The notes of one delivery: files in a folder beside the fallback, one for each process."""

    def __init__(self, uri: str, fallback_uri: str, longest_s: float) -> None:
        """``longest_s`` is how long a trace can be on its way: an older note is nobody's."""
        database = make_url(fallback_uri).database or ""
        is_file = bool(database) and not database.startswith((":memory:", "file:"))
        self._folder = Path(f"{database}.sending") if is_file else None
        self._place = hashlib.sha256(uri.encode()).hexdigest()[:8]
        self._number = next(_numbers)
        self._longest_s = longest_s

    @contextmanager
    def noted(self, experiment: str, trace: Any) -> Iterator[None]:
        """Keep a note of a trace while it is written, where the disk takes one."""
        if self._folder is None or trace is None:
            yield
            return
        note = self._folder / f"{self._place}-{self._number}-{os.getpid()}"
        with suppress(OSError):
            self._write(note, f"{experiment}\n{trace.to_json()}")
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)
                note.parent.rmdir()  # fails while another note is there

    @staticmethod
    def _write(note: Path, text: str) -> None:
        """Write a note, in a folder that another process may remove just now. Raises OSError."""
        note.parent.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(TRIES):
            try:
                note.parent.mkdir(mode=0o700, exist_ok=True)
                note.parent.chmod(0o700)  # fails for the folder of somebody else: no note then
                note.touch(mode=0o600)
                break
            except FileNotFoundError:
                continue
        note.write_text(text, encoding="utf-8")

    def left_behind(self) -> Iterator[tuple[str, Any]]:
        """Yield the experiment and the trace of each note whose process is gone; delete it then.

        Raises OSError for a note that can't be read.
        """
        if self._folder is None:
            return
        for note in sorted(self._folder.glob(f"{self._place}-*-*")):
            if self._may_be_in_use(note):
                continue
            experiment, _, text = note.read_text(encoding="utf-8").partition("\n")
            try:
                trace = Trace.from_json(text)
            except (
                ValueError,
                MlflowException,
            ):  # killed while it wrote the note: nothing was sent yet
                trace = None
            if trace is not None:
                yield experiment, trace
            note.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _may_be_in_use(self, note: Path) -> bool:
        try:
            pid, written_s = int(note.name.rpartition("-")[2]), note.stat().st_mtime
        except (ValueError, OSError):  # not ours, or deleted just now
            return True
        if time.time() - written_s > self._longest_s:
            return False
        if pid == os.getpid():  # else of an earlier process: in a container each may be number 1
            return written_s >= _loaded_s
        return _may_run(pid)


def _may_run(pid: int) -> bool:
    """Whether there is a process of this number. On Windows asking would end it, so perhaps."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
