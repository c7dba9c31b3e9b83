"""What all requests over HTTP share: retries with a limit, and failures in a few words."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

BACKOFF_S, MAX_WAIT_S = 0.5, 30.0
TOO_MANY_REQUESTS = 429
# Headers of a question that is asked once: a server may be closing a connection that is kept open
# just when it is used, which looks as if the server were gone.
OWN_CONNECTION = {"Connection": "close"}


class CappedRetry(Retry):
    """urllib3's rules, except that a server can't make us wait for long or fail by its header."""

    def parse_retry_after(self, retry_after: str) -> float:
        """Read ``Retry-After`` in seconds, at most ``MAX_WAIT_S``; 0 when it is not valid."""
        try:
            return min(super().parse_retry_after(retry_after), MAX_WAIT_S)
        except InvalidHeader:
            return 0.0


def retries(total: int, methods: Collection[str], statuses: Collection[int]) -> Retry:
    """Up to ``total`` retries of requests that failed, or were answered with one of ``statuses``.

    The last answer is returned, whatever it is.
    """
    return CappedRetry(
        total=total,
        other=0,  # errors of TLS: they would be the same again
        allowed_methods=methods,
        status_forcelist=statuses,
        backoff_factor=BACKOFF_S,
        backoff_max=MAX_WAIT_S,
        raise_on_status=False,
    )


@contextmanager
def without_retry_warnings() -> Iterator[None]:
    """Keep urllib3 from logging every retry: its text has the URL with all that is secret."""
    logger = logging.getLogger("urllib3.connectionpool")
    logger.addFilter(_is_not_warning)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_warning)


def _is_not_warning(record: logging.LogRecord) -> bool:
    return record.levelno != logging.WARNING


def failure_reason(error: OSError, timeout_s: float, certificates: str) -> str:
    """Explain in a few words why a request failed; texts of requests would show the URL.

    ``certificates`` is the environment variable that names certificates to trust.
    """
    whom = "the proxy" if isinstance(error, requests.exceptions.ProxyError) else "it"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its TLS certificate is not trusted ({cause.verify_message}); the environment "
                f"variable {certificates} names a file of certificates to trust"
            )
        if isinstance(cause, ssl.SSLError):
            detail = (cause.reason or "unknown error").replace("_", " ").lower()
            return f"TLS failed ({detail}); does {whom} speak https://?"
        if isinstance(cause, requests.Timeout | TimeoutError):
            return f"{whom} did not answer within {timeout_s:g} s"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no connection to {whom}: {cause.strerror}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"the connection to {whom} broke in the middle of an answer"
    if isinstance(error, requests.RequestException):
        return f"no connection to {whom} ({type(error).__name__})"
    return str(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it; urllib3 keeps some in ``args``."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        linked = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [each for each in linked if isinstance(each, BaseException)]
