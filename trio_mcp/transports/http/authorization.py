"""What `BearerAuth` is for an HTTP app: it judges each request, answers the well-known paths, and runs its task.

request ─▶ gate ─▶ BearerAuth.judge ─┬─ Allowed ─────▶ principal and token of the exchange
                                     ├─ Refused ─────▶ 400, 401 or 403, with a challenge
                                     └─ Unavailable ─▶ 503 without one
well-known path ─▶ the metadata: no token, in every state of the node

Imported only by servers that have a `BearerAuth`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Any

import trio

from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.judgement import Allowed, Judgement, Refused, Unavailable
from trio_mcp.auth.known_caller import KnownCaller
from trio_mcp.auth.metadata import ISSUER_METADATA, MetadataAnswer, public_document
from trio_mcp.auth.verifier import Verifier, sent_by
from trio_mcp.observability.auth_metrics import AuthMetrics, Outcome
from trio_mcp.observability.logs import leaves
from trio_mcp.observability.metrics import Metrics
from trio_mcp.sessions.node_state import KEYS, LifeCycle
from trio_mcp.transports.asgi import Receive, Scope, Send
from trio_mcp.transports.http.allowed import Proxies
from trio_mcp.transports.http.callers import asked, cannot_authenticate
from trio_mcp.transports.http.exchange import HttpExchange
from trio_mcp.transports.http.responses import HttpRefusal, send_json

__all__ = ["Authorization", "authorization_of", "refusal_of"]

FIRST_ATTEMPT_SECONDS = 1.0
"""That a start waits for the keys: an issuer that hangs must not keep the node from listening, one that is well gives them at once."""

_OUTCOMES: Mapping[int, Outcome] = {500: "failed", 503: "unavailable"}
"""By status; all others are refusals."""


class Authorization:
    """The authorization of one app by bearer tokens. Raises AuthConfigurationError where the public URL is not known.

    `resource` is the public URL of the server where `auth` has none of its own. `proxies` say who sends a request.
    """

    def __init__(self, auth: BearerAuth, metrics: AuthMetrics, *, resource: str | None, proxies: Proxies) -> None:
        auth.bind(resource)
        self.auth = auth
        auth.count_judgements_with(metrics.judged)
        self._metrics = metrics
        self._proxies = proxies
        if isinstance(auth.verifier, Verifier):
            metrics.count_fetches_with(auth.verifier.statistics)

    async def identify(self, exchange: HttpExchange) -> None:
        """Set principal and token of the exchange by its `Authorization` header. Raises HttpRefusal."""
        head = exchange.head
        known = head.caller if isinstance(head.caller, KnownCaller) else None
        allowed = None if known is None else known.again()
        if allowed is not None:
            self._metrics.recognised()
        else:
            allowed = await self.judge(exchange)
            if head.passed is not None:
                # Not for the first request with a head: of many there is no second.
                head.caller = self.auth.known(allowed)
        exchange.principal, exchange.token = allowed.principal, allowed.token

    async def judge(self, exchange: HttpExchange) -> Allowed:
        """What the token allows. Raises HttpRefusal."""
        began = perf_counter()
        try:
            sent = exchange.header_list(b"authorization")
            judgement = self.auth.judge_now(sent)
            if judgement is None:
                # Only now: a deadline costs more than all the rest.
                with sent_by(self._proxies.client_of(exchange)):
                    judgement = await asked(partial(self.auth.judge, sent))
            allowed = _allowed(judgement)
        except HttpRefusal as refusal:
            outcome = _OUTCOMES.get(refusal.status, "refused")
            self._metrics.judged(outcome, refusal.reason, perf_counter() - began)
            raise
        self._metrics.judged("allowed", "", perf_counter() - began)
        return allowed

    @property
    def paths(self) -> Iterable[str]:
        """The well-known paths of this server, from the root of its host."""
        own = () if self.auth.metadata is None else self.auth.metadata.paths
        return {*own, ISSUER_METADATA} if self.auth.legacy_metadata else own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3: answer a request for one of `paths`."""
        answer = self.answer(scope["path"], scope["method"], dict(scope["headers"]))
        if answer is None:
            return await send_json(send, 404, b'{"error":"not found"}', [])
        await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers]})
        await send({"type": "http.response.body", "body": answer.body})

    def answer(self, path: str, method: str, headers: Mapping[bytes, bytes]) -> MetadataAnswer | None:
        """The answer to a request for one of `paths`; None where there is no such document (now)."""
        asked_for = headers.get(b"access-control-request-headers", b"")
        metadata = self.auth.metadata
        if metadata is not None and path in metadata.paths:
            return metadata.answer(method, asked_for)
        copy = self.auth.legacy_document if path == ISSUER_METADATA else None
        return None if copy is None else public_document(copy, method, asked_for)

    @asynccontextmanager
    async def running(self, life: LifeCycle) -> AsyncIterator[None]:
        """Keep the keys fresh for the length of the block, which begins after the first attempt to fetch them, or after a second.

        The node is not ready before there are keys. Raises AuthConfigurationError, by itself, when the authorization server
        contradicts the configuration.
        """
        try:
            async with trio.open_nursery() as nursery:
                tried = trio.Event()
                nursery.start_soon(self._keep_keys, tried)
                with trio.move_on_after(FIRST_ATTEMPT_SECONDS):
                    await tried.wait()
                if not self.auth.ready:
                    life.waits_for.add(KEYS)
                    nursery.start_soon(self._settle, life)
                yield
                nursery.cancel_scope.cancel("the server stops")
        except BaseExceptionGroup as group:
            faults = [leaf for leaf in leaves(group) if isinstance(leaf, AuthConfigurationError)]
            if faults and len(faults) == len(list(leaves(group))):
                raise faults[0] from None
            raise

    async def _keep_keys(self, tried: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.auth.run)
            tried.set()

    async def _settle(self, life: LifeCycle) -> None:
        await self.auth.wait_ready()
        life.settled(KEYS)


def authorization_of(judge: object, metrics: Metrics, resource: str | None, proxies: Proxies) -> Authorization | None:
    """The authorization of an app by `judge`; None where it is a function. `resource` and `proxies` are as for `Authorization`."""
    if not isinstance(judge, BearerAuth):
        return None
    return Authorization(judge, AuthMetrics(metrics.registry), resource=resource, proxies=proxies)


def _allowed(judgement: Judgement) -> Allowed:
    match judgement:
        case Allowed():
            return judgement
        case Refused():
            raise refusal_of(judgement)
        case Unavailable():
            raise cannot_authenticate(judgement.why[:256], [*judgement.headers])


def refusal_of(refused: Refused) -> HttpRefusal:
    """The response for a judgement: its status, challenge and reason."""
    told: dict[str, Any] = dict(refused.log_fields)
    return HttpRefusal(
        refused.status,
        refused.description,
        [*refused.headers],
        reason=refused.reason.value,
        data=refused.data or None,
        **told,
    )
