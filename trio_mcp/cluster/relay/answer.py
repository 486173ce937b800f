"""A peer's response, from bytes; sans I/O, and the only user of h11."""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11

from trio_mcp.cluster.relay.forwarding import Fields, response_fields
from trio_mcp.cluster.relay.outcomes import Broken, OwnerLost

__all__ = ["HELD_BACK_BYTES", "Answer", "AnswerHead"]

HEAD_BYTES = 64 * 1024
"""Of status line and headers together, and of anything else that has to be here as a whole before it says something."""
HELD_BACK_BYTES = 64 * 1024
"""A body of known length up to this one is read as a whole: head and body then leave in one write."""
_MISDIRECTED = b"trio-mcp-misdirected"
_PROCESS = re.compile(rb"[A-Za-z0-9-]{1,63}\.[A-Za-z0-9-]{0,64}")


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and headers of a final response."""

    status: int
    fields: Fields
    """As they go to the client."""
    is_event_stream: bool
    is_short: bool
    """Its body has a length that is known and worth waiting for."""
    misdirected: bytes | None
    """`node.boot` of the peer that does not have the session."""


class Answer:
    """Reads the response to one request of `method`."""

    __slots__ = ("_parser",)

    def __init__(self, method: str) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        # h11 reads a response in the light of a request. It need not be the very one: of that, only the method counts.
        self._parser.send(_REQUESTS.get(method) or _request(method))
        self._parser.send(_END)

    def take(self, data: bytes) -> None:
        """What was received; empty when no more will come."""
        self._parser.receive_data(data)

    def head(self) -> AnswerHead | None:
        """The head once it is whole; informational ones before it are passed over. Raises OwnerLost."""
        while True:
            event = self._next()
            if isinstance(event, h11.Response):
                return _head(event)
            if event is h11.NEED_DATA:
                return None

    def body(self) -> tuple[bytes, bool]:
        """What there is of the body after the head, and whether that was all; raises OwnerLost."""
        pieces: list[bytes] = []
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif event is h11.NEED_DATA or isinstance(event, h11.EndOfMessage):
                return b"".join(pieces), event is not h11.NEED_DATA

    @property
    def leaves_connection_usable(self) -> bool:
        """The response is complete, nothing follows it, and the peer did not announce its end."""
        return self._parser.their_state is h11.DONE and self._parser.trailing_data == (b"", False)

    def _next(self) -> object:
        try:
            return self._parser.next_event()
        except h11.RemoteProtocolError as error:
            raise OwnerLost(Broken(), f"no complete HTTP response: {error}") from None


def _request(method: str) -> h11.Request:
    return h11.Request(method=method, target="/", headers=[("host", "")])


_REQUESTS = {method: _request(method) for method in ("POST", "GET", "DELETE", "HEAD")}
_END = h11.EndOfMessage()


def _head(response: h11.Response) -> AnswerHead:
    fields = list(response.headers)
    told = dict(fields)
    length = told.get(b"content-length")
    misdirected = told.get(_MISDIRECTED, b"") if response.status_code == 421 else b""
    return AnswerHead(
        status=response.status_code,
        fields=response_fields(fields),
        is_event_stream=told.get(b"content-type", b"").lower().startswith(b"text/event-stream"),
        is_short=length is not None and int(length) <= HELD_BACK_BYTES,
        misdirected=misdirected if _PROCESS.fullmatch(misdirected) else None,
    )
