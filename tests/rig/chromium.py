"""Debian's Chromium without a window, driven by its DevTools protocol over one WebSocket."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryDirectory
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

__all__ = ["MissingChromium", "Page", "chromium_page"]

MAX_MESSAGE = 16 * 1024 * 1024
PATIENCE = 60.0
"""Seconds that one answer may take: against hanging alone."""


class MissingChromium(RuntimeError):
    """Chromium is not installed; the text says what installs it."""


class Page:
    """One tab."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._session = ""
        self._ids = count(1)
        self._answers: dict[int, tuple[trio.Event, list[Any]]] = {}
        self._frames: list[str] = []
        """Sessions of the frames of other origins, the outermost first."""

    async def read(self) -> None:
        """Take what the browser says, until it ends."""
        with suppress(ConnectionClosed):
            while True:
                self._take(json.loads(await self._connection.get_message()))

    def _take(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Target.attachedToTarget" and params["targetInfo"]["type"] == "iframe":
            self._frames.append(params["sessionId"])
        if "id" in message:
            event, answer = self._answers.pop(message["id"])
            answer.append(message)
            event.set()

    async def ask(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Call a method of the protocol, of this tab unless another session is named; raises RuntimeError for an error."""
        number = next(self._ids)
        self._answers[number] = event, answer = trio.Event(), list[Any]()
        message = {"id": number, "method": method, "params": params or {}}
        named = session or self._session
        await self._connection.send_message(json.dumps({**message, "sessionId": named} if named else message))
        with trio.fail_after(PATIENCE):
            await event.wait()
        if "error" in answer[0]:
            raise RuntimeError(f"{method}: {answer[0]['error']}")
        result: dict[str, Any] = answer[0]["result"]
        return result

    async def open(self, width: int, height: int) -> None:
        """Make the tab, of that size."""
        target = await self.ask(
            "Target.createTarget", {"url": "about:blank", "newWindow": True, "width": width, "height": height}
        )
        attached = await self.ask("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        self._session = attached["sessionId"]

    async def show(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._frames.clear()
        await self.ask("Page.navigate", {"url": url})
        await self.evaluate(
            "new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )

    async def evaluate(self, expression: str, frame: str | None = None) -> Any:
        """The value of JavaScript in the tab, or in a frame; a promise is awaited. Raises RuntimeError for what it throws."""
        params = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        result = await self.ask("Runtime.evaluate", params, frame)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def click(self, x: float, y: float) -> None:
        """Press and let go of the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            at = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            await self.ask("Input.dispatchMouseEvent", at)

    async def picture(self, width: float, height: float) -> bytes:
        """A PNG of the page's upper left part."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode((await self.ask("Page.captureScreenshot", {"format": "png", "clip": clip}))["data"])

    async def innermost(self) -> str:
        """The session of the frame that is inside all the others."""
        known = ""
        while known != (inner := self._frames[-1] if self._frames else self._session):
            known = inner
            # Frames that are there already are told of before the answer.
            settings = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": True}
            await self.ask("Target.setAutoAttach", settings, inner)
        return known


@asynccontextmanager
async def chromium_page(width: int = 820, height: int = 640) -> AsyncIterator[Page]:
    """A tab of a Chromium that runs for the length of the block. Raises MissingChromium."""
    program = shutil.which("chromium")
    if program is None:
        raise MissingChromium(
            "Chromium is not installed. Install it with: make screenshot (or: apt-get install chromium)"
        )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--site-per-process"]
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        own = [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
        process = await trio.lowlevel.open_process([program, *flags, *own], stderr=PIPE, stdout=DEVNULL)
        try:
            async with trio.open_nursery() as nursery:
                address = await nursery.start(_errors, process.stderr)
                async with open_websocket_url(address, max_message_size=MAX_MESSAGE) as connection:
                    page = Page(connection)
                    nursery.start_soon(page.read)
                    await page.open(width, height)
                    yield page
                nursery.cancel_scope.cancel("the browser is not needed any more")
        finally:
            process.terminate()
            with trio.move_on_after(PATIENCE, shield=True):
                await process.wait()


async def _errors(stderr: trio.abc.ReceiveStream, *, task_status: trio.TaskStatus[str]) -> None:
    """Read what Chromium says, for it must not wait for us; its first lines have the address of its WebSocket."""
    said = b""
    with trio.fail_after(PATIENCE):
        while (found := re.search(rb"DevTools listening on (ws://\S+)", said)) is None:
            piece = await stderr.receive_some()
            if not piece:
                raise RuntimeError(f"Chromium ended: {said[-2000:].decode(errors='replace')}")
            said += piece
    task_status.started(found[1].decode())
    async for _ in stderr:
        pass
