"""Ports for servers of tests."""

from __future__ import annotations

import random
import socket
from contextlib import closing

# Below the ports that systems give to outgoing connections (Linux: from 32768). A port among those
# can be taken before its server starts, or while it is down; a client that asks a closed one may
# even reach itself.
_FIRST, _LAST = 20_000, 32_000
_chance = random.SystemRandom()  # processes that run tests side by side must not draw the same


def free_port() -> int:
    """Draw a port of 127.0.0.1 on which nothing listens."""
    while True:
        port = _chance.randint(_FIRST, _LAST)
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
