"""What a person is told when the server fails in the middle: one line, with what may have become of the call, and an exit code."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest

from tests.rig.waiting import PATIENCE
from trio_mcp.cli import execute

pytestmark = pytest.mark.sockets

Printed = pytest.CaptureFixture[str]
Fail = Callable[[socket.socket], object]

LOST = ". The call may or may not have been done\n"
RESULTS: dict[str, Any] = {
    "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
    "tools/list": {"tools": [{"name": "add", "inputSchema": {"type": "object"}}]},
}
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n"


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says(answer: bytes) -> Fail:
    return lambda connection: connection.sendall(answer)


@contextmanager
def serving(fail: Fail) -> Iterator[str]:
    """The URL of a server that lists one tool, and does that when it is called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        thread = Thread(target=_serve, args=(listening, fail))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        thread.join()


def _serve(listening: socket.socket, fail: Fail) -> None:
    for _ in range(len(RESULTS) + 1):
        connection, _ = listening.accept()
        with connection:
            message = _read(connection)
            if message["method"] in RESULTS:
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": RESULTS[message["method"]]})
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall((head + body).encode())
            else:
                fail(connection)


def _read(connection: socket.socket) -> Any:
    data = b""
    while True:
        data += connection.recv(65536)
        head, end, body = data.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return json.loads(body)


@pytest.mark.parametrize(
    ("fail", "code", "words"),
    [
        (says(b""), 1, "closed the connection before it answered" + LOST),
        (resets, 1, "closed the connection before it answered: connection reset by peer" + LOST),
        (says(b"HTTP/1.1 200 O"), 1, "closed the connection in the middle of its answer" + LOST),
        (says(STREAM), 1, "closed the connection in the middle of its answer" + LOST),
        (says(STREAM + b"0\r\n\r\n"), 1, "the stream ended without an answer" + LOST),
        (says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>\n<title>Bad\nGateway</title>"), 1, "the server answered 502: Bad Gateway" + LOST),
        (says(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n"), 1, "the server answered 503. Try again in 7 s\n"),
        (says(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), 3, "the server answered 401: unauthorized. Send a token with --bearer @file\n"),
    ],
)  # fmt: skip
def test_a_server_that_fails_in_a_call_is_one_line_and_an_exit_code(
    fail: Fail, code: int, words: str, capsys: Printed
) -> None:
    with serving(fail) as url:
        assert execute(["call", url, "add"]) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("trio-mcp: ")
    assert printed.err.endswith(words)


@pytest.mark.parametrize("url", ["http://127.0.0.1:x/mcp", "ftp://a/mcp", "http://a/b c", f"http://{'a' * 64}/mcp"])
def test_what_is_no_url_is_a_wrong_command_line(url: str, capsys: Printed) -> None:
    assert execute(["list", url]) == 2
    assert "is not a URL" in capsys.readouterr().err
