"""Asking a peer which process it is."""

from __future__ import annotations

import msgspec
import trio

from trio_mcp.cluster.relay.connecting import connect, host_of
from trio_mcp.cluster.relay.connections import Connection
from trio_mcp.cluster.relay.outcomes import OwnerLost, Refused, Unreachable
from trio_mcp.cluster.relay.reply import Reply

__all__ = ["ask_livez"]

ANSWER_BYTES = 64 * 1024


class _Livez(msgspec.Struct):
    boot: str


async def ask_livez(url: str, seconds: float) -> str | Refused | Unreachable:
    """The boot that `/livez` shows, on a connection of its own; Unreachable when there is none to read after `seconds`."""
    with trio.move_on_after(seconds):
        try:
            connection = Connection(await connect(url, seconds), url)
        except ConnectionRefusedError:
            return Refused()
        except OSError:
            return Unreachable()
        try:
            return await _ask(connection)
        except (OSError, OwnerLost, msgspec.DecodeError, UnicodeDecodeError):
            return Unreachable()
        finally:
            connection.close()
    return Unreachable()


async def _ask(connection: Connection) -> str:
    connection.send_now(b"GET /livez HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % host_of(connection.url))
    reply = Reply("GET", connection.receive)
    await reply.head()
    return msgspec.json.decode(await reply.whole(ANSWER_BYTES), type=_Livez).boot
