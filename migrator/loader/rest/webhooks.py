"""Makes webhooks through the API. They come last: from then on the server calls them.

The API has no place for their ids and times, and no tags. A webhook that is there is known by its
name and URL.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from migrator.issues import Kind
from migrator.loader.rest.connection import Connection, Refused
from migrator.loader.rest.parts import PartLog
from migrator.model import WebhookRecord
from migrator.outcome.ledger import counts_of


class WebhookWriter:
    """Makes the webhooks that a server lacks. Methods raise TargetError and Refused."""

    def __init__(self, server: Connection) -> None:
        self._server = server
        self._there: dict[tuple[str, str], list[Any]] = defaultdict(list)  # not matched yet
        for each in server.webhooks():
            self._there[each.name, each.url].append(each)

    def write(self, record: WebhookRecord, log: PartLog) -> str | None:
        """Make a webhook, or find it; return its id on the server.

        A deleted one is left out: the API makes none.
        """
        if record.deleted_ms is not None:
            log.written.left_out.update(counts_of(record))
            return None
        same_name = self._there[record.name, record.url]
        same_name.sort(key=lambda each: _events_of(each) != _events_in(record))
        found = same_name.pop(0) if same_name else None
        is_new = found is None
        if found is None:
            found = self._create(record)
        elif _values_of(found) != (record.description or "", record.status):
            log.differs(Kind.WEBHOOK, record.name)
        log.count(Kind.WEBHOOK, new=is_new)
        there = _events_of(found)
        for event in sorted(_events_in(record)):
            if event in there:
                log.count(Kind.WEBHOOK_EVENT, new=is_new)
            else:
                why = "the target has a webhook of that name and URL without it"
                log.refuse(Kind.WEBHOOK_EVENT, "/".join(event), why)
        return str(found.webhook_id)

    def _create(self, record: WebhookRecord) -> Any:
        from mlflow.entities.webhook import WebhookEvent, WebhookStatus
        from mlflow.exceptions import MlflowException

        try:
            events = [WebhookEvent(entity, action) for entity, action in _events_in(record)]
            status = WebhookStatus(record.status)
        except (MlflowException, ValueError) as error:  # of a newer release, or changed by hand
            raise Refused(str(error)) from error
        return self._server.call(
            self._server.registry.create_webhook,
            record.name,
            record.url,
            events,
            record.description,
            None,
            status,
        )


def _events_in(record: WebhookRecord) -> set[tuple[str, str]]:
    return {(event.entity, event.action) for event in record.events}


def _events_of(there: Any) -> set[tuple[str, str]]:
    return {(event.entity.value, event.action.value) for event in there.events}


def _values_of(there: Any) -> tuple[str, str]:
    return there.description or "", there.status.value
