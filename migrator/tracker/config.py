"""The tracker's settings: from a dictionary, from YAML, or from arguments, and checked.

Keys and meanings are those of the legacy tracker's ``observability.mlflow`` block, so that existing
configuration files keep working; new ones stand beside them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from migrator import addresses
from migrator.credentials import masked
from migrator.errors import OptionError

DEFAULT_URI = "sqlite:///mlflow.db"
# Database servers by names that SQLAlchemy doesn't know, and what it calls them.
OTHER_NAMES = {"postgres": "postgresql", "mariadb": "mysql+pymysql"}
DATABASE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
LEVELS = ("minimal", "standard", "full")
# Reserved by the legacy tracker and never acted on by it: accepted, so that its files still load.
IGNORED_KEYS = frozenset({"retention_days", "redact_pii"})
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

KEYS_ONLY = "keys"
Redact = bool | str | Sequence[str] | Callable[[str], str]


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Settings of a tracker. ``TrackerConfig.of`` reads every form that callers have them in."""

    enabled: bool = False  # without it nothing is traced, and MLflow is not imported
    tracking_uri: str = DEFAULT_URI  # a database or a server; file stores are refused
    experiment_name: str = "configurable_agents"  # made if it is not there
    run_name: str | None = None  # becomes the trace's tag run_name
    autolog_enabled: bool | tuple[str, ...] = False  # True: langchain; or names of integrations
    log_prompts: bool = True  # prompts and responses, cut to 500 characters
    log_artifacts: bool = True  # whole inputs, outputs, prompts and responses
    artifact_level: str = "standard"  # LEVELS
    async_logging: bool = True  # write in a thread of its own
    server_timeout_s: float = 3.0  # how long a server may keep a workflow waiting
    span_timeout_s: float = 3600.0  # an open workflow is written as it stands after this time
    sampling_ratio: float = 1.0  # share of workflows that is traced
    redact: Redact = KEYS_ONLY  # keys: values of api_key, password, ...; true: texts, too
    fallback_uri: str = DEFAULT_URI  # where traces go when the server can't take them
    resend: bool = False  # send on what went to the fallback when the server is back
    prices: str | None = None  # a TOML file, or LiteLLM's JSON, that replaces the built-in table

    def __post_init__(self) -> None:
        """Raise ``OptionError`` for an unusable value."""
        _one_of("artifact_level", self.artifact_level, LEVELS)
        if not 0 < self.server_timeout_s <= 600:
            raise OptionError(
                f"server_timeout_s is {self.server_timeout_s!r}.", todo="Give seconds, above 0."
            )
        if self.span_timeout_s <= 0:
            raise OptionError(
                f"span_timeout_s is {self.span_timeout_s!r}.", todo="Give seconds, above 0."
            )
        if not 0 <= self.sampling_ratio <= 1:
            raise OptionError(
                f"sampling_ratio is {self.sampling_ratio!r}.", todo="Give a share from 0 to 1."
            )
        if not self.experiment_name.strip():
            raise OptionError("experiment_name is empty.", todo="Name an experiment.")
        if not self.fallback_uri.startswith("sqlite:"):
            raise OptionError(
                f"fallback_uri is {self.fallback_uri!r}.",
                todo=f"Give a SQLite database, such as {DEFAULT_URI}.",
            )
        _check_sqlite("fallback_uri", self.fallback_uri)
        if self.enabled:
            _check_uri(self.tracking_uri)

    @staticmethod
    def of(given: object = None, /, **overrides: Any) -> TrackerConfig:
        """Read the settings that ``given`` holds; ``overrides`` go before them.

        ``given`` is None (disabled), a ``TrackerConfig``, a mapping or an object with the settings
        as keys or attributes (or with the whole configuration around them:
        ``[config.]observability.mlflow``), or the path of a YAML file with such a mapping. A
        mapping that doesn't say ``enabled`` is disabled, as it was for the legacy tracker.

        Raises ``OptionError`` for an unknown key or an unusable value.
        """
        names = {field.name for field in fields(TrackerConfig)}
        where = "the tracker's configuration"
        if isinstance(given, str | os.PathLike):
            where = os.fspath(given)
            given = _yaml(Path(given))
        block = {} if given is None else _block(given, where)
        found: dict[str, Any] = (
            dict(block)
            if isinstance(block, Mapping)
            else {key: getattr(block, key) for key in names | IGNORED_KEYS if hasattr(block, key)}
        )
        found |= overrides
        unknown = sorted(str(key) for key in found.keys() - names - IGNORED_KEYS)
        if unknown:
            raise OptionError(
                f"{where} has the unknown key {unknown[0]!r}.",
                todo=f"Known are {', '.join(sorted(names))}.",
            )
        return TrackerConfig(
            **{
                key: _typed(key, value)
                for key, value in found.items()
                if key in names and value is not None
            }
        )


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"{path} can't be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise OptionError(f"{path} does not hold a mapping.", todo="It needs observability.mlflow.")
    return content


def _block(content: Any, where: str) -> Any:
    """Find the block of settings, which may lie inside a workflow's whole configuration."""
    block = content
    for outer in (_at(content, "config"), content):
        if _has(outer, "observability"):
            block = _at(_at(outer, "observability"), "mlflow")
            break
    else:
        if _has(content, "mlflow"):  # the observability block itself
            block = _at(content, "mlflow")
        elif _has(content, "flow") or _has(content, "nodes"):
            block = None  # a workflow without an observability block: not tracked
    if isinstance(block, str | bytes | int | float | list | tuple | set):
        raise OptionError(f"observability.mlflow of {where} is not a mapping.")
    return {} if block is None else block


def _has(holder: Any, key: str) -> bool:
    return key in holder if isinstance(holder, Mapping) else hasattr(holder, key)


def _at(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)


_Converter: TypeAlias = "Callable[[str, Any], Any]"  # key and value -> typed value


def _typed(key: str, value: Any) -> Any:
    """Convert ``value`` to the type of setting ``key``. Raises ``OptionError``."""
    convert: _Converter = _CONVERTERS.get(key, _text)
    return convert(key, value)


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{key} is {value!r}.", todo="Give a number.") from error


def _libraries(key: str, value: Any) -> bool | tuple[str, ...]:
    """Names of libraries, as a sequence or separated by commas; or all of them, or none."""
    if isinstance(value, str) and not _is_bool_word(value):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(name) for name in value)
    return _bool(key, value)


def _redaction(key: str, value: Any) -> Any:
    """What is masked: keys only, patterns, what a function says; or everything, or nothing."""
    if value == KEYS_ONLY:
        return KEYS_ONLY
    if isinstance(value, str) and not _is_bool_word(value):
        return (value,)
    if callable(value) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return value
    return _bool(key, value)


def _word(key: str, value: Any) -> str:
    """A text, or a member of an enum in the caller's own model."""
    is_member = not isinstance(value, str) and hasattr(value, "value")
    return _text(key, value.value if is_member else value)


def _text(key: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise OptionError(f"{key} is {value!r}.", todo="Give a text.")
    return value


def _is_bool_word(text: str) -> bool:
    return text.lower() in TRUE + FALSE


def _bool(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if _is_bool_word(str(value)):
        return str(value).lower() in TRUE
    raise OptionError(f"{key} is {value!r}.", todo="Give true or false.")


_CONVERTERS: Mapping[str, _Converter] = {
    "enabled": _bool,
    "log_prompts": _bool,
    "log_artifacts": _bool,
    "async_logging": _bool,
    "resend": _bool,
    "server_timeout_s": _number,
    "span_timeout_s": _number,
    "sampling_ratio": _number,
    "autolog_enabled": _libraries,
    "redact": _redaction,
    "artifact_level": _word,
}
"""How the value of a setting gets its type; all others are texts."""


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise OptionError(f"{key} is {value!r}.", todo=f"Give one of {', '.join(known)}.")


def _check_sqlite(key: str, uri: str) -> None:
    """Raise ``OptionError`` for a SQLite URI that lacks a slash, or more."""
    found = re.fullmatch(r"(sqlite(?:\+\w+)?):/{0,2}([^/].*)", uri, re.IGNORECASE)
    if found is not None:
        raise OptionError(
            f"{key} is {uri!r}, which is not the URI of a database.",
            todo=f"Write {found[1]}:///{found[2]}.",
        )


def _check_uri(uri: str) -> None:
    """Raise ``OptionError`` for a place that traces can't be written to."""
    addresses.refuse_mistaken(
        uri, OptionError, f"Set tracking_uri to {DEFAULT_URI}, or to a server: http://host:5000."
    )
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    _check_sqlite("tracking_uri", uri)
    if scheme.partition("+")[0] in OTHER_NAMES:
        backend, rest = OTHER_NAMES[scheme.partition("+")[0]], uri.partition(":")[2]
        raise OptionError(
            f"tracking_uri is {masked(uri)!r}, which MLflow doesn't know.",
            todo=f"Write {backend}:{masked(rest)}.",
        )
    if uri.lower().endswith(DATABASE_SUFFIXES) and scheme != "sqlite" and "://" not in uri:
        raise OptionError(
            f"tracking_uri is {uri!r}, the path of a file.",
            todo=f"For a SQLite database write sqlite:///{uri}.",
        )
    if scheme in ("", "file") or len(scheme) == 1:  # a path, file:..., or a drive letter
        path = uri.removeprefix("file://").removeprefix("file:") or "./mlruns"
        raise OptionError(
            f"tracking_uri is {uri!r}, a file store, which traces are not written to.",
            todo=f"Move it with `mlflow-migrate convert {path}` and set tracking_uri to "
            f"{DEFAULT_URI}.",
        )
