"""What a real Traefik makes of the files we ship."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.deploy.balancer import Balancer, Pod, balancer
from tests.rig.http_connection import fetch
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from trio_mcp.cli.export import traefik_dynamic

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

NAMES = ("node1", "node2", "node3")


class Lab:
    """Traefik before three pods."""

    def __init__(
        self, traefik: Balancer, dynamic: Path, pods: dict[str, Pod], serving: dict[str, trio.CancelScope]
    ) -> None:
        self.traefik = traefik
        self.dynamic = dynamic
        self.pods = pods
        self.serving = serving

    async def answers(self, path: str, **headers: str) -> set[str]:
        """Who answered nine requests, or with which status nobody did."""
        responses = [await self.traefik.get(path, **headers) for _ in range(9)]
        return {each.body.decode() if each.status == 200 else str(each.status) for each in responses}

    async def pinned(self) -> tuple[str, str]:
        """A pod, and the cookie that names it."""
        response = await self.traefik.get("/mcp")
        return response.body.decode(), response.cookies[0].partition(";")[0]


@asynccontextmanager
async def lab(folder: Path, *, header_routes: bool = False, dev: bool = False) -> AsyncIterator[Lab]:
    (folder / "dynamic").mkdir()
    pods = {name: Pod(name) for name in NAMES}
    ports = free_ports(3)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    text = traefik_dynamic(urls, names=NAMES, header_routes=header_routes, secure=not dev)
    (folder / "dynamic/mcp.yaml").write_text(text)
    provider = {"file": {"directory": str(folder / "dynamic"), "watch": True}}
    async with trio.open_nursery() as nursery, balancer(folder, provider, dev=dev) as traefik:
        serving = {name: await pods[name].listen(nursery, port) for name, port in zip(NAMES, ports, strict=True)}
        try:
            # With TLS there is one more, which sends plain http there.
            await traefik.loaded(6 + 3 * header_routes)
            yield Lab(traefik, folder / "dynamic/mcp.yaml", pods, serving)
        finally:
            nursery.cancel_scope.cancel("the test is over")


async def _only(lab: Lab, path: str, expected: set[str], **headers: str) -> None:
    async def asked() -> bool:
        return await lab.answers(path, **headers) == expected

    await until(asked, f"{path} answered by {expected}")


@pytest.mark.parametrize("dev", [False, True])
async def test_mcp_is_pinned_by_a_cookie_and_all_else_goes_round(tmp_path: Path, dev: bool) -> None:
    async with lab(tmp_path, dev=dev) as here:
        first = await here.traefik.get("/mcp")
        secure = "" if dev else " Secure;"
        value, attributes = first.cookies[0].removeprefix("_mcp_backend=").split("; ", 1)
        assert len(value) == 16
        assert attributes == f"Path=/mcp; HttpOnly;{secure} SameSite=Strict"
        kept = {"cookie": first.cookies[0].partition(";")[0]}
        assert await here.answers("/mcp", **kept) == {first.body.decode()}
        assert await here.answers("/mcp/", **kept, mcp_session_id="node9.x") == {first.body.decode()}
        for path in ("/graphql", "/mcpfoo"):
            assert await here.answers(path, **kept) == set(NAMES)
            assert not (await here.traefik.get(path)).cookies


async def test_where_to_log_in_is_answered_by_any_node_that_is_alive(tmp_path: Path) -> None:
    path = "/.well-known/oauth-protected-resource/mcp"
    async with lab(tmp_path) as here:
        await _only(here, path, set(NAMES))
        for pod in here.pods.values():
            pod.ready = False
        await _only(here, "/graphql", {"503"})
        assert await here.answers(path) == set(NAMES)
        assert not (await here.traefik.get(path)).cookies


async def test_a_node_that_drains_keeps_its_sessions_and_gets_no_new_ones(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        name, cookie = await here.pinned()
        here.pods[name].ready = False
        others = set(NAMES) - {name}
        await _only(here, "/mcp", others)
        await _only(here, "/graphql", others)
        assert await here.answers("/mcp", cookie=cookie, mcp_session_id=f"{name}.x") == {name}
        here.pods[name].alive = False
        await _only(here, "/mcp", others, mcp_session_id=f"{name}.x")


async def test_when_no_node_is_ready_sessions_are_served_and_new_ones_get_503(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        for pod in here.pods.values():
            pod.ready = False
        await _only(here, "/mcp", {"503"})
        await _only(here, "/mcp", set(NAMES), mcp_session_id="node1.x")


async def test_a_new_client_meets_no_error_when_a_node_was_killed_a_moment_ago(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        here.serving["node2"].cancel("killed")
        assert await here.answers("/mcp") == {"node1", "node3"}
        assert await here.answers("/graphql") == {"node1", "node3"}


@pytest.mark.parametrize("broken", ["Pith(`/mcp`)", "Path(`/mcp`"])
async def test_a_mistake_in_a_rule_is_503_and_never_404(tmp_path: Path, broken: str) -> None:
    async with lab(tmp_path) as here:
        text = here.dynamic.read_text()
        rule = "rule: 'Path(`/mcp`) || PathPrefix(`/mcp/`)'"
        assert text.count(rule) == 2
        draft = tmp_path / "draft"
        draft.write_text(text.replace(rule, f"rule: '{broken}'", 1))
        draft.rename(here.dynamic)
        await _only(here, "/mcp", {"503"}, mcp_session_id="node1.x")
        await _only(here, "/mcp/", {"503"}, mcp_session_id="node1.x")
        assert (await here.traefik.listed("routers"))["mcp"]["status"] == "disabled"
        assert await here.answers("/mcpfoo") == set(NAMES)


async def test_header_routes_find_the_node_without_a_cookie_and_against_a_wrong_one(tmp_path: Path) -> None:
    async with lab(tmp_path, header_routes=True) as here:
        _, cookie = await here.pinned()
        for owner in NAMES:
            assert await here.answers("/mcp", mcp_session_id=f"{owner}.x", cookie=cookie) == {owner}
        assert await here.answers("/mcp", mcp_session_id="node10.x") == set(NAMES)
        assert await here.answers("/mcp", mcp_session_id="xnode1.x") == set(NAMES)


async def test_header_routes_go_to_any_other_node_when_the_owner_fails_its_checks_and_only_then(tmp_path: Path) -> None:
    async with lab(tmp_path, header_routes=True) as here:
        here.pods["node1"].ready = False
        await _only(here, "/mcp", {"node2", "node3"})
        assert await here.answers("/mcp", mcp_session_id="node1.x") == {"node1"}
        _, cookie = await here.pinned()
        here.serving["node1"].cancel("killed")
        await _only(here, "/mcp", {"node2", "node3"}, mcp_session_id="node1.x")
        # Not sticky: whom a cookie names does not matter here.
        await _only(here, "/mcp", {"node2", "node3"}, mcp_session_id="node1.x", cookie=cookie)


async def test_a_session_id_is_no_credential_in_the_access_log_and_a_relay_can_be_seen_there(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        await here.traefik.get("/mcp", mcp_session_id="node1.secret", authorization="Bearer secret")

        async def logged() -> list[dict[str, Any]]:
            return here.traefik.access_log()

        (line,) = await until(logged, "a line in the access log")
        assert line["RouterName"] == "mcp@file"
        assert line["ServiceURL"].startswith("http://127.0.0.1:")
        assert line["request_Mcp-Session-Id"] == "REDACTED"
        assert "secret" not in here.traefik.log.read_text()


async def test_plain_http_is_sent_to_tls_and_ping_and_metrics_are_inside(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        moved = await fetch(f"{here.traefik.plain_url}/mcp", "POST")
        assert moved.status in (307, 308), "a client must repeat its POST as a POST"
        assert moved.header("location").startswith("https://127.0.0.1")
        for path in ("/ping", "/metrics"):
            assert (await fetch(f"{here.traefik.internal_url}{path}")).status == 200
            assert (await here.traefik.get(path)).body.decode() in NAMES


async def test_a_header_that_only_looks_like_the_session_id_does_not_reach_a_node(tmp_path: Path) -> None:
    async with lab(tmp_path) as here:
        for name in ("Mcp-Session-Id", "Mcp_Session_Id", "Mcp.Session.Id"):
            await fetch(f"{here.traefik.url}/mcp", headers={name: "node1.x"})
        heard = [name for pod in here.pods.values() for name in pod.heard if b"session" in name]
        assert heard == [b"mcp-session-id"]
