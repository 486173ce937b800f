"""A peer's response, from bytes: what its head says, where its body ends, and what makes one unacceptable.

bytes ─▶ ResponseParser ─┬─ 1xx ────────────▶ passed over
                         ├─ the final head ─▶ ResponseHead
                         └─ the body ───────▶ pieces, and whether it has ended: by its length, by its last chunk, by the connection's end

Heads and chunks are parsed by httptools (llhttp, no leniency on), which refuses bare LF and CR, folded headers, white space before a
colon, control characters, a Content-Length that is repeated or malformed, and sizes of chunks that are no numbers. What it lets pass and
we do not: other versions than HTTP/1.0 and HTTP/1.1, lines in front of the status line, statuses below 100, a 101, which is never asked for,
and transfer codings other than `chunked`. h11 is the oracle of the tests: what it refuses is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from enum import Enum

import httptools
import msgspec

from trio_mcp.cluster.peer.headers import Fields, response_fields
from trio_mcp.cluster.peer.outcomes import Broken, OwnerLost

__all__ = [
    "WHOLE_BODY_BYTES",
    "Response",
    "ResponseHead",
    "ResponseParser",
    "WholeResponse",
    "read_whole",
    "whole_fields",
]

HEAD_BYTES = 64 * 1024
"""Of all heads together, informational ones included; and of chunk extensions and trailers that come without a byte of the body."""
WHOLE_BODY_BYTES = 64 * 1024
"""A body of known length up to this one is read as a whole: head and body then leave in one write."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_HEAD_END = b"\r\n\r\n"
_LENGTH_LINES = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,20})[ \t]*(?=\r\n)", re.IGNORECASE)
_NO_BODY = (204, 304)
"""Whatever length they tell (RFC 9112 §6.3)."""
_LISTS = (b"connection", b"transfer-encoding")
"""Several of these are one, with commas between (RFC 9110 §5.3)."""
_NO_CALLBACKS = object()
_MISDIRECTED = b"trio-mcp-misdirected"
_PROCESS = re.compile(rb"[A-Za-z0-9-]{1,63}\.[A-Za-z0-9-]{0,64}")


class ResponseHead(msgspec.Struct, frozen=True):
    """Status and headers of a final response."""

    status: int
    fields: Fields
    """The header fields as they go to the client."""
    is_event_stream: bool
    is_short: bool
    """The body has a known length of `WHOLE_BODY_BYTES` at most."""
    misdirected: bytes | None
    """`node.boot` of the peer that does not have the session; None unless this is the 421 of a peer."""


class WholeResponse(msgspec.Struct, frozen=True):
    """A response as it is sent at once."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    """Those of `whole_fields`."""
    body: bytes


class _Familiar(msgspec.Struct, frozen=True):
    """What the heads say that are equal but for the Content-Length at their end, as those of most answers in one second are."""

    status: int
    fields: Fields
    """Without the length."""
    whole_fields: tuple[tuple[bytes, bytes], ...]
    is_event_stream: bool
    keep_alive: bool


_LAST_LENGTH = b"\r\ncontent-length: "
_MOST_DIGITS = 18
_MOST_FAMILIAR = 64
_familiar: dict[bytes, _Familiar] = {}
"""By the bytes in front of the length. A head that is looked up here has been accepted with another length."""


_OF_CARRIER = (b"content-length", b"date")
"""What a whole response gets from the server that sends it to the client."""


def whole_fields(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a response that is sent as a whole, without those that it gets from the server that sends it."""
    return tuple([field for field in fields if field[0] not in _OF_CARRIER])


def read_whole(method: str, data: bytes) -> WholeResponse | None:
    """What `data` is if it is one response as a whole, whose head is known by heart, and that leaves its connection usable.

    None for anything else, which is for `Response` to read.
    """
    end = data.find(_HEAD_END)
    front, _, digits = data[:end].rpartition(_LAST_LENGTH)
    familiar = _familiar.get(front)
    if familiar is None or end < 0 or familiar.is_event_stream or not familiar.keep_alive or method == "HEAD":
        return None
    body = data[end + len(_HEAD_END) :]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS or int(digits) != len(body):
        return None
    return WholeResponse(familiar.status, familiar.whole_fields, body)


class _Ends(Enum):
    """Where a body ends."""

    BY_LENGTH = "after so many bytes"
    BY_CHUNK = "with its last chunk"
    BY_CLOSE = "with the connection"


class ResponseParser:
    """Reads the response to one request; sans I/O. `method` is the request's."""

    __slots__ = (
        "_barren",
        "_chunks",
        "_ended",
        "_ends",
        "_head",
        "_held",
        "_keep_alive",
        "_left",
        "_method",
        "_passed",
        "_pieces",
        "_tail",
        "_trailing",
    )

    def __init__(self, method: str) -> None:
        self._method = method
        self._held = b""
        """The bytes of a head that is not whole yet."""
        self._passed = 0
        """Bytes of informational heads."""
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._ended = False
        self._trailing = False
        """Something follows the response: more bytes, or the connection's end."""

    def take(self, data: bytes) -> None:
        """What was received; empty when no more will come. Raises OwnerLost for what is no response, or an incomplete one."""
        if self._ended:
            self._trailing = True
        elif not data:
            self._take_end()
        elif self._head is None:
            self._take_head(data)
        else:
            self._take_body(data)

    def head(self) -> ResponseHead | None:
        """The head of the final response, once it is whole."""
        return self._head

    def body(self) -> tuple[bytes, bool]:
        """What has come of the body since this was asked last, and whether that is its end."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), self._ended

    @property
    def leaves_connection_usable(self) -> bool:
        """The response is complete, nothing follows it, and the peer did not announce its end."""
        return self._ended and self._keep_alive and not self._trailing

    def _take_end(self) -> None:
        self._trailing = True
        if self._head is None or self._ends is not _Ends.BY_CLOSE:
            raise _incomplete("the connection ended")
        self._ended = True

    def _take_head(self, data: bytes) -> None:
        """Heads arrive whole but for a few, so that one is searched anew with each piece: bounded, and in C."""
        if self._held:
            data = self._held + data
        while (end := data.find(_HEAD_END)) >= 0:
            size = end + len(_HEAD_END)
            if self._passed + size > HEAD_BYTES:
                break
            head, data = data[:size], data[size:]
            if self._read_head(head):
                self._held = b""
                return self._begin_body(data)
            self._passed += size
        if self._passed + len(data) > HEAD_BYTES:
            raise _incomplete(f"a head over {HEAD_BYTES} bytes")
        self._held = data

    def _read_head(self, head: bytes) -> bool:
        """Whether it is that of the final response."""
        front, _, length = head.rpartition(_LAST_LENGTH)
        familiar = _familiar.get(front)
        digits = length.removesuffix(_HEAD_END)
        if familiar is None or not digits.isdigit() or len(digits) > _MOST_DIGITS or self._method == "HEAD":
            return self._parse_head(head, front if digits.isdigit() else b"")
        self._ends, self._left, self._keep_alive = _Ends.BY_LENGTH, int(digits), familiar.keep_alive
        fields = [*familiar.fields, (b"content-length", digits)]
        is_short = self._left <= WHOLE_BODY_BYTES
        self._head = ResponseHead(familiar.status, fields, familiar.is_event_stream, is_short, None)
        return True

    def _parse_head(self, head: bytes, front: bytes) -> bool:
        """`front` is what it has before the digits at its end, if they are those of its Content-Length; else empty."""
        line = _STATUS_LINE.match(head)
        status = 0 if line is None else int(line[2])
        if line is None or status < 100 or status == 101:
            raise _incomplete("no status line of a response")
        head = _validated(head)
        if status < 200:
            return False
        fields = [
            (name.lower(), value.strip(b" \t"))
            for name, _, value in [
                each.partition(b":") for each in head[line.end() : -len(_HEAD_END)].split(b"\r\n") if each
            ]
        ]
        told = dict(fields)
        if len(told) != len(fields):
            for each in _LISTS:
                if each in told:
                    told[each] = b",".join([value for name, value in fields if name == each])
        self._keep_alive = line[1] == b"1" and (
            b"connection" not in told or b"close" not in _options(told[b"connection"])
        )
        length = told.get(b"content-length")
        self._find_end(status, told, head)
        misdirected = told.get(_MISDIRECTED, b"") if status == 421 else b""
        self._head = ResponseHead(
            status,
            response_fields(fields, told),
            told.get(b"content-type", b"").lower().startswith(b"text/event-stream"),
            length is not None and int(length) <= WHOLE_BODY_BYTES,
            misdirected if _PROCESS.fullmatch(misdirected) else None,
        )
        self._remember(front)
        return True

    def _remember(self, front: bytes) -> None:
        """Know the head by heart from now on, if it is one whose body has the length at its end."""
        head = self._head
        assert head is not None
        plain = self._ends is _Ends.BY_LENGTH and head.status not in (*_NO_BODY, 421)
        if front and plain and head.fields[-1][0] == b"content-length":
            if len(_familiar) >= _MOST_FAMILIAR:
                _familiar.clear()
            whole = whole_fields(head.fields)
            _familiar[front] = _Familiar(head.status, head.fields[:-1], whole, head.is_event_stream, self._keep_alive)

    def _find_end(self, status: int, told: dict[bytes, bytes], head: bytes) -> None:
        """RFC 9112 §6.3. Raises OwnerLost for a transfer coding that is not known."""
        coding, length = told.get(b"transfer-encoding"), told.get(b"content-length")
        if coding is not None and coding.lower() != b"chunked":
            raise _incomplete("a transfer coding other than chunked")
        self._left = 0
        if self._method == "HEAD" or status in _NO_BODY:
            self._ends = _Ends.BY_LENGTH
        elif coding is not None:
            self._ends = _Ends.BY_CHUNK
            self._barren, self._tail = 0, b""
            self._chunks = httptools.HttpResponseParser(self)
            self._chunks.feed_data(head)
        elif length is not None:
            self._ends, self._left = _Ends.BY_LENGTH, int(length)
        else:
            self._ends = _Ends.BY_CLOSE

    def _begin_body(self, rest: bytes) -> None:
        if self._ends is _Ends.BY_LENGTH and not self._left:
            self._ended = True
        if rest:
            self.take(rest)

    def _take_body(self, data: bytes) -> None:
        match self._ends:
            case _Ends.BY_LENGTH:
                self._pieces.append(data[: self._left])
                self._trailing = len(data) > self._left
                self._left -= len(self._pieces[-1])
                self._ended = not self._left
            case _Ends.BY_CHUNK:
                self._take_chunks(data)
            case _Ends.BY_CLOSE:
                self._pieces.append(data)

    def _take_chunks(self, data: bytes) -> None:
        self._barren += len(data)
        self._tail = (self._tail + data)[-len(_HEAD_END) - 1 :]
        try:
            self._chunks.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._ended:
                raise _incomplete(str(error)) from None
            self._trailing = True
        if self._ended:
            # httptools passes over line breaks after the last chunk, and does not say where that ended.
            self._trailing |= not self._tail.endswith(_HEAD_END) or self._tail[0] in b"\r\n"
            del self._chunks
        elif self._barren > HEAD_BYTES:
            raise _incomplete(f"over {HEAD_BYTES} bytes between two of the body")

    # httptools calls these.

    def on_body(self, data: bytes) -> None:
        """A piece of a chunked body; not one of what follows the response."""
        if not self._ended:
            self._pieces.append(data)
            self._barren = 0

    def on_message_begin(self) -> None:
        """A second one follows the response."""
        self._trailing = self._ended

    def on_message_complete(self) -> None:
        """The last chunk; a head alone may be a message, too."""
        self._ended = self._ended or self._head is not None


def _validated(head: bytes) -> bytes:
    """The head, once httptools has accepted it; raises OwnerLost. Without its Content-Length, if there is Transfer-Encoding, too.

    That is to be ignored then (RFC 9112 §6.3), but httptools refuses a head with both.
    """
    try:
        httptools.HttpResponseParser(_NO_CALLBACKS).feed_data(head)
    except httptools.HttpParserError as error:
        lengths, shortened = _LENGTH_LINES.findall(head), _LENGTH_LINES.sub(b"", head)
        if len(set(lengths)) != 1 or b"\r\ntransfer-encoding:" not in shortened.lower():
            raise _incomplete(str(error)) from None
        return _validated(shortened)
    return head


def _options(connection: bytes) -> list[bytes]:
    return [each.strip(b" \t") for each in connection.lower().split(b",")]


def _incomplete(why: str) -> OwnerLost:
    return OwnerLost(Broken(), f"no complete HTTP response: {why}")


class Response(ResponseParser):
    """Reads the response to one request of `method` from `receive`; every async method raises OwnerLost."""

    __slots__ = ("_receive",)

    def __init__(self, method: str, receive: Callable[[], Awaitable[bytes]]) -> None:
        super().__init__(method)
        self._receive = receive

    async def wait_head(self) -> ResponseHead:
        """Wait for the head."""
        while self._head is None:
            self.take(await self._receive())
        return self._head

    async def more(self) -> tuple[bytes, bool]:
        """Wait for the next bytes of the body; they, and whether it has ended (see `body`)."""
        while True:
            self.take(await self._receive())
            body, ended = self.body()
            if body or ended:
                return body, ended

    async def whole(self, limit: int) -> bytes:
        """Wait for the whole body; raises OwnerLost for one over `limit` bytes, which is not read."""
        body, ended = self.body()
        while not ended and len(body) <= limit:
            more, ended = await self.more()
            body += more
        if len(body) > limit:
            raise OwnerLost(Broken(), f"a body over {limit} bytes where none was expected")
        return body
