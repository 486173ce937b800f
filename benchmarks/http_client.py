"""A keep-alive HTTP/1.1 client on a blocking socket: so cheap that a benchmark measures the server and not the client."""

import json
import re
import socket
from typing import Any

__all__ = ["LEGACY", "MODERN", "Connection", "Opened", "initialize"]

LEGACY, MODERN = "2025-11-25", "2026-07-28"
CLIENT = {"name": "bench", "version": "1"}
SOCKET_SECONDS = 60.0


def initialize() -> dict[str, Any]:
    """The request that opens a session."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


class Opened:
    """A response: its status, its head as text, and its body as it came, chunk sizes included."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.status = int(head[9:12])
        self.head = head.decode("latin-1")
        self.body = body

    @property
    def session(self) -> str:
        found = re.search(r"^mcp-session-id: *(\S+)", self.head, re.IGNORECASE | re.MULTILINE)
        return found[1] if found else ""


class Connection:
    """One connection to a server on a loopback port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.create_connection(("127.0.0.1", port), SOCKET_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, message: dict[str, Any], headers: dict[str, str] | None = None) -> Opened:
        """Send a message and read the answer to its end."""
        self.send(message, headers)
        return self.read()

    def send(self, message: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(message, separators=(",", ":")).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        self._socket.sendall(self._head("POST", fields) + body)

    def read(self) -> Opened:
        """Raises `EOFError` when the server closes first."""
        data = b""
        while True:
            more = self._socket.recv(65536)
            if not more:
                raise EOFError("the server closed the connection")
            data += more
            head, found, body = data.partition(b"\r\n\r\n")
            if found and _ended(head, body):
                return Opened(head, body)

    def open_stream(self, session: str) -> None:
        """Open the session's GET stream and leave it open, its head read; raises `ConnectionError`."""
        fields = {"Mcp-Session-Id": session, "MCP-Protocol-Version": LEGACY}
        self._socket.sendall(self._head("GET", fields))
        first = self._socket.recv(4096)
        if b" 200 " not in first[:16]:
            raise ConnectionError(f"the GET stream was refused: {first[:200]!r}")

    def close(self) -> None:
        self._socket.close()

    def _head(self, method: str, fields: dict[str, str]) -> bytes:
        standing = {"Host": f"127.0.0.1:{self._port}", "Accept": "application/json, text/event-stream"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**standing, **fields}.items())
        return f"{method} /mcp HTTP/1.1\r\n{lines}\r\n".encode()


def _ended(head: bytes, body: bytes) -> bool:
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    if length:
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n") or head[9:12] in {b"202", b"204"}
