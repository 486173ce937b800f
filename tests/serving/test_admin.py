"""The admin's app is for operators, not for web pages."""

import pytest
import trio

from trio_mcp import MCPServer
from trio_mcp.serving.admin import AdminApp
from trio_mcp.testing import asgi_client


@pytest.mark.parametrize(("origin", "status"), [((), 202), ((("origin", "http://evil.example"),), 403)])
async def test_a_web_page_cannot_drain_the_node(origin: tuple[tuple[str, str], ...], status: int) -> None:
    drain_asked = trio.Event()
    async with asgi_client(AdminApp(MCPServer("x").http_app(), drain_asked)) as wire:
        assert await wire.start("POST", "/drain", origin).head() == status
    assert drain_asked.is_set() == (status == 202)
