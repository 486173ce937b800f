"""Reads request heads with httptools, and refuses those that must not be served.

httptools (llhttp without leniency) refuses bare LF and CR, folded headers, white space before a colon, control
characters, and a Content-Length that is repeated, malformed or beside Transfer-Encoding. It accepts, and this module refuses or
strips: HTTP/0.9, HTTP/2.0, RTSP and ICE request lines, extra spaces and lines in front, white space after values, transfer
codings before `chunked`, Transfer-Encoding on HTTP/1.0, a missing or repeated Host, a target that disagrees with Host.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

import httptools
import msgspec
from msgspec.structs import replace

from trio_mcp.transports.request_head import RequestHead, with_length

__all__ = ["Head", "HeadReader", "Refusal"]

_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/([0-9]\.[0-9])\r\n")
_VERSIONS = {b"1.1": "1.1", b"1.0": "1.0"}
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_LENGTH_DIGITS = 9
"""More than any body may have: a longer number is left to the parser."""
_LIST_SEPARATOR = re.compile(rb"[ \t]*,[ \t]*")
_STATUSES = {
    "Invalid HTTP version": HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    "Request has invalid `Transfer-Encoding`": HTTPStatus.NOT_IMPLEMENTED,
}
"""By the text of an httptools error; every other one is a 400."""


class Refusal(Exception):
    """The request gets `status` with `reason` as its text, and the connection closes."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Head(msgspec.Struct, eq=False):
    """A request's line and headers; names are lower case, values without the white space around them."""

    raw: bytes
    """The bytes it was read from, including the empty line."""
    method: str
    target: bytes
    """Path and query; `*` of OPTIONS."""
    path: str
    """Decoded."""
    http_version: str
    headers: list[tuple[bytes, bytes]]
    content_length: int
    chunked: bool
    expects_continue: bool
    keep_alive: bool
    asks_for_websocket: bool
    """Whether it is a WebSocket handshake, well-formed or not."""
    known: RequestHead | None = None
    """What the endpoint is told of it, kept for the next request with an equal head; None before that, and for other paths."""
    _around: tuple[bytes, bytes] | None = None
    """What `raw` has before and behind the digits of its Content-Length, once `again` has looked; (`raw`, b"") without one."""

    def again(self, data: bytes) -> Head | None:
        """The head that `data` begins with, if it is this one, or differs in nothing but the length of the body; None for any other.

        The requests of one client hardly ever differ in more, and to compare bytes costs less than to parse them.
        """
        if data.startswith(self.raw):
            return self
        if self._around is None:
            self._around = _around_length(self.raw)
        before, behind = self._around
        if not behind or not data.startswith(before):
            return None
        end = data.find(b"\r", len(before), len(before) + _LENGTH_DIGITS + 1)
        digits = data[len(before) : end]
        if end < 0 or not digits.isdigit() or not data.startswith(behind, end):
            return None
        return self._with_length(data[: end + len(behind)], digits)

    def _with_length(self, raw: bytes, digits: bytes) -> Head:
        headers, known = with_length(self.headers, digits), self.known
        if known is not None:
            known = known.with_content_length(digits, headers if known.fields is self.headers else None)
        return replace(self, raw=raw, headers=headers, content_length=int(digits), known=known)


def _around_length(raw: bytes) -> tuple[bytes, bytes]:
    # A head that was read has at most one, and a value has no line break that could hide another.
    found = _LENGTH.search(raw)
    return (raw, b"") if found is None else (raw[: found.start(1)], raw[found.end(1) :])


class Parts:
    """What httptools finds in a head, from which `settle` makes it."""

    __slots__ = (
        "_chunked",
        "_close",
        "_content_length",
        "_expects_continue",
        "_headers",
        "_host",
        "_http_version",
        "_keep",
        "_refusal",
        "_target",
        "_upgrade",
        "_websocket",
        "method",
    )

    def __init__(self) -> None:
        self.method: str = ""
        """Empty until the first line is read."""
        self._target: bytes = b""
        self._http_version: str = ""
        self._headers: list[tuple[bytes, bytes]] = []
        self._host: bytes | None = None
        self._content_length: int = 0
        self._chunked: bool = False
        self._expects_continue: bool = False
        self._upgrade: bool = False
        self._websocket = False
        self._close = False
        self._keep = False
        self._refusal: Refusal | None = None

    def read_line(self, data: bytes) -> None:
        """Take method, target and version from the first line of `data`; raises Refusal."""
        line = _REQUEST_LINE.match(data)
        if line is None:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid request line")
        method, self._target, version = line.groups()
        if version not in _VERSIONS:
            # A client that starts HTTP/2 unasked reads the answer to its preface as any other bad request's.
            status = HTTPStatus.BAD_REQUEST if method == b"PRI" else HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
            raise Refusal(status, "Only HTTP/1.1 and HTTP/1.0 are served")
        if method == b"CONNECT":
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not served")
        self.method = method.decode()
        self._http_version = _VERSIONS[version]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools. It must not raise, so a fault is noted, and raised by `settle`."""
        name = name.lower()
        value = value.rstrip(b" \t")
        self._headers.append((name, value))
        if name in _NOTES:
            _NOTES[name](self, value)

    def settle(self, raw: bytes) -> Head:
        """The head, now that it is complete; raises Refusal when it must not be served."""
        keep_alive = self._settle_version()
        if not self._target.startswith(b"/") or b"#" in self._target:
            self._settle_target()
        if self._refusal is not None:
            raise self._refusal
        path = self._target.partition(b"?")[0].decode("ascii")
        return Head(
            raw,
            self.method,
            self._target,
            unquote(path) if "%" in path else path,
            self._http_version,
            self._headers,
            self._content_length,
            self._chunked,
            self._expects_continue,
            keep_alive,
            self._upgrade and self._websocket,
        )

    def _settle_version(self) -> bool:
        """What the version demands; whether the connection may be kept."""
        if self._http_version == "1.1":
            if self._host is None:
                self._refuse(HTTPStatus.BAD_REQUEST, "A Host header is required")
            return not self._close
        self._expects_continue = False
        if self._chunked:
            self._refuse(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding")
        return self._keep and not self._close

    def _settle_target(self) -> None:
        """Make the target origin-form for the app. Absolute-form must name the same host as Host, which the app relies on."""
        if self._target == b"*" and self.method == "OPTIONS":
            return
        scheme, separator, rest = self._target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if not separator or scheme.lower() not in (b"http", b"https") or b"#" in self._target:
            self._refuse(HTTPStatus.BAD_REQUEST, "Invalid request target")
        elif not authority or authority.lower() != (self._host or b"").lower():
            self._refuse(HTTPStatus.BAD_REQUEST, "The request target disagrees with the Host header")
        self._target = slash + path or b"/"

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        if self._refusal is None:
            self._refusal = Refusal(status, reason)

    def _note_host(self, value: bytes) -> None:
        if self._host is not None:
            self._refuse(HTTPStatus.BAD_REQUEST, "More than one Host header")
        elif not _HOST.fullmatch(value):
            self._refuse(HTTPStatus.BAD_REQUEST, "Invalid Host header")
        self._host = value

    def _note_content_length(self, value: bytes) -> None:
        # llhttp has checked that these are digits and that the header stands alone.
        self._content_length = int(value)

    def _note_transfer_encoding(self, value: bytes) -> None:
        if value.lower() != b"chunked":
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "The only transfer coding served is chunked")
        self._chunked = True

    def _note_connection(self, value: bytes) -> None:
        options = _LIST_SEPARATOR.split(value.lower())
        self._close = self._close or b"close" in options
        self._keep = self._keep or b"keep-alive" in options
        self._upgrade = self._upgrade or b"upgrade" in options

    def _note_upgrade(self, value: bytes) -> None:
        self._websocket = self._websocket or b"websocket" in _LIST_SEPARATOR.split(value.lower())

    def _note_expect(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            self._refuse(HTTPStatus.EXPECTATION_FAILED, "The only expectation served is 100-continue")
        self._expects_continue = True


_NOTES: dict[bytes, Callable[[Parts, bytes], None]] = {
    b"host": Parts._note_host,
    b"content-length": Parts._note_content_length,
    b"transfer-encoding": Parts._note_transfer_encoding,
    b"connection": Parts._note_connection,
    b"expect": Parts._note_expect,
    b"upgrade": Parts._note_upgrade,
}


class HeadReader:
    """Reads one head. httptools gets no byte beyond it: where a message ends is decided here and in `body` alone."""

    __slots__ = ("_fed", "_limit", "_parser", "_parts", "_seen", "rest")

    def __init__(self, limit: int) -> None:
        self.rest: bytes = b""
        self._limit = limit
        self._parts = Parts()
        self._parser = httptools.HttpRequestParser(self._parts)
        self._seen = b""
        self._fed = 0

    @property
    def started(self) -> bool:
        """Whether part of a request has come, beyond an empty line."""
        return bool(self._seen)

    def feed(self, data: bytes) -> Head | None:
        """The head once it is complete, with what follows it in `rest`; raises Refusal as soon as a byte is wrong."""
        searched = max(len(self._seen) - 3, 0)
        seen = self._seen + data if self._seen else data
        # "a server … SHOULD ignore at least one empty line (CRLF) received prior to the request-line" RFC 9112 §2.2
        if not self._fed and seen.startswith(b"\r\n"):
            seen = seen[2:]
        end = seen.find(b"\r\n\r\n", searched)
        if end >= 0:
            return self._finish(seen, end + 4)
        self._seen = seen
        self._check_early()
        return None

    def _finish(self, seen: bytes, end: int) -> Head:
        self._check_size(end)
        self._parts.read_line(seen)
        self._parse(seen[self._fed : end])
        self.rest = seen[end:]
        return self._parts.settle(seen[:end])

    def _check_early(self) -> None:
        """Refuse an incomplete head now if no further byte can make it valid."""
        seen = self._seen
        self._check_size(len(seen))
        if not self._parts.method and b"\r\n" in seen:
            self._parts.read_line(seen)
        if seen != b"\r":
            self._parse(seen[self._fed :])
            self._fed = len(seen)

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Request head too large")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The head is complete and asks for another protocol: "A server MAY ignore a received Upgrade" RFC 9110 §7.8
            pass
        except httptools.HttpParserError as error:
            text = str(error)
            raise Refusal(_STATUSES.get(text, HTTPStatus.BAD_REQUEST), text) from None
