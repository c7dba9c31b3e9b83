"""Lets one conversion at a time write through a server's API.

The API has no locks, but the name of a registered model can be taken only once. So a conversion
makes a registered model of a fixed name, and deletes it in the end. Meanwhile it changes a tag of
it again and again. Another conversion waits; if the tag stays the same for so long that the
conversion must be gone (killed, or cut off), the other one takes its place.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

from migrator.errors import TargetError
from migrator.loader.rest.connection import Connection, Refused

LOCK = "mlflow-migrate.lock"
_OWNER, _BEAT = "owner", "beat"
_BEAT_S = 5.0
_GONE_S = 45.0  # without a beat
_WAIT_S = 3600.0  # as long as for a lock of PostgreSQL
_LOOK_S = 2.0
_IS_TAKEN = "already exists"  # in the server's words
_WHY = (
    "mlflow-migrate is writing into this server. It deletes this entry when it has ended; until "
    "then a second conversion waits."
)


@contextmanager
def alone(server: Connection, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other conversions from writing into a server until the block ends.

    Waits for one that is under way, and tells ``say`` so. Raises TargetError if that takes too
    long. A server whose registry refuses the entry is written into without a lock.
    """
    owner = f"{socket.gethostname()}/{os.getpid()}"
    if not _take(server, owner, say):
        yield
        return
    has_ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(server, has_ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        has_ended.set()
        beats.join()
        with suppress(Refused, TargetError):  # what is left expires
            if _state(server).get(_OWNER) == owner:
                server.call(server.registry.delete_registered_model, LOCK)


def _take(server: Connection, owner: str, say: Callable[[str], None]) -> bool:
    """Wait until the lock is ours. Returns False if this server has none to give."""
    from mlflow.entities.model_registry import RegisteredModelTag

    began = changed = monotonic()
    state: dict[str, str] | None = None
    tags = [RegisteredModelTag(_OWNER, owner)]
    while True:
        try:
            server.call(server.registry.create_registered_model, LOCK, tags, _WHY)
            return True
        except Refused as error:
            if _IS_TAKEN not in str(error):
                say(f"Nothing keeps a second conversion from this server: {error}.")
                return False
        found = _state(server)
        if found != state:
            if state is None:
                say(f"Waiting for the conversion of {found.get(_OWNER)} into the same server.")
            state, changed = found, monotonic()
        elif monotonic() - changed > _GONE_S:
            with suppress(Refused):  # a third one did so
                server.call(server.registry.delete_registered_model, LOCK)
            state = {}
            continue
        if monotonic() - began > _WAIT_S:
            raise server.lost(
                f"{found.get(_OWNER)} has been writing into it for more than an hour",
                "Wait until that conversion has ended.",
            )
        sleep(_LOOK_S)


def _state(server: Connection) -> dict[str, str]:
    """The tags of the lock; none if it is free."""
    try:
        return dict(server.call(server.registry.get_registered_model, LOCK).tags)
    except Refused:
        return {}


def _beat(server: Connection, has_ended: threading.Event) -> None:
    from mlflow.entities.model_registry import RegisteredModelTag

    number = 0
    while not has_ended.wait(_BEAT_S):
        number += 1
        with suppress(Refused, TargetError):
            tag = RegisteredModelTag(_BEAT, str(number))
            server.call(server.registry.set_registered_model_tag, LOCK, tag)
