"""Frames one response: ASGI messages in, bytes out; sans I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec

from trio_mcp.transports.listener.head import Head, Refusal

__all__ = ["CONTINUE", "Response", "ResponseError", "refusal"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)*")
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}

_NO_BODY = (204, 304)


class ResponseError(RuntimeError):
    """The app broke the rules of ASGI or HTTP: a bug of the app, never of the client."""


class Response(msgspec.Struct, eq=False):
    """The response to `request`; its methods raise ResponseError when the app breaks the rules.

    The head waits for the first piece of the body, so that a complete answer leaves in one write.
    """

    request: Head
    keep_alive: bool
    """Whether the connection is kept; the head says so."""
    begun: bool = False
    complete: bool = False
    _start: tuple[int, Iterable[tuple[bytes, bytes]]] | None = None
    """Status and headers."""
    _bodyless: bool = False
    _chunked: bool = False
    _left: int | None = None

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Take status and headers, which `body` sends. Raises ResponseError the second time."""
        if self._start is not None:
            raise ResponseError("http.response.start sent twice")
        self._start = status, headers

    def whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> bytes:
        """The bytes of a response that is complete at once. `headers` name no length, connection or date."""
        self.start(status, headers)
        if status in _NO_BODY or self.request.method == "HEAD":
            return self.body(data, False)
        self.begun = self.complete = True
        length = b"content-length: %d\r\n" % len(data)
        return b"".join((status_line(status), _lines(headers), date(), length, self._persistence(), b"\r\n", data))

    def body(self, data: bytes, more: bool) -> bytes:
        """The bytes to send for this piece of the body, with the head in front of the first; `more` follows, or not.

        Raises ResponseError before the start and after the end.
        """
        if self._start is None or self.complete:
            raise ResponseError("http.response.body sent before the start or after the end of the response")
        if self.begun:
            return self._frame(data, more)
        head = self._head(*self._start, None if more else len(data))
        framed = self._frame(data, more)
        self.begun = True
        return head + framed

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None) -> bytes:
        """`length` of the body where it is known without a Content-Length of the app."""
        lines, named, dated = self._fields(headers)
        self._bodyless = status in _NO_BODY or self.request.method == "HEAD"
        return b"".join(
            (
                status_line(status),
                lines,
                b"" if dated else date(),
                b"" if self._names_no_length(status, named, length) else self._framing(named, length),
                self._persistence(),
                b"\r\n",
            )
        )

    def _names_no_length(self, status: int, named: int | None, length: int | None) -> bool:
        """Whether the head names no length: the status has no body, or the app sent none for HEAD and named no length."""
        return status in _NO_BODY or (self.request.method == "HEAD" and named is None and length == 0)

    def _fields(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int | None, bool]:
        """The app's header lines without those of framing, the Content-Length it named, and whether it sent a Date."""
        kept: list[tuple[bytes, bytes]] = []
        named: int | None = None
        dated = False
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                named = _length(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
            elif name != b"transfer-encoding":
                dated = dated or name == b"date"
                kept.append((name, value))
        return _lines(kept), named, dated

    def _framing(self, named: int | None, length: int | None) -> bytes:
        self._left = length if named is None else named
        if self._left is None:
            self._chunked = self.request.http_version == "1.1"
            # HTTP/1.0 has no chunks: the close ends the body.
            self.keep_alive = self.keep_alive and self._chunked
            return b"transfer-encoding: chunked\r\n" if self._chunked else b""
        return b"content-length: %d\r\n" % self._left

    def _persistence(self) -> bytes:
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"" if self.request.http_version == "1.1" else b"connection: keep-alive\r\n"

    def _frame(self, data: bytes, more: bool) -> bytes:
        self.complete = not more
        if self._bodyless:
            return b""
        if self._chunked:
            return (chunk(data) if data else b"") + (b"" if more else LAST_CHUNK)
        if self._left is not None:
            self._count(len(data), more)
        return bytes(data)

    def _count(self, size: int, more: bool) -> None:
        assert self._left is not None
        self._left -= size
        if self._left < 0 or (self._left and not more):
            self.complete = False
            raise ResponseError("The response's body does not have the length its Content-Length says")


def status_line(status: int) -> bytes:
    """The status line with the usual phrase; raises ResponseError unless `status` is that of a final response."""
    if not 200 <= status <= 999:
        raise ResponseError(f"{status} is not the status of a final response")
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def field_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`headers` as lines; raises ResponseError for characters that would end or corrupt a line."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    block = b"".join(lines)
    if block.count(b"\r\n") != len(lines) or not _FIELD_LINES.fullmatch(block):
        raise ResponseError("A response header holds characters that HTTP forbids")
    return block


def chunk(data: bytes) -> bytes:
    """`data` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_date_second = 0
_date_line = b""


def date() -> bytes:
    """The line of `Date`, made once a second."""
    global _date_second, _date_line
    now = int(time.time())
    if now != _date_second:
        _date_second = now
        _date_line = b"date: %b\r\n" % formatdate(now, usegmt=True).encode()
    return _date_line


def refusal(error: Refusal, *, head_only: bool = False) -> bytes:
    """The whole response to a refused request, as plain text with `Connection: close`."""
    body = b"" if head_only else f"{error.reason}\n".encode()
    fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields += b"retry-after: 1\r\n"
    elif error.status == HTTPStatus.UPGRADE_REQUIRED:
        fields += b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    return b"".join((status_line(error.status), date(), fields, b"\r\n", body))


def _length(value: bytes) -> int:
    if not value.isdigit():
        raise ResponseError(f"{value!r} is not a Content-Length")
    return int(value)


_single_lines: dict[tuple[bytes, bytes], bytes] = {}
_MOST_LINES = 64


_lines_of = lru_cache(maxsize=256)(field_lines)


def _lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """`field_lines`, remembered for the many answers whose only header of the app's own is one of a few content types."""
    if type(headers) is tuple:
        return _lines_of(headers)
    if len(headers) != 1:
        return field_lines(headers)
    lines = _single_lines.get(headers[0])
    if lines is None:
        lines = field_lines(headers)
        if len(_single_lines) < _MOST_LINES and headers[0][0] == b"content-type":
            _single_lines[headers[0]] = lines
    return lines
