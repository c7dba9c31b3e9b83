"""How a run ended: by what it logged, and last by its own status, which many loggers never set."""

from __future__ import annotations

import re
from itertools import dropwhile
from typing import NamedTuple

from migrator import encoding
from migrator.transformer.found import Found, Status
from migrator.transformer.profiles import normalise
from migrator.transformer.run_view import RunView
from migrator.transformer.values import ERROR_WORDS, NO_MESSAGES, OK_WORDS, is_error
from migrator.transformer.verdicts import verdict

_TRACEBACK = "Traceback (most recent call last)"


class _Failure(NamedTuple):
    """What a run logged about an error, if anything; empty texts where it logged nothing."""

    type: str
    message: str
    stack_trace: str
    file: Found | None  # the artifact that tells of the error

    def status(self, because: str, *, explicit: bool = True) -> Status:
        """An ERROR status with these details."""
        return Status("ERROR", because, explicit, self.type, self.message, self.stack_trace)


def run_status(view: RunView) -> Status:
    """Find how a run ended, by the strongest evidence.

    From strong to weak: success or failure flags, a note that the logger gave up waiting, error
    files, error texts, status words, and the run's own status (FINISHED, FAILED, …).
    """
    failure = _failure(view)
    return (
        _by_flag(view, failure)
        or _given_up(view)
        or _by_error(view, failure)
        or _by_word(view, failure)
        or _by_run_status(view, failure)
    )


def _failure(view: RunView) -> _Failure:
    error_type = view.text("error_type", 250)
    message = view.text("error_message")
    stack_trace = view.text("stack_trace")
    if message and (message.lower() in NO_MESSAGES or not is_error(message)):
        message = ""
    if error_type and not is_error(error_type):
        error_type = ""
    file = next((found for found in view.every("error") if is_error(found.value)), None)
    if not message and file is not None:
        text = file.value if isinstance(file.value, str) else encoding.encode(file.value)
        message = text.strip()
    if _TRACEBACK in message[:200]:
        stack_trace, message = stack_trace or message, ""
    if not message and stack_trace:
        message = _said_by(stack_trace)
    if message and not error_type:
        error_type = _exception_name(message)
    return _Failure(error_type, message, stack_trace, file)


def _said_by(stack_trace: str) -> str:
    """The exception and its text below the frames of a Python stack trace; else the last line."""
    lines = stack_trace.strip().splitlines()
    frames = [at for at, line in enumerate(lines) if line.lstrip().startswith('File "')]
    below = lines[frames[-1] + 1 :] if frames else []
    said = list(dropwhile(lambda line: line.startswith((" ", "\t")), below))
    return "\n".join(said) or lines[-1].strip()


def _by_flag(view: RunView, failure: _Failure) -> Status | None:
    """Read flags such as metric ``success`` (1 is good) and metric ``error`` (1 is bad)."""
    for found in view.every("success"):
        succeeded = verdict(found.value)
        if succeeded is not None:
            because = f"{found.origin} = {found.value}"
            return Status("OK", because, True) if succeeded else failure.status(because)
    for found in view.every("failure"):
        if verdict(found.value):  # that nothing failed does not say that all went well
            return failure.status(f"{found.origin} = {found.value}")
    return None


def _given_up(view: RunView) -> Status | None:
    """The logger gave up waiting: nobody knows how it ended."""
    for found in view.every("unfinished"):
        if verdict(found.value):
            return Status("UNSET", f"{found.origin} = {found.value}", True)
    return None


def _by_error(view: RunView, failure: _Failure) -> Status | None:
    if failure.file is not None:
        return failure.status(failure.file.origin)
    for found in (*view.every("error_message"), *view.every("error_type")):
        if isinstance(found.value, str) and is_error(found.value):
            return failure.status(found.origin)
    for found in view.every("stack_trace"):
        if isinstance(found.value, str) and _TRACEBACK in found.value[:200]:
            return failure.status(found.origin)
    return None


def _by_word(view: RunView, failure: _Failure) -> Status | None:
    """Read words such as tag ``status = failed``."""
    for found in view.every("status"):
        word = normalise(str(found.value))
        because = f"{found.origin} = {found.value}"
        if word in ERROR_WORDS or word.partition("_")[0] in ERROR_WORDS - {"no", "0"}:
            return failure.status(because)  # "Error during retrieval"
        if word in OK_WORDS:
            return Status("OK", because, True)
    return None


def _by_run_status(view: RunView, failure: _Failure) -> Status:
    because = f"run status {view.run.status}"
    if view.run.status in ("FAILED", "KILLED"):
        return failure.status(because, explicit=False)
    if view.run.status == "FINISHED":
        return Status("OK", because, False)
    return Status("UNSET", because, False)


def _exception_name(message: str) -> str:
    """Read the exception's name from ``ValueError: boom`` or the last line of a stack trace."""
    lines = message.splitlines()
    for line in (lines[0], lines[-1]):
        if match := re.match(
            r"\s*([A-Za-z_][\w.]*(?:Error|Exception|Timeout|Interrupt|Exit))\b", line
        ):
            return match[1]
    return ""
