"""What a handler knows of its request: who sent it, in which version, with which token and headers, and what its client can do."""

from __future__ import annotations

from typing import Any

from trio_mcp.auth.principal import Principal
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.dispatch.call import Call
from trio_mcp.dispatch.session import Session
from trio_mcp.features.injection import HandlerContext
from trio_mcp.protocol.errors import MissingClientCapability
from trio_mcp.protocol.headers import Headers
from trio_mcp.protocol.jsonrpc import RequestId
from trio_mcp.streams.loop import Loop

__all__ = ["RequestView"]


class RequestView(HandlerContext):
    """The part of `Context` that only tells: nothing here is sent or awaited."""

    def __init__(self, call: Call) -> None:
        """Made by the server for each call."""
        self._call = call

    @property
    def _loop(self) -> Loop:
        return self._call.service.loop

    @property
    def request_id(self) -> RequestId:
        """The JSON-RPC id: a string or an integer, as the client sent it."""
        return self._call.request_id

    @property
    def protocol_version(self) -> str:
        """The protocol version of this request, such as "2025-11-25"."""
        return self._call.version

    @property
    def principal(self) -> Principal:
        """Who is asking, as this HTTP request proved it; `ANONYMOUS` without authentication and on stdio."""
        return self._call.principal

    @property
    def client_info(self) -> dict[str, Any]:
        """The client's Implementation, `{}` when it did not say. Not verified: decide nothing by it."""
        return self._call.client.info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        """The client's ClientCapabilities; `supports` asks for one of them."""
        return self._call.client.capabilities

    @property
    def headers(self) -> Headers | None:
        """The HTTP request's headers, by name in upper or lower case; of a repeated one the last. None on stdio, and in a task.

        A verified access token is masked (`Bearer ***`): `ctx.token.token` is the way to it.
        """
        return self._call.shown_headers

    @property
    def task_id(self) -> str | None:
        """The id of the task that this call has become (SEP-2663); None for a call that its request waits for."""
        return self._call.task_id

    @property
    def token(self) -> AccessToken | None:
        """The access token of this HTTP request, verified; None without authorization by tokens, and on stdio."""
        return self._call.token

    @property
    def session(self) -> Session | None:
        """The session the request belongs to (up to 2025-11-25); None on 2026-07-28, which has none."""
        return None if self._call.session is None else self._call.session.user_session

    @property
    def session_id(self) -> str | None:
        """`ctx.session.id`; None on 2026-07-28."""
        return None if self._call.session is None else self._call.session.id

    @property
    def meta(self) -> dict[str, Any]:
        """The request's `_meta`: `traceparent`, `progressToken` and whatever else its client sent; {} without one."""
        meta = self._call.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    def supports(self, capability: str, detail: str | None = None) -> bool:
        """Whether the client declared a capability, and in it `detail`, as in `supports("elicitation", "url")`."""
        declared = self.client_capabilities.get(capability)
        return isinstance(declared, dict) and (detail is None or declared.get(detail) is not None)

    def client_supports_extension(self, identifier: str) -> bool:
        """Whether the client declared an extension of MCP (SEP-2133), such as `io.modelcontextprotocol/ui`.

        On 2026-07-28 it says so in each request, in a session at `initialize`.
        """
        return self._call.client_extension(identifier) is not None

    def client_extension(self, identifier: str) -> dict[str, Any] | None:
        """The settings with which the client declared an extension, {} where it gave none; None where it did not declare it."""
        return self._call.client_extension(identifier)

    def require_extension(self, identifier: str) -> None:
        """Raise MissingClientCapability unless the client declared an extension: on 2026-07-28 the error -32021, which names it."""
        if self._call.client_extension(identifier) is None:
            raise MissingClientCapability({"extensions": {identifier: {}}})

    def extension_state(self, identifier: str) -> Any:
        """What the `running` of an extension of the server has yielded; None without one."""
        return self._call.service.extension_state.get(identifier)
