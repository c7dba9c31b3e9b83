"""Recognises the addresses that users type: an MLflow server, a database server, or a mistake.

    http://host:5000, https://host/prefix      an MLflow server, or another HTTP receiver
    postgresql://…, mysql+pymysql://…          a database server
    host:5000, http:/host, htp://host          a mistake, which ``refuse_mistaken`` explains

Secrets are masked in every message (``credentials``).
"""

from __future__ import annotations

import re
import urllib.parse

from migrator.credentials import masked
from migrator.errors import MigrateError

# Scheme of an address -> the backend as SQLAlchemy and MLflow call it.
DATABASE_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_DATABASE = re.compile(r"(?P<scheme>[A-Za-z][\w.-]*)(\+[\w.-]*)?://")
# The host has two letters or more: one letter would be a Windows drive.
_HOST_AND_PORT = re.compile(
    rf"(//)?([^/@\s]*@)?(?!(sqlite|file|http|https|{'|'.join(DATABASE_SCHEMES)}):)"
    r"(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9_.-]+):[0-9]{1,5}(/\S*)?",
    re.IGNORECASE,
)
_HTTP = re.compile(r"https?://[^/?#]", re.IGNORECASE)
_ALMOST_HTTP = re.compile(r"h?t{1,3}p(?P<s>s?)(?P<slashes>://|:/*|/+)(?P<rest>\S+)", re.IGNORECASE)
_DATABRICKS = re.compile(r"(databricks|databricks-uc|uc)(:.*)?", re.IGNORECASE)


def is_http(uri: str) -> bool:
    """Return True for an address that begins with ``http:`` or ``https:``, valid or not."""
    return re.match(r"https?:", uri, re.IGNORECASE) is not None


def is_server_url(uri: str) -> bool:
    """Return True for a valid URL of an MLflow server: ``http://host:5000``, with or without path.

    A query or a fragment makes it invalid, because MLflow's clients append to the URL.
    """
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


def is_database_server(uri: str) -> bool:
    """Return True for the URI of a database on a PostgreSQL or MySQL server."""
    return database_backend(uri) is not None


def database_backend(uri: str) -> str | None:
    """Return ``postgresql`` or ``mysql`` for the URI of such a server, None for anything else."""
    found = _DATABASE.match(uri)
    return DATABASE_SCHEMES.get(found["scheme"].lower()) if found else None


def refuse_mistaken(given: str, kind: type[MigrateError], forms: str) -> None:
    """Raise an error of this kind for an address that was meant for a server but can't be used.

    It lacks ``http://``, has a slip in it (``http:/host``), or names a Databricks workspace; then
    ``forms`` is the advice. Any other text passes.
    """
    text = masked(given)
    if _HOST_AND_PORT.fullmatch(given):
        host = text.removeprefix("//")
        raise kind(
            f"{text} is a server's address without http://.",
            todo=f"Write http://{host}, or https://{host} if it uses TLS.",
        )
    almost = _ALMOST_HTTP.fullmatch(given)
    if almost is not None and not _HTTP.match(given):
        meant = f"http{almost['s'].lower()}://{masked(almost['rest'])}"
        raise kind(
            f"{text} is not the address of a server.",
            todo=f"Write {meant if is_server_url(meant) else 'it as http://host:5000'}.",
        )
    if _DATABRICKS.fullmatch(given):
        raise kind(f"{text} is a Databricks workspace, which can't be reached.", todo=forms)
