"""What an address is that a user typed: that of an MLflow server, or one that lacks something."""

from __future__ import annotations

import re
import urllib.parse

from migrator.credentials import masked
from migrator.errors import MigrateError

# A host's name of one letter would be a Windows drive; these words are schemes.
_HOST_AND_PORT = re.compile(
    r"(//)?([^/@\s]*@)?(?!(sqlite|file|http|https|postgresql|postgres|mysql|mariadb):)"
    r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9_.-]+):[0-9]{1,5}(/\S*)?",
    re.IGNORECASE,
)
_HTTP = re.compile(r"https?://[^/?#]", re.IGNORECASE)
_ALMOST_HTTP = re.compile(r"h?t{1,3}p(?P<s>s?)(?P<slashes>://|:/*|/+)(?P<rest>\S+)", re.IGNORECASE)
_DATABRICKS = re.compile(r"(databricks|databricks-uc|uc)(:.*)?", re.IGNORECASE)


def is_server(uri: str) -> bool:
    """Return True for what is meant as the address of an MLflow server."""
    return re.match(r"https?:", uri, re.IGNORECASE) is not None


def is_server_address(uri: str) -> bool:
    """Return True for an address that MLflow's clients take: ``http://host:5000``, or a path."""
    try:
        parts = urllib.parse.urlsplit(uri)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not parts.query
            and not parts.fragment
        )
    except ValueError:  # the port is not a number
        return False


def refuse_mistaken(given: str, kind: type[MigrateError], forms: str) -> None:
    """Raise an error of this kind for a server's address that can't be used as it is.

    That is one without ``http://``, one with a slip in it, or the name of a Databricks workspace.
    ``forms`` says what can be given instead of a workspace.
    """
    text = masked(given)
    if _HOST_AND_PORT.fullmatch(given):
        host = text.removeprefix("//")
        raise kind(
            f"{text} is a server's address without http://.",
            todo=f"Write http://{host}, or https://{host} if it has TLS.",
        )
    almost = _ALMOST_HTTP.fullmatch(given)
    if almost is not None and not _HTTP.match(given):
        meant = f"http{almost['s'].lower()}://{masked(almost['rest'])}"
        raise kind(
            f"{text} is not the address of a server.",
            todo=f"Write {meant if is_server_address(meant) else 'it as http://host:5000'}.",
        )
    if _DATABRICKS.fullmatch(given):
        raise kind(f"{text} is a Databricks workspace, which can't be reached.", todo=forms)
