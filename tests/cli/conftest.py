import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = """
from trio_mcp import Context, MCPServer, ToolError

mcp = MCPServer("shop", version="3", title="The shop", instructions="Buy.")

@mcp.tool
async def price(name: str, count: int = 1) -> int:
    "What it costs."
    return len(name) * count

@mcp.tool
async def wait(ctx: Context) -> str:
    await ctx.report_progress(1, 2, "half way")
    return "done"

@mcp.tool
async def refuse() -> str:
    raise ToolError("sold out")

@mcp.resource("stock://list")
async def stock() -> str:
    return "empty"

@mcp.prompt
async def ask(what: str) -> str:
    return what
"""


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the command does to the process it normally owns is undone: logging, imports, settings."""
    for name in os.environ:
        if name.startswith("TRIO_MCP_") or name in ("PORT", "LOG_LEVEL", "POD_NAME"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    path, modules = sys.path[:], set(sys.modules)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.path[:] = path
    for name in {"shop"} & (set(sys.modules) - modules):
        del sys.modules[name]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A TARGET in the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(SERVER)
    return "shop.py"
