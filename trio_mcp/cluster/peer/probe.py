"""Which process answers at a URL: `GET /livez`, with a challenge that only a process with our secret can answer."""

from __future__ import annotations

import msgspec
import trio

from trio_mcp.cluster.peer.headers import worker_header
from trio_mcp.cluster.peer.outcomes import OwnerLost, Refused, Unreachable
from trio_mcp.cluster.peer.pool import Connection, connect, connect_local, host_of
from trio_mcp.cluster.peer.response import Response
from trio_mcp.cluster.record import read
from trio_mcp.cluster.siblings import worker_in
from trio_mcp.transports.http.probes import CHALLENGE

__all__ = ["Livez", "ask_livez"]

ANSWER_BYTES = 64 * 1024


class Livez(msgspec.Struct, frozen=True):
    """The body of a `/livez` response."""

    boot: str
    proof: str = ""
    """The signature of the challenge."""


async def ask_livez(
    url: str, seconds: float, challenge: bytes, *, local: bool = False
) -> Livez | Refused | Unreachable:
    """Ask on a new connection. Unreachable when no response that can be read comes within `seconds`.

    With `local` the peer is a worker of this node, and its URL `unix:/path`.
    """
    with trio.move_on_after(seconds):
        try:
            connection = Connection(await (connect_local(url) if local else connect(url, seconds)), url)
        except ConnectionRefusedError:
            return Refused()
        except OSError:
            return Unreachable()
        try:
            return await _ask(connection, challenge)
        except (OSError, OwnerLost):
            return Unreachable()
        finally:
            connection.close()
    return Unreachable()


async def _ask(connection: Connection, challenge: bytes) -> Livez | Unreachable:
    head = b"GET /livez HTTP/1.1\r\nhost: %b\r\n%b: %b\r\n%bconnection: close\r\n\r\n"
    connection.send_now(
        head % (host_of(connection.url), CHALLENGE, challenge, worker_header(worker_in(connection.url)))
    )
    response = Response("GET", connection.receive)
    await response.wait_head()
    return read(await response.whole(ANSWER_BYTES), Livez) or Unreachable()
