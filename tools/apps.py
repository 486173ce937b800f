"""The chart of examples/chart.py in a real browser: a host of MCP Apps shows it, and clicks on it. `--write` keeps a picture.

The host's side is `@modelcontextprotocol/ext-apps`; the page around it, and the sandbox, are those of `tests/apps`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import trio

from tests.rig.chromium import MissingChromium, Page, chromium_page
from tools.node import MissingNode, environment, package_file
from tools.served import Served, ServerFailed, served
from trio_mcp import MCPServer
from trio_mcp.observability.logs import leaves
from trio_mcp.protocol.app_types import Permission
from trio_mcp.protocol.versions import V2026_07_28
from trio_mcp.types import AppCsp, ToolUi

__all__ = ["NotShown", "host_pages", "look"]

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = REPOSITORY / "tests" / "apps"
PACKAGES = REPOSITORY / ".cache" / "apps"
UI = "io.modelcontextprotocol/ui"
BARS = "document.querySelectorAll('rect').length"
TITLE = "document.getElementById('title').textContent"
CHANGED = (
    f"new Promise((done) => new MutationObserver(() => done({TITLE}))"
    ".observe(document.getElementById('title'), {childList: true}))"
)
PLACE = "(({{x, y}}) => [x, y])(document.getElementById('{}').getBoundingClientRect())"
WIDTH, HEIGHT = 820, 400


class NotShown(AssertionError):
    """The browser shows something else than it should; the text says what."""


@contextmanager
def host_pages() -> Iterator[str]:
    """The pages of the host, bundled and served on a free loopback port; their URL."""
    with TemporaryDirectory() as folder:
        for page in ("host.html", "sandbox.html"):
            copy(PAGES / page, folder)
        bundler = package_file("esbuild/bin/esbuild", PACKAGES)
        command = [str(bundler), str(PAGES / "host.mjs"), "--bundle", "--format=esm", f"--outfile={folder}/host.js"]
        settings = {**environment(), "NODE_PATH": str(PACKAGES / "node_modules")}
        subprocess.run([*command, "--log-level=warning"], env=settings, check=True)
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/host.html"
            finally:
                server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


async def look(page: Page, host: str, server: Served, **asked: str) -> dict[str, Any]:
    """Have the host call the tool and show its app; what it saw. Raises NotShown."""
    query = {"server": server.url, "tool": "sales", "arguments": '{"year":2026}', **asked}
    await page.show(f"{host}?{urlencode(query)}")
    done = await page.evaluate("window.seen.done")
    _expect("the host", done, "shown")
    return await _seen(page)


async def _seen(page: Page) -> dict[str, Any]:
    seen: dict[str, Any] = await page.evaluate("({...window.seen, done: null})")
    return seen


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise NotShown(f"{what}: {found!r}, not {expected!r}")


async def check(page: Page, host: str, server: Served) -> bytes:
    """The chart in both eras, a click on it, and a client without apps; the picture of the chart."""
    for mode, version in (("legacy", "2025-11-25"), ("auto", "2026-07-28")):
        seen = await look(page, host, server, mode=mode)
        _expect("the version", seen["version"], version)
        _expect("what the server declares", seen["declared"], {UI: {}})
        _expect("the app of the tool", seen["uri"], "ui://sales/chart")
        _expect("the app", seen["app"], {"mimeType": "text/html;profile=mcp-app", "ui": {"prefersBorder": True}})
        _expect("who the app says it is", seen["appInfo"], {"name": "sales", "version": "1"})
        app = await page.innermost()
        _expect("the bars", await page.evaluate(BARS, app), 12)
        _expect("the title", await page.evaluate(TITLE, app), "Sales of 2026, in thousands")
    picture = await page.picture(WIDTH, HEIGHT)
    await _turn_back(page)
    without = await look(page, host, server, apps="no")
    _expect("what a client without apps is shown of them", without.get("app"), None)
    text = await page.evaluate("document.getElementById('text').textContent")
    _expect("what the model reads", '"year":2026' in text, True)
    return picture


async def _turn_back(page: Page) -> None:
    """Click on `earlier`: the app calls the tool through the host."""
    app = await page.innermost()
    await page.evaluate(f"window.changed = {CHANGED}; 0", app)
    left, top = await page.evaluate(PLACE.format("earlier"), app)
    frame_left, frame_top = await page.evaluate(PLACE.format("app"))
    await page.click(frame_left + left + 10, frame_top + top + 10)
    _expect("the title after a click", await page.evaluate("window.changed", app), "Sales of 2025, in thousands")
    _expect("what the app called", (await _seen(page))["calls"], [{"name": "sales", "arguments": {"year": 2025}}])


def check_meta() -> None:
    """What `_meta.ui` may have, with every option, against the schemas of ext-apps. Raises NotShown."""
    found = json.loads(
        package_file("@modelcontextprotocol/ext-apps/dist/src/generated/schema.json", PACKAGES).read_text()
    )
    mcp = MCPServer("every option")
    mcp.add_tool(lambda: "", name="tool", ui=ToolUi("ui://a/b", visibility=["model", "app"]))
    origins = ["https://*.example.com", "wss://example.com:8443"]
    csp = AppCsp(origins, origins, origins, origins)
    permissions: list[Permission] = ["camera", "microphone", "geolocation", "clipboardWrite"]
    mcp.add_app(lambda: "", "ui://a/b", csp=csp, permissions=permissions, domain="a.example.com", prefers_border=True)
    for component, schema in ((*mcp.registry.tools, "McpUiToolMeta"), (*mcp.registry.resources, "McpUiResourceMeta")):
        ui = component.definition(V2026_07_28)["_meta"]["ui"]
        missing = {*found["$defs"][schema]["properties"]} - {*ui} - {"csp", "permissions"}
        _expect(f"options for members of {schema}", missing, set())
        try:
            jsonschema_rs.validate(found["$defs"][schema], ui)
        except jsonschema_rs.ValidationError as fault:
            raise NotShown(f"{schema}: {fault}") from None


async def run() -> bytes:
    """Look at the chart; the picture of it."""
    check_meta()
    with host_pages() as host:
        origin = host.removesuffix("/host.html")
        command = (
            sys.executable,
            "-m",
            "trio_mcp",
            "serve",
            str(REPOSITORY / "examples" / "chart.py"),
            "--port",
            "{port}",
        )
        with served((*command, "--allowed-origins", origin)) as server:
            async with chromium_page() as page:
                picture = await check(page, host, server)
    return picture


_TOLD = (MissingNode, MissingChromium, ServerFailed, NotShown, subprocess.CalledProcessError)


def main() -> int:
    """`python -m tools.apps`: 0 when the browser shows what it should."""
    ask = argparse.ArgumentParser(description="Look at an app in a real browser.")
    ask.add_argument("--write", type=Path, help="keep a picture in this file")
    write = ask.parse_args().write
    try:
        picture = trio.run(run)
    except* _TOLD as errors:
        told = [str(leaf) for leaf in leaves(errors)]
    else:
        told = []
        if write is not None:
            write.write_bytes(picture)
            print(f"{write}: {len(picture)} bytes")
    print(*told, sep="\n", end="\n" if told else "", file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
