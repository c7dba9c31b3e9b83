"""Object stores and whatever else fsspec reads: addresses, access, and what an error means.

The provider's own package finds the credentials. Each provider has an extra of ours (``EXTRAS``).
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from migrator.credentials import has_secret_parameter, masked, password_of, without_secrets
from migrator.errors import MigrateError

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"} | dict.fromkeys(
    ("az", "abfs", "abfss"), "azure"
)
# Schemes that fsspec knows, but that mean something else to MLflow's users or this machine.
_NOT_REMOTE = frozenset({"file", "local", "http", "https"})
_ALIASES = {"s3a": "s3", "gcs": "gs"}  # MLflow's names of them
_FSSPEC_NAMES = {"abfss": "abfs"}  # which fsspec knows also where adlfs is not installed
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_BLOB = re.compile(r"(?P<container>[^@/]+)@(?P<account>[^./]+)\.blob\.[^/]+(?P<path>/.*)?")
_LOGINS = {  # what the provider's package reads
    "s3": "AWS_PROFILE, AWS_ACCESS_KEY_ID with its secret key, or aws configure",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_AT_ONCE = 32  # requests; threads that only wait
_AT_ONCE_OF_OWN = 8  # where each thread needs its own connection
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


READING = "read"
WRITING = "written"


def is_object_store(address: str) -> bool:
    """Whether an address is one that fsspec reads.

    The providers that have an extra of ours count even where their package is not installed.
    """
    match = _URI.match(address)
    if match is None:
        return False
    scheme = match[1].lower()
    if scheme in EXTRAS:
        return True
    if scheme in _NOT_REMOTE or importlib.util.find_spec("fsspec") is None:
        return False
    import fsspec

    return scheme in fsspec.available_protocols()


def fsspec_address(location: str) -> str:
    """The address by which fsspec opens a location that MLflow recorded.

    Only Azure's differ: MLflow writes ``wasbs://container@account.blob.core.windows.net/path``.
    """
    scheme, _, rest = location.partition("://")
    blob = _BLOB.fullmatch(rest)
    if scheme.lower() not in ("wasb", "wasbs") or blob is None:
        return location
    return f"abfss://{blob['container']}@{blob['account']}.dfs.core.windows.net{blob['path'] or ''}"


def mlflow_location(address: str, account: str | None = None) -> str:
    """The location by which MLflow opens an address; ``account`` is that of Azure's schemes.

    MLflow takes the object's key from it without unescaping. The schemes are those of
    ``mlflow.store.artifact.artifact_repository_registry`` (3.9); Azure's differ from fsspec's.
    """
    scheme, _, rest = address.partition(":")
    whole = rest.lstrip("/")
    if account is not None:
        container, _, blob = whole.partition("/")
        container = container.partition("@")[0]
        return f"wasbs://{container}@{account}.blob.core.windows.net/{blob}"
    return f"{_ALIASES.get(scheme, scheme)}://{whole}"


class RemoteFolder:
    """A folder that fsspec reads. Its methods raise whatever the provider's package raises."""

    def __init__(self, address: str, kind: type[MigrateError]) -> None:
        """Raise an error of this kind for an address that is not usable."""
        match = _URI.match(address)
        assert match is not None, address
        self.scheme = match[1].lower()
        if "::" in address:
            raise kind(f"{masked(address)} is a chain of addresses.", todo="Give one address.")
        shown = _without_login(address.rstrip("/"), kind)
        self.uri = self.scheme + shown[len(match[1]) :]
        if not shown[match.end() :]:
            raise kind(
                f"{masked(address)} names no place.", todo="Give the bucket and the path in it."
            )
        self.address = _FSSPEC_NAMES.get(self.scheme, self.scheme) + address[len(match[1]) :]
        self._own = threading.local()
        self.filesystem = self._open()
        self.root: str = self.key_of(self.address).rstrip("/")
        azure = EXTRAS.get(self.scheme) == "azure"
        self.account = getattr(self.filesystem, "account_name", None) if azure else None

    def _open(self) -> Any:
        import fsspec

        # Without the cache of listings, which holds each of them for good.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if EXTRAS.get(self.scheme) == "s3":  # whose client has ten connections by default
            chosen = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            options["config_kwargs"] = {"max_pool_connections": _AT_ONCE, **chosen}
        filesystem, _ = fsspec.core.url_to_fs(self.address, **options)
        return filesystem

    @property
    def at_once(self) -> int:
        """How many requests may be under way."""
        return _AT_ONCE if self.filesystem.async_impl else _AT_ONCE_OF_OWN

    @property
    def own_filesystem(self) -> Any:
        """A file system for this thread: two threads must not share a connection."""
        if self.filesystem.async_impl:
            return self.filesystem
        if not hasattr(self._own, "filesystem"):
            self._own.filesystem = self._open()
        return self._own.filesystem

    def key_of(self, address: str) -> str:
        """What the file system calls an address below this folder, or beside it."""
        return str(self.filesystem._strip_protocol(address))

    def get(self, key: str, to: str, check: Callable[[], None]) -> None:
        """Write a file's content into a local file; ``check`` is called meanwhile and may raise."""
        from fsspec.callbacks import Callback

        hook = Callback(hooks={"check": lambda *_, **__: check()})
        self.own_filesystem.get_file(key, to, callback=hook)


def _without_login(address: str, kind: type[MigrateError]) -> str:
    """An address without its password, which would end in the report and database otherwise.

    Raises an error of this kind where it isn't clear which part is the password.
    """
    scheme, _, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    login, at, host = authority.rpartition("@")
    user, colon, port = (login or authority).partition(":")
    unclear = not at and bool(colon) and not port.isdecimal() and "@" in path
    if unclear or has_secret_parameter(address):
        raise kind(
            f"{masked(address)} holds a password or token that would end in the database.",
            todo="Give it by the environment or fsspec's configuration; in a password write %40 "
            "for @, %2F for / and %3A for :.",
        )
    return f"{scheme}://{user}@{host}{slash}{path}" if at else address


@contextlib.contextmanager
def explained(address: str, kind: type[MigrateError], doing: str = READING) -> Iterator[None]:
    """Turn any failure of a remote file system into one sentence and what to do about it.

    The error has the given kind, and no cause: that may name the login.
    """
    shown = masked(address)

    def said(error: BaseException) -> str:
        return without_secrets(first_line(error), [password_of(address)])

    scheme = address.partition(":")[0].lower()
    try:
        yield
    except MigrateError:
        raise
    except ImportError as error:
        raise kind(
            f"{shown} can't be {doing}: a package for {scheme}:// is not installed "
            f"({said(error)}).",
            todo=f"Install it: pip install 'mlflow-migrate[{EXTRAS.get(scheme, 'remote')}]'",
        ) from None
    except FileNotFoundError:
        raise kind(f"{shown} does not exist.", todo="Check the bucket and the path.") from None
    except PermissionError as error:
        may = "list and get objects there" if doing == READING else "put objects there"
        raise kind(
            f"{shown} can't be {doing}: access is denied ({said(error)}).",
            todo=f"Check the credentials, and that they may {may}.",
        ) from None
    except Exception as error:  # noqa: BLE001  # each provider's package raises its own
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise kind(
                f"{shown} can't be fetched: {tempfile.gettempdir()} is full.",
                todo="Make room, or set TMPDIR to a folder on another disk.",
            ) from None
        if "certificate" in str(error).lower():
            raise kind(
                f"{shown} can't be {doing}: the certificate of its server is not accepted "
                f"({said(error)}).",
                todo="Make its authority known (AWS_CA_BUNDLE, or SSL_CERT_FILE for other stores).",
            ) from None
        login = _LOGINS.get(EXTRAS.get(scheme, ""))
        how = "" if login is None else f" (a login is read from {login})"
        raise kind(
            f"{shown} can't be {doing}: {type(error).__name__}: {said(error)}.",
            todo=f"Check the credentials and the network{how}.",
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
