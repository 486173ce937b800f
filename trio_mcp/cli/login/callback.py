"""Where the browser comes back to: a listener on a free port of 127.0.0.1 that answers one redirect (RFC 8252 §7.3)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from trio_mcp.cli.login.discovery import LoginError

__all__ = ["Callback", "callback"]

PATH = "/callback"
MAX_HEAD = 16 * 1024
HEAD_SECONDS = 10.0
"""A browser sends its request at once; connections that it opens ahead and leaves unused end by this."""

_PAGE = "<!doctype html><meta charset=utf-8><title>trio-mcp</title><p>{}</p>"


class Callback:
    """A listener that waits for the redirect. `uri` is what the authorization server is told."""

    def __init__(self, port: int) -> None:
        self.uri: str = f"http://127.0.0.1:{port}{PATH}"
        self._read: Callable[[str], str | None] | None = None
        self._send, self._answers = trio.open_memory_channel[str | LoginError](1)

    async def code(self, read: Callable[[str], str | None]) -> str:
        """Wait for the redirect whose query `read` finds a code in; requests in which it finds None do not count.

        Raises the LoginError that `read` raises.
        """
        self._read = read
        answer = await self._answers.receive()
        if isinstance(answer, LoginError):
            raise answer
        return answer

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one request, and close."""
        with trio.move_on_after(HEAD_SECONDS):
            try:
                status, text = self._answer(await _target(stream))
                await stream.send_all(_response(status, text))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the browser has closed; it may come again
        await trio.aclose_forcefully(stream)

    def _answer(self, target: str) -> tuple[str, str]:
        path, _, query = target.partition("?")
        if path != PATH or self._read is None:
            return "404 Not Found", "There is nothing here."
        try:
            code = self._read(query)
        except LoginError as error:
            self._tell(error)
            return "400 Bad Request", f"The login failed: {html.escape(str(error))}"
        if code is None:
            return "400 Bad Request", "This is not the answer to the login that waits."
        self._tell(code)
        return "200 OK", "You are logged in. You may close this page."

    def _tell(self, answer: str | LoginError) -> None:
        with suppress(trio.WouldBlock):  # the first answer counts
            self._send.send_nowait(answer)


@asynccontextmanager
async def callback() -> AsyncIterator[Callback]:
    """Listen for the length of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    found = Callback(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, found.serve, [listener]))
        yield found
        nursery.cancel_scope.cancel()


async def _target(stream: trio.SocketStream) -> str:
    """The target of a GET request; "" for anything else."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD:
        data = await stream.receive_some(4096)
        if not data:
            return ""
        head += data
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    return rest.partition(" ")[0] if method == "GET" else ""


def _response(status: str, text: str) -> bytes:
    body = _PAGE.format(text).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        # The URL of this page has the code in it.
        "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
