"""The official SDK's wire types as the judge of everything a server says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import methods
from mcp_types.jsonrpc import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

__all__ = ["Oracle"]


EXTENSIONS = ("echo", "glossary/", "skills/", "resources/directory/")
"""How methods and notifications of extensions begin: the official types do not know them, so their JSON-RPC alone is judged."""


class Oracle:
    """One client's view of a server, in one protocol version: remembers what it asked, judges what it hears."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._asked: dict[int | str, str] = {}
        self._events: dict[str, str] = {}

    def asked(self, id: int | str, method: str) -> None:
        """A request goes out; its answer will be judged by its method."""
        self._asked[id] = method

    def heard(self, message: Any) -> Any:
        """Judge one message, or every element of a batch; returns it."""
        if isinstance(message, list):
            assert self.version == "2025-03-26", "only 2025-03-26 has batches"
            return [self.heard(element) for element in message]
        assert message["jsonrpc"] == "2.0"
        if "method" in message:
            self._said(message)
        elif "result" in message:
            self._result(message)
        else:
            self._error(message)
        return message

    def event(self, id: str, data: str) -> None:
        """An event id stands for one event in the whole session; a replay repeats both."""
        assert self._events.setdefault(id, data) == data, f"two events have the id {id}"

    def _said(self, message: dict[str, Any]) -> None:
        params = message.get("params")
        if "id" in message:
            JSONRPCRequest.model_validate(message)
            methods.parse_server_request(message["method"], self.version, params)
        else:
            JSONRPCNotification.model_validate(message)
            if message["method"].removeprefix("notifications/").startswith(EXTENSIONS):
                return
            methods.parse_server_notification(message["method"], self.version, params)

    def _result(self, message: dict[str, Any]) -> None:
        JSONRPCResponse.model_validate(message)
        method, result = self._asked[message["id"]], message["result"]
        if method.startswith(EXTENSIONS):
            return
        dumped = methods.serialize_server_result(method, self.version, result)
        unknown = _unknown(result, dumped)
        if method == "initialize":
            # SEP-2133 is younger than these versions; a client that knows it looks for them, others ignore the member.
            unknown = [path for path in unknown if path != ".capabilities.extensions"]
        assert not unknown, f"{self.version} does not know {unknown} in the result of {method}"

    def _error(self, message: dict[str, Any]) -> None:
        # The SDK's type wants an id or null; the schemas of the specification want an id or none.
        JSONRPCError.model_validate({"id": None, **message})
        assert set(message) <= {"jsonrpc", "id", "error"}
        assert message.get("id", 0) is not None, "an id that cannot be read is left out, null is no id"
        assert type(message["error"]["code"]) is int
        assert message["error"]["message"]


def _unknown(said: Any, known: Any, path: str = "") -> list[str]:
    """Members the wire types dropped, for they do not know them."""
    if isinstance(said, Mapping) and isinstance(known, Mapping):
        lost = [f"{path}.{name}" for name in said if name not in known and said[name] is not None]
        return lost + [
            hit for name in known.keys() & said for hit in _unknown(said[name], known[name], f"{path}.{name}")
        ]
    if isinstance(said, list) and isinstance(known, list):
        return [
            hit for at, pair in enumerate(zip(said, known, strict=True)) for hit in _unknown(*pair, f"{path}[{at}]")
        ]
    return []
