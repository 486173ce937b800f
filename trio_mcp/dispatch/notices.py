"""Notifications of clients to extensions: one task of a running service takes them, one after the other.

A reply that nobody waits for is noted here as well.

They come in order, wait in a bounded queue, and belong to no request: their functions can neither send nor ask anything.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

import trio

from trio_mcp.auth.principal import Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.dispatch.call import Call, Client, Service
from trio_mcp.dispatch.nowhere import Nowhere
from trio_mcp.dispatch.session import Conversation
from trio_mcp.dispatch.user_code import labels, report, user_code
from trio_mcp.observability.logs import event
from trio_mcp.protocol.envelope import read_envelope
from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.jsonrpc import Notification, encode
from trio_mcp.protocol.versions import MODERN_VERSIONS

__all__ = [
    "FUNCTION_SECONDS",
    "MAX_WAITING",
    "MAX_WAITING_BYTES",
    "Notices",
    "notice_in_session",
    "notice_of_modern",
    "reply_to_nothing",
]

logger: logging.Logger = logging.getLogger("trio_mcp.dispatch")

MAX_WAITING = 1_000
"""Notifications that wait for their functions; later ones are dropped. Clients send a few, and none has to arrive."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Of their params as JSON. One more is taken as long as there are fewer: each may be as large as a body."""

FUNCTION_SECONDS = 30.0
"""How long one function may take: all the others wait for it."""


class Notices:
    """The queue and its task; `take` is `Service.take_notice` while `run` runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: deque[tuple[Call, int]] = deque()
        """With the size of their params."""
        self._bytes = 0
        self._arrived = trio.Event()
        self._full = False

    def take(self, call: Call) -> None:
        """Queue a notification; drops it, with one line in the log until there is room again, where too many wait."""
        if len(self._waiting) < MAX_WAITING and self._bytes < MAX_WAITING_BYTES:
            size = len(encode(call.params))
            self._waiting.append((call, size))
            self._bytes += size
            self._arrived.set()
        elif not self._full:
            self._full = True
            event(logger, logging.WARNING, "notifications dropped", method=call.method, **labels(call))

    async def run(self) -> None:
        """Take what waits, for ever."""
        self._service.take_notice = self.take
        try:
            while True:
                await self._arrived.wait()
                while self._waiting:
                    call, size = self._waiting.popleft()
                    self._bytes -= size
                    await self._run_functions(call)
                self._full, self._arrived = False, trio.Event()
        finally:
            self._service.take_notice = None

    async def _run_functions(self, call: Call) -> None:
        for extension in self._service.extensions.values():
            if extension.takes_notification(call.method, call.version):
                try:
                    with trio.fail_after(FUNCTION_SECONDS), user_code():
                        await extension.notified(call)
                except Exception as crash:  # the boundary of these functions: logged, and nobody waits for an answer
                    report(logger, "notification failed", crash, method=call.method, **labels(call))


def notice_in_session(
    service: Service, message: Notification, session: Conversation, version: str, principal: Principal, client: Client
) -> None:
    """Take a notification of a session's client, if an extension has a function for it; never blocks."""
    _take(service, message, version, principal, client, session=session)


def notice_of_modern(
    service: Service,
    message: Notification,
    principal: Principal,
    headers: Mapping[bytes, bytes] | None = None,
    token: AccessToken | None = None,
) -> None:
    """Take a notification of 2026-07-28, if an extension has a function for it; never blocks. One without `_meta` is ignored."""
    if service.take_notice is None:
        return
    try:
        envelope = read_envelope(message.params)
    except InvalidParams:
        return
    if envelope.version in MODERN_VERSIONS:
        client = Client(envelope.client_info, envelope.capabilities)
        _take(service, message, envelope.version, principal, client, headers=headers, token=token)


def reply_to_nothing(session: str | None = None) -> None:
    """Note a reply of a client that nobody waits for; JSON-RPC has no answer to one. `session` is the short form of its id."""
    event(logger, logging.DEBUG, "reply that nobody waits for", session=session)


def _take(
    service: Service, message: Notification, version: str, principal: Principal, client: Client, **more: Any
) -> None:
    wanted = any(each.takes_notification(message.method, version) for each in service.extensions.values())
    if service.take_notice is not None and wanted:
        call = Call(service, "", message.method, message.params, version, principal, client, _NOWHERE, **more)
        call.finished = True
        service.take_notice(call)


_NOWHERE = Nowhere()
