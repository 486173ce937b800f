"""A page in Debian's Chromium speaks MCP over a WebSocket, its token in a subprotocol: `python -m tools.websocket_browser`.

What it does is what a page can do: `new WebSocket(url, ["mcp", "mcp.bearer.…"])` and nothing else. Exits 1, and says what was other than
it should be.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from tests.rig.chromium import MissingChromium, Page, chromium_page
from tests.rig.served.browser import TOKEN
from tests.rig.websocket import MODERN
from tools.checks import done, exit_code, expect
from tools.served import REPOSITORY, Served, ServerFailed, served

__all__ = ["main"]

SERVER = REPOSITORY / "tests" / "rig" / "served" / "browser.py"
SCRIPT = """
window.speak = (url, protocols, messages, answers) => new Promise((done) => {
  const seen = { heard: [] };
  const socket = new WebSocket(url, protocols);
  window.socket = socket;
  window.ended = new Promise((over) => socket.addEventListener('close', ({ code, reason, wasClean }) => over({ code, reason, wasClean })));
  socket.onopen = () => {
    seen.protocol = socket.protocol;
    seen.extensions = socket.extensions;
    messages.forEach((message) => socket.send(JSON.stringify(message)));
  };
  socket.onmessage = ({ data }) => {
    seen.heard.push(JSON.parse(data));
    if (seen.heard.filter(({ id }) => id !== undefined).length === answers) done(seen);
  };
  socket.onclose = () => done(seen);
});
"""
OFFER = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def _pages() -> Iterator[int]:
    """An empty page on a free loopback port."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(f"<!doctype html><title>page</title><script>{SCRIPT}</script>")
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield server.server_port
            finally:
                server.shutdown()


def bearer(token: str) -> str:
    """The subprotocol that carries a token."""
    return "mcp.bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def _request(number: int, method: str, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def _speak(page: Page, url: str, protocols: list[str], *messages: dict[str, object]) -> dict[str, Any]:
    """What the page hears until as many answers came as there are messages, or the connection ends."""
    given = ", ".join(json.dumps(each) for each in (url, protocols, messages, len(messages)))
    seen: dict[str, Any] = await page.evaluate(f"speak({given})")
    return seen


async def converses(page: Page, url: str, server: Served) -> None:
    """A session, progress, a request of 2026-07-28 beside it, and the close that a page asks for."""
    seen = await _speak(
        page,
        url,
        ["mcp", bearer(TOKEN)],
        _request(1, "initialize", **OFFER),
        _request(2, "tools/call", name="whoami", arguments={}),
        _request(3, "tools/call", name="count", arguments={"to": 3}, _meta={"progressToken": "p"}),
        _request(4, "tools/call", name="whoami", arguments={}, _meta=MODERN),
    )
    expect("the protocol that is confirmed", seen.get("protocol"), "mcp")
    expect("the extensions", seen["extensions"], "")
    heard = {each["id"]: each["result"] for each in seen["heard"] if "id" in each}
    expect("the version", heard[1]["protocolVersion"], "2025-11-25")
    for number, text in ((2, "ada"), (3, "3"), (4, "ada")):
        expect(f"the answer to {number}", heard[number]["content"][0]["text"], text)
    told = [each["params"]["progress"] for each in seen["heard"] if each.get("method") == "notifications/progress"]
    expect("the progress", told, [1, 2, 3])
    ended = await page.evaluate("(window.socket.close(1000, 'bye'), window.ended)")
    expect("the end", (ended["code"], ended["wasClean"]), (1000, True))


async def is_refused(page: Page, url: str, server: Served) -> None:
    """A page sees no status, only that there is no connection."""
    for what, protocols in (
        ("no token", ["mcp"]),
        ("another token", ["mcp", bearer("bad")]),
        ("no mcp", [bearer(TOKEN)]),
        ("two tokens", ["mcp", bearer(TOKEN), bearer("bad")]),
    ):
        seen = await _speak(page, url, protocols, _request(1, "initialize", **OFFER))
        expect(what, seen, {"heard": []})
        expect(f"{what}: the end", (await page.evaluate("window.ended"))["code"], 1006)


async def is_told_of_a_stop(page: Page, url: str, server: Served) -> None:
    """SIGTERM: the page gets the code that says that it should connect again."""
    await _speak(page, url, ["mcp", bearer(TOKEN)], _request(1, "initialize", **OFFER))
    server.process.send_signal(signal.SIGTERM)
    ended = await page.evaluate("window.ended")
    expect("the end", (ended["code"], ended["wasClean"]), (1001, True))


async def run() -> None:
    """All of it, from a page of an allowed origin, and from one of another."""
    with _pages() as port:
        allowed, other = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        command = (sys.executable, "-m", "trio_mcp", "serve", str(SERVER), "--port", "{port}", "--websocket")
        with served((*command, "--allowed-origins", allowed, "--drain-timeout", "1")) as server:
            url = server.url.replace("http://", "ws://")
            async with chromium_page() as page:
                await page.show(f"{other}/page.html")
                seen = await _speak(page, url, ["mcp", bearer(TOKEN)], _request(1, "initialize", **OFFER))
                expect("a page of another origin", seen, {"heard": []})
                await page.show(f"{allowed}/page.html")
                for check in (converses, is_refused, is_told_of_a_stop):
                    await check(page, url, server)
                    done(check)


def main() -> int:
    """0 when the page could do everything."""
    return exit_code(run, MissingChromium, ServerFailed)


if __name__ == "__main__":
    sys.exit(main())
