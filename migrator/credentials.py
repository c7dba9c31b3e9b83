"""Addresses and messages as they may be printed: without passwords, tokens and keys."""

from __future__ import annotations

import re
import urllib.parse

MASK = "***"
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:(?://)?")
_LOCAL = ("file:", "sqlite:", "sqlite+")
_PARAMETER = re.compile(
    r"([?&;][^=&]*(?:pass|pwd|secret|token|key|sig|credential|auth)[^=&]*=)"
    r"[^&]*(?:&[^=&]*(?=&|$))*",  # a value with an & in it goes on behind that
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://\S+")
_EXAMPLE = "://user:password@host"  # as our own messages have it


def masked(uri: str) -> str:
    """Return an address, even one that can't be parsed, with ``***`` for what is secret in it.

    All up to the last @ belongs to the login, because a password may hold any character unescaped.
    Of an http address the whole login is left out: the user may be a token. Text that is not an
    address stays as it is.
    """
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return uri
    uri = _PARAMETER.sub(rf"\1{MASK}", uri)
    login, at, place = uri[scheme.end() :].rpartition("@")
    if not at or uri.lower().startswith(_LOCAL):
        return uri
    if uri.lower().startswith("http"):
        return scheme[0] + place
    user, colon, _ = login.partition(":")
    if not scheme[0].endswith("//"):  # user:password@host
        return f"{scheme[0]}{MASK}@{place}"
    return f"{scheme[0]}{user}:{MASK}@{place}" if colon else uri


def without_credentials(text: str) -> str:
    """Return a message with every address in it masked."""
    return _ADDRESS.sub(lambda found: found[0] if _EXAMPLE in found[0] else masked(found[0]), text)


def password_of(uri: str) -> str:
    """Return what stands between the first colon and the last @ of an address, or nothing."""
    login, at, _ = uri.partition("://")[2].rpartition("@")
    return login.partition(":")[2] if at else ""


def has_secret_parameter(uri: str) -> bool:
    """Whether an address holds a password, token or key behind its ``?``."""
    return _PARAMETER.search(uri) is not None


def hidden(text: str, secrets: list[str]) -> str:
    """Return a message of somebody else's without these secrets, escaped or not."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for spelling in (secret, urllib.parse.quote(secret, safe=""), urllib.parse.unquote(secret)):
            text = re.sub(rf"(?<!\w){re.escape(spelling)}(?!\w)", MASK, text)
            if len(spelling) > 3:  # a shorter one may be a part of any word
                text = text.replace(spelling, MASK)
    return without_credentials(text)
