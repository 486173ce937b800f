"""The admin's app is for operators, not for web pages."""

import pytest
import trio

from trio_mcp import MCPServer
from trio_mcp.serving.admin import AdminApp, OneProcess
from trio_mcp.testing import asgi_client


@pytest.mark.parametrize(("origin", "status"), [((), 202), ((("origin", "http://evil.example"),), 403)])
async def test_a_web_page_cannot_drain_the_node(origin: tuple[tuple[str, str], ...], status: int) -> None:
    drain_asked = trio.Event()
    async with asgi_client(AdminApp(OneProcess(MCPServer("x").http_app()), drain_asked.set)) as wire:
        assert await wire.start("POST", "/drain", origin).head() == status
    assert drain_asked.is_set() == (status == 202)


@pytest.mark.parametrize(
    ("host", "hosts", "status"),
    [
        ("10.1.2.3:9464", (), 200),
        ("[fd00::1]:9464", (), 200),
        ("localhost:9464", (), 200),
        ("127.0.0.1", (), 200),
        (None, (), 200),
        ("rebound.example:9464", (), 421),
        ("mcp-metrics", (), 421),
        ("mcp-metrics:9464", ("mcp-metrics",), 200),
        ("a.svc", ("*.svc",), 200),
        ("rebound.example", ("*",), 200),
    ],
)
async def test_the_admin_listener_answers_to_addresses_loopback_and_the_names_it_is_given(
    host: str | None, hosts: tuple[str, ...], status: int
) -> None:
    app = MCPServer("x").http_app()
    headers = [] if host is None else [("host", host)]
    async with asgi_client(AdminApp(OneProcess(app), trio.Event().set, hosts=hosts)) as wire:
        for path in ("/metrics", "/sessions", "/livez"):
            assert await wire.start("GET", path, headers).head() == status
        assert await wire.start("POST", "/drain", headers).head() == (202 if status == 200 else 421)


@pytest.mark.requirement("auth-75")
@pytest.mark.parametrize(
    ("credentials", "status"),
    [((), 401), (("Bearer s3cret",), 200), (("Bearer s3cre",), 401), (("Bearer s3cret", "Bearer s3cret"), 401)],
    ids=["none", "right", "wrong", "twice"],
)
async def test_with_a_token_the_admin_listener_asks_for_it_but_for_probes(
    credentials: tuple[str, ...], status: int
) -> None:
    headers = [("authorization", value) for value in credentials]
    drain_asked = trio.Event()
    admin = AdminApp(OneProcess(MCPServer("x").http_app()), drain_asked.set, token="s3cret")
    async with asgi_client(admin) as wire:
        for path in ("/metrics", "/sessions"):
            assert await wire.start("GET", path, headers).head() == status
        assert await wire.start("POST", "/drain", headers).head() == (202 if status == 200 else 401)
        for path in ("/livez", "/readyz", "/healthz"):
            assert await wire.start("GET", path).head() in (200, 503)
    assert drain_asked.is_set() == (status == 200)
