"""The manifests in a real Traefik that watches a Kubernetes API; clients and sessions are real, the API is a toy."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.deploy.balancer import Balancer, Pod, balancer
from tests.deploy.kube import KubeApi, Object, endpoint_slice
from tests.deploy.kustomize import build
from tests.deploy.shipped import K8S, one, routing
from tests.rig.client import LegacyClient
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from trio_mcp import MCPServer
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.listener import ASGIApp, open_listeners, serve

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

ADDRESSES = ("127.0.0.11", "127.0.0.12", "127.0.0.13")
"""Every pod listens on the same port, so each needs an address of its own: Linux has all of 127/8."""


class Cluster:
    """Traefik, the API it watches, and pods."""

    def __init__(self, api: KubeApi, traefik: Balancer, port: int) -> None:
        self.api = api
        self.traefik = traefik
        self.pods = {address: {"serving": True, "terminating": False} for address in ADDRESSES}
        self._port = port
        self.publish()

    def publish(self) -> None:
        """Tell Traefik of the pods as they are."""
        self.api.apply([endpoint_slice("mcp", self._port, self.pods)])

    def terminate(self, address: str, *, serving: bool = True) -> None:
        """The pod was told to stop; it is `serving` as long as its readiness probe succeeds."""
        self.pods[address] = {"serving": serving, "terminating": True}
        self.publish()

    async def answers(self, path: str, **headers: str) -> set[str]:
        """Who answered six requests, or with which status nobody did."""
        responses = [await self.traefik.get(path, **headers) for _ in range(6)]
        return {each.body.decode() if each.status == 200 else str(each.status) for each in responses}

    async def until(self, path: str, expected: set[str], **headers: str) -> None:
        async def asked() -> bool:
            return await self.answers(path, **headers) == expected

        await until(asked, f"{path} answered by {expected}")


@asynccontextmanager
async def cluster(folder: Path, overlay: str, pods: Sequence[ASGIApp]) -> AsyncIterator[Cluster]:
    api = KubeApi()
    api.apply(build(K8S / overlay))
    api_port, port = free_ports(2)
    # As Traefik is by default: without allowEmptyServices.
    provider = {"kubernetesCRD": {"endpoint": f"http://127.0.0.1:{api_port}", "token": "x", "namespaces": ["mcp"]}}
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, api, await open_listeners([f"127.0.0.1:{api_port}"]))
        for address, pod in zip(ADDRESSES, pods, strict=True):
            await nursery.start(serve, pod, await open_listeners([f"{address}:{port}"]))
        async with balancer(folder, provider, dev=overlay.endswith("dev")) as traefik:
            found = Cluster(api, traefik, port)
            await traefik.loaded(5)
            yield found
        nursery.cancel_scope.cancel("the test is over")


def _echoes() -> list[Pod]:
    return [Pod(address) for address in ADDRESSES]


@pytest.mark.parametrize("overlay", ["base", "overlays/dev"])
async def test_traefik_takes_from_the_manifests_what_it_takes_from_the_file(tmp_path: Path, overlay: str) -> None:
    async with cluster(tmp_path, overlay, _echoes()) as here:
        services = await here.traefik.listed("services")
        (mcp,) = (each["loadBalancer"] for each in services.values() if "sticky" in each.get("loadBalancer", {}))
        shipped = routing()["services"]["mcp"]["loadBalancer"]
        secure = overlay == "base"
        cookie = {**shipped["sticky"]["cookie"], "secure": secure}
        assert mcp["sticky"]["cookie"] == {name: value for name, value in cookie.items() if value}
        assert mcp["strategy"] == shipped["strategy"]
        assert mcp["serversTransport"].startswith("mcp-mcp")
        (retry,) = (await here.traefik.listed("middlewares")).values()
        wanted = routing()["middlewares"]["mcp-retry"]["retry"]
        assert {name: retry["retry"][name] for name in wanted} == wanted
        first = await here.traefik.get("/mcp")
        attributes = (
            "Path=/mcp; HttpOnly; Secure; SameSite=Strict" if secure else "Path=/mcp; HttpOnly; SameSite=Strict"
        )
        assert first.cookies[0].endswith(attributes)
        for path in ("/graphql", "/mcpfoo"):
            assert await here.answers(path) == set(ADDRESSES)
            assert not (await here.traefik.get(path)).cookies


async def test_the_overlay_for_production_serves_its_host_and_no_other(tmp_path: Path) -> None:
    async with cluster(tmp_path, "overlays/prod", _echoes()) as here:
        assert (await here.traefik.get("/mcp")).status == 404
        await here.until("/graphql", set(ADDRESSES), host="mcp.example.com")
        await here.until("/mcp", set(ADDRESSES), host="mcp.example.com")


async def test_a_pod_that_terminates_and_serves_keeps_its_sessions_and_gets_no_new_ones(tmp_path: Path) -> None:
    nodes = [_node(f"pod-{number}") for number in (1, 2, 3)]
    async with _running(nodes), cluster(tmp_path, "base", nodes) as here:
        clients = [LegacyClient(f"{here.traefik.url}/mcp", fresh=True) for _ in range(6)]
        for client in clients:
            assert not (await client.initialize()).error
        assert {client.node for client in clients} == {"pod-1", "pod-2", "pod-3"}
        here.terminate(ADDRESSES[0])
        await here.until("/where", {"pod-2", "pod-3"})
        for client in clients:
            assert (await client.tool("where")).told == {"result": client.node}
        newcomers = [LegacyClient(f"{here.traefik.url}/mcp", fresh=True) for _ in range(6)]
        for newcomer in newcomers:
            assert not (await newcomer.initialize()).error
        assert {newcomer.node for newcomer in newcomers} == {"pod-2", "pod-3"}


def _node(name: str) -> HttpApp:
    mcp = MCPServer("pod")

    @mcp.tool
    async def where() -> str:
        return name

    @mcp.custom_route("/where")
    async def where_over_http(_: Any) -> str:
        return name

    return mcp.http_app(node_id=name, allowed_hosts=["*"])


@asynccontextmanager
async def _running(nodes: Sequence[HttpApp]) -> AsyncIterator[None]:
    async with nodes[0].running(), nodes[1].running(), nodes[2].running():
        yield


async def test_a_pod_that_terminates_and_is_not_ready_loses_its_clients_which_is_why_readiness_is_livez(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, "base", _echoes()) as here:
        first = await here.traefik.get("/mcp")
        name, cookie = first.body.decode(), first.cookies[0].partition(";")[0]
        assert await here.answers("/mcp", cookie=cookie) == {name}
        here.terminate(name, serving=False)
        await here.until("/mcp", set(ADDRESSES) - {name})
        assert name not in await here.answers("/mcp", cookie=cookie)


async def test_without_a_pod_mcp_is_503_and_comes_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, "base", _echoes()) as here:
        here.pods.clear()
        here.publish()
        await here.until("/mcp", {"503"})
        await here.until("/mcp/", {"503"})
        here.pods = {address: {"serving": True, "terminating": False} for address in ADDRESSES}
        here.publish()
        await here.until("/mcp", set(ADDRESSES))


@pytest.mark.parametrize("change", [{"match": "Pith(`/mcp`)"}, {"middlewares": [{"name": "nobody"}]}])
async def test_a_mistake_in_the_route_is_503_and_never_404(tmp_path: Path, change: Object) -> None:
    async with cluster(tmp_path, "base", _echoes()) as here:
        route = one("IngressRoute", "mcp")
        route["spec"]["routes"][0] |= change
        here.api.apply([route])
        await here.until("/mcp", {"503"})
