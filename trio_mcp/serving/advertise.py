"""Where this node's peers find it: what was set, the pod's address, or the address it listens on."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import trio

from trio_mcp.observability.logs import event
from trio_mcp.serving.settings import Settings

__all__ = ["advertised_url"]

logger = logging.getLogger("trio_mcp.serving")

_ANY = frozenset({"0.0.0.0", "::"})


async def advertised_url(settings: Settings, urls: Sequence[str]) -> str:
    """`http://host:port` for peers; empty, and the log says so, when none can be told. `urls` are those served."""
    if settings.advertise_url is not None:
        return settings.advertise_url.rstrip("/")
    served = [urlsplit(url) for url in urls if url.startswith("http://")]
    if served:
        host, port = served[0].hostname or "", served[0].port
        address = os.environ.get("POD_IP") or (await _own_address() if host in _ANY else host)
        if address:
            return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    event(logger, logging.WARNING, "peers cannot reach this node", flag="--advertise-url")
    return ""


async def _own_address() -> str:
    """What this host's name means; empty when it means nothing."""
    try:
        found = await trio.socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    return str(found[0][4][0])
