"""Bytes to request heads; the only user of httptools."""

from __future__ import annotations

from http import HTTPStatus

import httptools

from trio_mcp.transports.listener.errors import Refusal
from trio_mcp.transports.listener.head import Head

__all__ = ["HeadReader"]

_STATUSES = {
    "Invalid HTTP version": HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    "Request has invalid `Transfer-Encoding`": HTTPStatus.NOT_IMPLEMENTED,
}
"""Every other complaint of httptools is a 400."""


class HeadReader:
    """Reads one head. The parser sees no byte beyond it: where messages end is decided here and in `body`, only."""

    __slots__ = ("_fed", "_head", "_limit", "_parser", "_seen", "rest")

    def __init__(self, limit: int) -> None:
        self.rest = b""
        self._limit = limit
        self._head = Head()
        self._parser = httptools.HttpRequestParser(self._head)
        self._seen = b""
        self._fed = 0

    @property
    def started(self) -> bool:
        """Something of a request has come, not just a blank line."""
        return bool(self._seen)

    def feed(self, data: bytes) -> Head | None:
        """The head once it is whole, what followed it in `rest`; raises Refusal as soon as a byte is wrong."""
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
        head = self._head
        self._check_size(end)
        head.read_line(seen)
        self._parse(seen[self._fed : end])
        self.rest = seen[end:]
        head.raw = seen[:end]
        head.settle()
        return head

    def _check_early(self) -> None:
        """Refuse now what no further byte can mend, rather than wait for its end."""
        seen = self._seen
        self._check_size(len(seen))
        if not self._head.method and b"\r\n" in seen:
            self._head.read_line(seen)
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
            # The head is whole and asks for another protocol: "A server MAY ignore a received Upgrade" RFC 9110 §7.8
            pass
        except httptools.HttpParserError as error:
            text = str(error)
            raise Refusal(_STATUSES.get(text, HTTPStatus.BAD_REQUEST), text) from None
