"""Removes passwords, tokens and keys from addresses and messages before they are printed.

``masked`` is for one address, ``without_credentials`` for a text with addresses in it, and
``without_secrets`` for a text of a server or driver that may repeat secrets we know.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable

MASK = "***"
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+:(?://)?")
_LOCAL = ("file:", "sqlite:", "sqlite+")
_PARAMETER = re.compile(
    r"([?&;][^=&]*(?:pass|pwd|secret|token|key|sig|credential|auth)[^=&]*=)"
    r"[^&]*(?:&[^=&]*(?=&|$))*",  # a value may hold an unescaped &
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://\S*[^\s.,;:]")  # without punctuation at its end
_EXAMPLE = "://user:password@host"  # in our own messages


def masked(uri: str) -> str:
    """Return an address with ``***`` in place of its secrets; other text is unchanged.

    The address need not be valid. Everything up to the last @ is the login, because people type
    passwords unescaped. From an http address the whole login is removed: its user may be a token.

        masked("postgresql://ana:secret@host/db")  # postgresql://ana:***@host/db
        masked("https://token@host:5000")          # https://host:5000
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
    return _ADDRESS.sub(_masked_match, text)


def _masked_match(address: re.Match[str]) -> str:
    return address[0] if _EXAMPLE in address[0] else masked(address[0])


def password_of(uri: str) -> str:
    """Return the password of an address: the text from the first colon to the last @, or ""."""
    login, at, _ = uri.partition("://")[2].rpartition("@")
    return login.partition(":")[2] if at else ""


def has_secret_parameter(uri: str) -> bool:
    """Return True if the query of an address holds a password, token or key."""
    return _PARAMETER.search(uri) is not None


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a message without these secrets, in plain or URL-encoded form, and without logins.

    A secret of at most three characters is replaced only where it stands as a word of its own.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for spelling in (secret, urllib.parse.quote(secret, safe=""), urllib.parse.unquote(secret)):
            text = re.sub(rf"(?<!\w){re.escape(spelling)}(?!\w)", MASK, text)
            if len(spelling) > 3:
                text = text.replace(spelling, MASK)
    return without_credentials(text)
