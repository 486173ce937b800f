"""Response heads and framing, as bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from trio_mcp.transports.listener.errors import Refusal, ResponseError

__all__ = ["CONTINUE", "LAST_CHUNK", "chunk", "date", "field_lines", "refusal", "status_line"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_FIELD_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)*")
_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


def status_line(status: int) -> bytes:
    """With the usual phrase; raises ResponseError unless `status` is that of a final response."""
    if not 200 <= status <= 999:
        raise ResponseError(f"{status} is not the status of a final response")
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def field_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header lines; raises ResponseError for characters that would end or corrupt a line."""
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
    """The `Date` header line; made once a second."""
    global _date_second, _date_line
    now = int(time.time())
    if now != _date_second:
        _date_second = now
        _date_line = b"date: %b\r\n" % formatdate(now, usegmt=True).encode()
    return _date_line


def refusal(error: Refusal, *, head_only: bool = False) -> bytes:
    """A whole response that says `error` in plain text and announces the close."""
    body = b"" if head_only else f"{error.reason}\n".encode()
    fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields += b"retry-after: 1\r\n"
    return b"".join((status_line(error.status), date(), fields, b"\r\n", body))
