"""A server as the comparisons see it: its stores, the new ids, and what was counted so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from migrator import conventions, encoding
from migrator.credentials import masked
from migrator.issues import Kind
from migrator.verification.findings import Entity, Findings
from migrator.verification.reading import broken, read_entity
from migrator.verification.traces import ReadOnce, client_of

PAGE_ITEMS = 1000  # experiments or runs in an answer
_SERVER_TAGS = {conventions.RUN_NAME, conventions.ARTIFACT_LOCATION, "mlflow.trace.infoFinalized"}
# Codes of errors that concern the server itself, not the thing that it is asked for.
_FAILURES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED")


@dataclass(slots=True)
class ServerExperiment:
    """An experiment of the server, and the new ids of the source's runs and models in it."""

    found: Any
    runs: dict[str, str] = field(default_factory=dict)  # old id -> new id
    models: dict[str, str] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)


class Server:
    """MLflow's clients of one server, and what its comparisons share."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.shown = masked(uri)
        self.client: Any = MlflowClient(uri)
        self.store: Any = ReadOnce(self.client._tracking_client.store)
        self.registry: Any = self.client._get_registry_client().store
        self.traces: Any = client_of(self.store, uri)
        self.findings = Findings()
        self.exceptions: Counter[str] = Counter()  # by the names of the limits
        self.runs: dict[str, str] = {}  # old id -> new id, of all experiments
        self.models: dict[str, str] = {}

    def read(self, read: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Ask for an entity: None if there is none, ``Unreadable`` if MLflow can't read it.

        Raises TargetError when the server itself fails.
        """
        from mlflow.exceptions import MlflowException

        def ask() -> Any:
            try:
                return read(*arguments, **named)
            except MlflowException as error:
                if error.error_code in _FAILURES:
                    raise broken(self.shown, error) from None
                raise

        return read_entity(ask)

    def compare_texts(
        self,
        of: Entity,
        kind: Kind,
        expected: Mapping[str, str],
        found: Mapping[str, str],
        limit: int,
    ) -> None:
        """Compare keys and values of params, tags or metadata.

        The API cuts values to ``limit`` characters.
        """
        cleaned = {key: encoding.clean_text(value) for key, value in expected.items()}
        self.exceptions["value-length"] += sum(len(value) > limit for value in cleaned.values())
        cut = {key: value[:limit] for key, value in cleaned.items()}
        of.mapping(kind, _LABELS[kind], cut, found, allowed=_SERVER_TAGS)


_LABELS = {
    Kind.PARAM: "param",
    Kind.TAG: "tag",
    Kind.TRACE_TAG: "tag",
    Kind.TRACE_METADATA: "metadata",
}


def pages_of(ask: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """Yield the items of all pages of an answer."""
    token = None
    while True:
        page = ask(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def compare_times(of: Entity, record: Any, fields: Mapping[str, Any]) -> None:
    """Compare the times of a model or version, which the API stamps itself, with the tag's."""
    of.check("creation_timestamp", record.creation_ms, fields.get("creation_ms"))
    of.check("last_updated_timestamp", record.last_updated_ms, fields.get("last_updated_ms"))
