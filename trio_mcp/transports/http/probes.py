"""The probes of orchestrators and balancers: whether the process is alive, and whether it is ready for new work."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from trio_mcp.protocol.jsonrpc import encode
from trio_mcp.sessions.node_state import ANSWERS, Claims, LifeCycle, NodeState
from trio_mcp.transports.asgi import Scope, Send
from trio_mcp.transports.http.exchange import WORKER
from trio_mcp.transports.http.responses import send_json

__all__ = ["CHALLENGE", "Probes"]

CHALLENGE = b"trio-mcp-challenge"
CHALLENGE_BYTES = re.compile(rb"[0-9a-f]{32}")


class Probes:
    """`/livez`, also by its old name `/healthz`, and `/readyz`. The gate does not check them."""

    paths: ClassVar[frozenset[str]] = frozenset({"/livez", "/healthz", "/readyz"})

    def __init__(self, life: LifeCycle, *, boot: str) -> None:
        self._life = life
        self._boot = boot
        self.prove: Callable[[bytes], str] | None = None
        """Makes the proof for a peer's challenge: that this process has the secret of the cluster. None without a cluster."""
        self.answer_for: Callable[[str, bytes], Awaitable[bytes | None]] | None = None
        """What another worker of this node answers to a challenge that means it; None when this process is to answer."""
        self.replaced: bool = False
        """Another worker of this node serves in the place of this process, which stops: the node is ready."""

    def asked_by_a_peer(self, scope: Scope) -> bool:
        """Whether it is a peer's challenge, which is answered here even where the user has a route with this path."""
        return self.prove is not None and _challenge(scope) is not None

    async def answer(self, scope: Scope, path: str, send: Send) -> None:
        """200 or 503, as the node's state has it; the body names the state, what the node waits for, and the process."""
        challenge = _challenge(scope)
        worker = _header(scope, WORKER).decode("latin-1")
        if challenge is not None and worker and self.answer_for is not None:
            told = await self.answer_for(worker, challenge)
            if told is not None:
                return await send_json(send, 200, told, [(b"cache-control", b"no-store")])
        answers = ANSWERS[NodeState.READY] if self.replaced else self._life.answers
        well = answers.readyz if path == "/readyz" else answers.livez
        status = 200 if well else 503
        body: dict[str, Any] = {"status": answers.label, "boot": self._boot}
        if answers.claims is Claims.NOT_YET and self._life.waits_for:
            body["waits_for"] = sorted(self._life.waits_for)
        if self.prove is not None and challenge is not None:
            body["proof"] = self.prove(challenge)
        await send_json(send, status, encode(body), [(b"cache-control", b"no-store")])


def _challenge(scope: Scope) -> bytes | None:
    found = _header(scope, CHALLENGE)
    return found if CHALLENGE_BYTES.fullmatch(found) else None


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
