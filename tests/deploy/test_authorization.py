"""Behind a Traefik that ends TLS: what clients and proxies say of host and scheme changes no URL of the server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.rig.http_connection import Response, fetch
from tests.rig.routing import shipped
from tests.rig.traefik import traefik
from tests.rig.waiting import until
from tests.serving.test_authorization import INITIALIZE, POST, RESOURCE, WELL_KNOWN, good, issuing, node
from tests.transports.http.harness import LEGACY, request

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

CHALLENGE = (
    'Bearer scope="mcp:read", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp"'
)
LIES: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "the name that clients use": {"host": "mcp.example.com"},
    "another host": {"host": "evil.example"},
    "a forwarded host": {"x-forwarded-host": "evil.example", "x-forwarded-server": "evil.example"},
    "a forwarded scheme and port": {
        "x-forwarded-proto": "http",
        "x-forwarded-port": "666",
        "x-forwarded-prefix": "/evil",
    },
    "all, and the standard's": {
        "host": "evil.example:666",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        "forwarded": "host=evil.example;proto=http",
    },
}


async def asked(url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
    """The answer of the node: on a busy machine Traefik may miss its health checks, and answers for it."""

    async def answer() -> Response | None:
        found = await fetch(url, method, headers or {}, body)
        return None if found.status in (502, 503) else found

    found = await until(answer, f"the node answers {method} {url}")
    assert found is not None
    return found


@pytest.mark.requirement("auth-63")
@pytest.mark.parametrize("trusted", [None, "127.0.0.1"], ids=["no proxy is trusted", "the proxy is trusted"])
async def test_no_url_follows_what_a_request_says_of_host_and_scheme(tmp_path: Path, trusted: str | None) -> None:
    proxies: dict[str, Any] = {} if trusted is None else {"forwarded_allow": trusted}
    async with issuing() as issuer, node(issuer, allowed_hosts="*", **proxies) as url:
        async with traefik(tmp_path / "traefik", shipped({"node1": url})) as balancer:
            seen: dict[str, Response] = {}
            for name, lie in LIES.items():
                metadata = await asked(f"{balancer.url}{WELL_KNOWN}", headers=lie)
                assert (metadata.status, metadata.json()["resource"]) == (200, RESOURCE), name
                seen[name] = metadata
                refused = await asked(balancer.mcp_url, "POST", {**POST, **lie}, INITIALIZE)
                assert (refused.status, refused.header("www-authenticate")) == (401, CHALLENGE), name
                served = await asked(balancer.mcp_url, "POST", {**good(issuer), **lie}, INITIALIZE)
                assert served.status == 200, name
                session = {"mcp-session-id": served.header("mcp-session-id"), "mcp-protocol-version": LEGACY}
                listed = json.dumps(request(1, "tools/list", {})).encode()
                expired = await asked(balancer.mcp_url, "POST", {**POST, **session, **lie}, listed)
                assert (expired.status, expired.header("www-authenticate")) == (401, CHALLENGE), name
            assert len({answer.body for answer in seen.values()}) == 1


@pytest.mark.requirement("auth-63")
async def test_a_host_that_is_not_allowed_learns_nothing(tmp_path: Path) -> None:
    async with issuing() as issuer, node(issuer, allowed_hosts="mcp.example.com") as url:
        async with traefik(tmp_path / "traefik", shipped({"node1": url})) as balancer:
            for path in (WELL_KNOWN, "/.well-known/oauth-protected-resource"):
                right = await asked(f"{balancer.url}{path}", headers={"host": "mcp.example.com"})
                assert (right.status, right.json()["resource"]) == (200, RESOURCE)
                assert (await asked(f"{balancer.url}{path}", headers={"host": "evil.example"})).status == 421
            refused = await asked(balancer.mcp_url, "POST", {**good(issuer), "host": "evil.example"}, INITIALIZE)
            assert (refused.status, refused.header("www-authenticate")) == (421, "")
