"""HTTP to other nodes: a request is relayed to the owner of its session and the response back; `/livez` tells which process a node is.

A request is relayed over one hop at most, and never sent twice.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.headers import SentHead, request_head
from trio_mcp.cluster.peer.outcomes import STRANGER, Outcome, Refused, Relayed, Unreachable
from trio_mcp.cluster.peer.pool import Connection, Pool
from trio_mcp.cluster.peer.probe import Livez, ask_livez
from trio_mcp.cluster.peer.relaying import Cut, OwnerWire, Patience, RelayedRequest
from trio_mcp.cluster.peer.streams import OpenStreams
from trio_mcp.cluster.siblings import worker_in
from trio_mcp.dispatch.call import CallScope
from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.request_head import RequestHead

__all__ = ["PeerClient"]

RELAYED_BY = b"trio-mcp-relay"
CLIENT_LEFT = 499
PROBE_SECONDS = 1.0
LOOKS = 4
"""How often it is looked for silent owners within the shortest time that one may be silent."""
MOST_KNOWN = 256
PASSED_ON_SECONDS = 0.8
"""For a worker to answer a challenge that another has accepted: the peer waits PROBE_SECONDS."""


class PeerClient:
    """Relays from the node that is called `node`; `hops` signs its requests.

    `patience` has the times of one request. `idle_timeout` (seconds) and `max_idle` bound the connections to a peer that are kept for
    the next request; `connect_timeout` is in seconds as well.
    """

    def __init__(
        self,
        hops: Hops,
        *,
        node: str,
        patience: Patience | None = None,
        connect_timeout: float = 1.0,
        idle_timeout: float = 30.0,
        max_idle: int = 32,
        is_local: Callable[[str], bool] = lambda url: False,
    ) -> None:
        """`is_local` tells the URLs of workers of this node, `unix:/path`."""
        self._hops = hops
        self._is_local = is_local
        self._node = node
        self._pool = Pool(
            connect_timeout=connect_timeout, idle_timeout=idle_timeout, max_idle=max_idle, is_local=is_local
        )
        self._patience = patience or Patience()
        self._streams = OpenStreams()
        self._relayed_by_us: dict[str, tuple[bytes, bytes]] = {}
        """The header that says so, by the name of the owner."""
        self._waiting: dict[OwnerWire, float] = {}
        """Those that wait for an owner, by the time since when (trio clock)."""

    def knows_key(self, name: str) -> bool:
        """Whether what a node signs with the key of that name verifies here; see `Hops.knows`."""
        return self._hops.knows(name)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep connections between requests for the length of the block, and notice owners that are silent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_silent)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel("the node stops")
                self._pool.close()

    async def _watch_silent(self) -> None:
        while True:
            await trio.sleep(min(self._patience.head, self._patience.body) / LOOKS)
            for wire, since in list(self._waiting.items()):
                wire.look(since)

    async def send(self, exchange: HttpExchange, content: bytes, session_id: str, to: Owner) -> Outcome:
        """Have `to` answer the exchange, and pass its response on as it arrives. `content` is the whole body of the request.

        Returns what became of it; see `outcomes`. A response that has begun and cannot be completed is cut off: the connection to the
        client is reset or, on servers other than ours, trio.BrokenResourceError is raised. Raises ValueError for a request header with
        a line break.
        """
        request = b"%b%d\r\n\r\n%b" % (
            self._head(exchange.head, session_id, to.url, exchange.address),
            len(content),
            content,
        )
        outcome = await self._while_client_stays(exchange, request, to)
        if isinstance(outcome, Cut):
            if exchange.carrier.abort():
                return Relayed(outcome.status)
            raise trio.BrokenResourceError(f"the response of {to.node} ended early: {outcome.reason}")
        return outcome

    def _head(self, head: RequestHead, session_id: str, url: str, address: str | None = None) -> bytes:
        """The request's head up to the value of Content-Length, kept for those with an equal head that follow within the second."""
        sent, second = head.relayed, int(time.time())
        if (
            isinstance(sent, SentHead)
            and (sent.second, sent.session_id, sent.url) == (second, session_id, url)
            and sent.address == address
        ):
            return sent.before_length
        hop = self._hops.sign(head.method, head.target, session_id, second)
        client = b"" if address is None else self._hops.sign_client(hop, address)
        before_length = request_head(head, hop, worker_in(url), client)
        head.relayed = SentHead(second, session_id, url, address, before_length)
        return before_length

    async def probe(self, url: str) -> str | Refused | Unreachable:
        """The boot of the node at `url`, or STRANGER for a process that does not know our secret; takes `PROBE_SECONDS` at most."""
        challenge, local = secrets.token_hex(16).encode(), self._is_local(url)
        seen = await ask_livez(url, PROBE_SECONDS, challenge, local=local)
        if not isinstance(seen, Livez):
            return seen
        if local:
            # The socket has the name of its process, in a folder of ours: no other can have it.
            return seen.boot
        return seen.boot if self._hops.proves(seen.proof, challenge, seen.boot, url) else STRANGER

    async def answer_of(self, url: str, challenge: bytes) -> bytes:
        """What the worker of this node at `url` answers to that challenge of a peer, encoded; of one that does not, an empty object."""
        seen = await ask_livez(url, PASSED_ON_SECONDS, challenge, local=True)
        return encode(seen if isinstance(seen, Livez) else {})

    @property
    def awaits_answers(self) -> bool:
        """Whether the head of any response is still to come."""
        return bool(self._streams.waiting)

    def stream_enders(self) -> list[Callable[[], None]]:
        """Functions that each end one event stream that is relayed now, and that its client can resume elsewhere."""
        return self._streams.enders()

    def end_all(self) -> None:
        """End all that is relayed now. What its client cannot resume gets an error as its answer."""
        self._streams.end_all()

    async def _while_client_stays(self, exchange: HttpExchange, request: bytes, to: Owner) -> Outcome | Cut:
        kept = exchange.carrier.kept
        scope: CallScope = trio.CancelScope() if kept is None else kept.lend()
        with scope:
            if exchange.carrier.tell_when_client_leaves(scope.cancel):
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
        patience = self._patience
        wire = OwnerWire(connection, patience.write_timeout, patience.head, to, self._is_alive, self._waiting)
        relayed = RelayedRequest(exchange, wire, patience, self._relayed_by(to.node), self._streams)
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
        """A kept connection, and the number of bytes of `request` it took; None when there is none. One that took no byte is closed."""
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
        """Whether the same process answers at the owner's URL."""
        boot = await self.probe(owner.url)
        return isinstance(boot, str) and boot != STRANGER and boot == (owner.boot or boot)

    def _relayed_by(self, owner: str) -> tuple[bytes, bytes]:
        known = self._relayed_by_us.get(owner)
        if known is None:
            if len(self._relayed_by_us) >= MOST_KNOWN:
                self._relayed_by_us.clear()
            known = self._relayed_by_us[owner] = (RELAYED_BY, f"{self._node} to {owner}".encode())
        return known
