"""Calls of many sessions on kept connections, all at once, from one loop: so cheap that the server is what is measured."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from benchmarks.http_client import LEGACY, Connection, initialize
from tools.served import ServerFailed

__all__ = ["Answers", "Line", "make_calls", "spread_sessions"]

HANGS = 60.0
"""Seconds without any answer: the server has stopped."""

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_BODY = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"add","arguments":{"a":%d,"b":3}}}'


@dataclass(slots=True)
class Answers:
    """What the calls were told."""

    right: int = 0
    lost: int = 0
    """404: the server does not know the session."""
    relayed: int = 0
    """Of the right ones, those that another worker has answered."""
    wrong: bytes = b""
    """The last answer that was neither."""


def spread_sessions(port: int, wanted: int) -> list[str]:
    """Open sessions, each on a connection of its own, that any worker may accept."""
    found = []
    for _ in range(wanted):
        connection = Connection(port)
        session = connection.post(initialize()).session
        headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
        connection.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
        connection.close()
        found.append(session)
    return found


Line = tuple[int, Sequence[str]]
"""A connection to that port, and the session of each of its calls."""


def make_calls(wanted: Sequence[Line]) -> Answers:
    """Make the calls of each connection, one after the other; the connections at once.

    Raises ServerFailed when a connection is closed, or no answer comes.
    """
    answers, ids, polled = Answers(), count(1), select.epoll()
    lines = [_Line(port, iter(sessions), ids, answers) for port, sessions in wanted if sessions]
    by_number = {line.socket.fileno(): line for line in lines}
    try:
        for number, line in by_number.items():
            polled.register(number, select.EPOLLIN)
            line.ask()
        while by_number:
            ready = polled.poll(HANGS)
            if not ready:
                raise ServerFailed(f"no call was answered for {HANGS:g} s")
            for number, _ in ready:
                if not by_number[number].read():
                    polled.unregister(number)
                    del by_number[number]
    finally:
        polled.close()
        for line in lines:
            line.socket.close()
    return answers


class _Line:
    """One kept connection with one call at a time."""

    def __init__(self, port: int, sessions: Iterator[str], ids: Iterator[int], answers: Answers) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._sessions = sessions
        self._ids = ids
        self._answers = answers
        self._sum = b""
        self._data = b""

    def ask(self) -> bool:
        """Send the next call, which is small enough for the kernel to take at once; False when there is none."""
        session = next(self._sessions, None)
        if session is None:
            return False
        number = next(self._ids)
        self._sum = b'"%d"' % (number + 3)
        body = _BODY % (number, number)
        head = (
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nMcp-Session-Id: {session}\r\n"
            f"MCP-Protocol-Version: {LEGACY}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.socket.sendall((head + body).encode())
        return True

    def read(self) -> bool:
        """Read what is there, and go on with the next call when it is a whole answer; False when that was the last."""
        data = self.socket.recv(65536)
        if not data:
            raise ServerFailed("a connection was closed before its call was answered")
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or not _is_whole(head, body):
            return True
        self._data = b""
        self._count(head, body)
        return self.ask()

    def _count(self, head: bytes, body: bytes) -> None:
        status, answers = head[9:12], self._answers
        if status == b"200" and self._sum in body:
            answers.right += 1
            answers.relayed += b"trio-mcp-relay" in head
        elif status == b"404":
            answers.lost += 1
        else:
            answers.wrong = status + b" " + body


def _is_whole(head: bytes, body: bytes) -> bool:
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
