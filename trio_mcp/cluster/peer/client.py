"""Passing a request on to the node that owns its session, and the response back: one hop, and nothing is sent twice."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_mcp.cluster.hop import Hops, request_target
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.headers import request_bytes
from trio_mcp.cluster.peer.outcomes import STRANGER, Outcome, Refused, Relayed, Unreachable
from trio_mcp.cluster.peer.pool import Connection, Pool
from trio_mcp.cluster.peer.probe import Livez, ask_livez
from trio_mcp.cluster.peer.relaying import Cut, OwnerWire, Patience, RelayedRequest
from trio_mcp.cluster.peer.streams import OpenStreams
from trio_mcp.defaults import WRITE_TIMEOUT
from trio_mcp.transports.http.exchange import HttpExchange

__all__ = ["PeerClient"]

RELAYED_BY = b"trio-mcp-relay"
CLIENT_LEFT = 499
PROBE_SECONDS = 1.0

SILENCE_SECONDS = 35.0
"""Streams say something every 15 s: twice that, and a little for the way."""


class PeerClient:
    """Relays from `node`; times in seconds."""

    def __init__(
        self,
        hops: Hops,
        *,
        node: str,
        connect_timeout: float = 1.0,
        head_timeout: float = 5.0,
        idle_timeout: float = 30.0,
        max_idle: int = 32,
        write_timeout: float = WRITE_TIMEOUT,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._hops = hops
        self._node = node
        self._pool = Pool(connect_timeout=connect_timeout, idle_timeout=idle_timeout, max_idle=max_idle)
        self._patience = Patience(head=head_timeout, body=silence, write=write_timeout)
        self._streams = OpenStreams()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connections are kept between requests as long as this is entered."""
        try:
            yield
        finally:
            self._pool.close()

    async def send(self, exchange: HttpExchange, content: bytes, session_id: str, to: Owner) -> Outcome:
        """Have `to` answer the exchange; `content` is the request's whole body. What it answers is passed on as it comes.

        A response that has begun and cannot be completed is cut off; on servers other than ours by trio.BrokenResourceError.
        """
        target = request_target(exchange.scope)
        hop = self._hops.sign(exchange.method, target, session_id)
        request = request_bytes(exchange, target, content, hop)
        outcome = await self._while_client_stays(exchange, request, to)
        if isinstance(outcome, Cut):
            if exchange.abort():
                return Relayed(outcome.status)
            raise trio.BrokenResourceError(f"the response of {to.node} ended early: {outcome.reason}")
        return outcome

    async def probe(self, url: str) -> str | Refused | Unreachable:
        """The boot of the node at `url`, empty for a stranger that is none of ours; takes a second at most."""
        challenge = secrets.token_hex(16).encode()
        seen = await ask_livez(url, PROBE_SECONDS, challenge)
        if not isinstance(seen, Livez):
            return seen
        return seen.boot if self._hops.proves(seen.proof, challenge, seen.boot, url) else STRANGER

    @property
    def awaits_answers(self) -> bool:
        """Whether the head of a response is still to come."""
        return bool(self._streams.waiting)

    def stream_enders(self) -> list[Callable[[], None]]:
        """What ends each event stream that is relayed now and whose client can come back for the rest, cleanly."""
        return self._streams.enders()

    def end_all(self) -> None:
        """End whatever is relayed now; what cannot be resumed gets an answer that says so."""
        self._streams.end_all()

    async def _while_client_stays(self, exchange: HttpExchange, request: bytes, to: Owner) -> Outcome | Cut:
        with trio.CancelScope() as scope:
            if exchange.tell_when_client_leaves(scope.cancel):
                return await self._relay(exchange, request, to)
            outcome: Outcome | Cut | None = None
            async with exchange.cancelled_when_client_leaves():
                outcome = await self._relay(exchange, request, to)
            if outcome is not None:
                return outcome
        exchange.left = True
        return Relayed(CLIENT_LEFT)

    async def _relay(self, exchange: HttpExchange, request: bytes, to: Owner) -> Outcome | Cut:
        try:
            connection, sent = self._sent_on_kept(request, to.url) or await self._sent_on_new(request, to.url)
        except ConnectionRefusedError:
            return Refused()
        except OSError:
            return Unreachable()
        wire = OwnerWire(connection, self._patience, partial(self._is_alive, to))
        relayed = RelayedRequest(exchange, wire, self._patience, self._relayed_by(to), self._streams)
        try:
            return await relayed.run(memoryview(request)[sent:])
        except (OSError, trio.TooSlowError):
            return Relayed(CLIENT_LEFT)
        finally:
            if relayed.usable:
                self._pool.keep(connection)
            else:
                connection.close()

    def _sent_on_kept(self, request: bytes, url: str) -> tuple[Connection, int] | None:
        """A connection and how much of `request` it took; one that fails before it took a byte counts for nothing."""
        while (connection := self._pool.kept(url)) is not None:
            try:
                return connection, connection.send_now(request)
            except OSError:
                connection.close()
        return None

    async def _sent_on_new(self, request: bytes, url: str) -> tuple[Connection, int]:
        connection = await self._pool.open(url)
        try:
            return connection, connection.send_now(request)
        except OSError:
            connection.close()
            raise

    async def _is_alive(self, owner: Owner) -> bool:
        """Whether that very process answers."""
        boot = await self.probe(owner.url)
        return isinstance(boot, str) and boot != STRANGER and boot == (owner.boot or boot)

    def _relayed_by(self, owner: Owner) -> tuple[bytes, bytes]:
        return (RELAYED_BY, f"{self._node} to {owner.node}".encode())
