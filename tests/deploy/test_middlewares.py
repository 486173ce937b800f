"""The middlewares that deploy/README.md shows: a real Traefik loads each of them, and it does what the page says."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from tests.deploy.balancer import Balancer, Pod, balancer
from tests.deploy.shipped import DEPLOY
from tests.rig.ports import free_ports
from tests.rig.waiting import until
from trio_mcp.cli.export import traefik_dynamic
from trio_mcp.transports.asgi import Receive, Scope, Send

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

SECTION = "### Something in front of the nodes\n"


def examples() -> dict[str, Any]:
    """Each middleware of the section by its name."""
    section = (DEPLOY / "README.md").read_text().split(SECTION)[1].split("\n## ")[0]
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)]
    return {name: middleware for block in blocks for name, middleware in block["http"]["middlewares"].items()}


class Gatekeeper(Pod):
    """Lets only one token through."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 or 401."""
        headers = dict(scope["headers"])
        allowed = headers.get(b"authorization") == b"Bearer good"
        challenge = [] if allowed else [(b"www-authenticate", b'Bearer error="invalid_token"')]
        await send({"type": "http.response.start", "status": 200 if allowed else 401, "headers": challenge})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def with_middleware(folder: Path, name: str, middleware: Any) -> AsyncIterator[Balancer]:
    """Traefik before one node and a gatekeeper, with the middleware on both routers of the endpoint."""
    (folder / "dynamic").mkdir()
    port, gate = free_ports(2)
    routes = yaml.safe_load(traefik_dynamic([f"http://127.0.0.1:{port}"]))
    for router in ("mcp-new", "mcp"):
        routes["http"]["routers"][router]["middlewares"].append(name)
    (folder / "dynamic" / "mcp.yaml").write_text(yaml.safe_dump(routes))
    text = yaml.safe_dump({"http": {"middlewares": {name: middleware}}})
    (folder / "dynamic" / "more.yaml").write_text(text.replace("http://gatekeeper:8080", f"http://127.0.0.1:{gate}"))
    provider = {"file": {"directory": str(folder / "dynamic"), "watch": True}}
    async with trio.open_nursery() as nursery, balancer(folder, provider) as traefik:
        await Pod("node1").listen(nursery, port)
        await Gatekeeper("gatekeeper").listen(nursery, gate)
        await traefik.loaded(6)
        assert (await traefik.listed("middlewares"))[name]["status"] == "enabled"
        await until(lambda: _answers(traefik), "the node answers")
        yield traefik
        nursery.cancel_scope.cancel("the test is over")


async def _answers(traefik: Balancer) -> bool:
    return (await traefik.get("/.well-known/oauth-protected-resource")).status == 200


def test_the_page_shows_three() -> None:
    assert {name: next(iter(middleware)) for name, middleware in examples().items()} == {
        "mcp-rate": "rateLimit",
        "mcp-open": "inFlightReq",
        "mcp-ask": "forwardAuth",
    }


async def test_a_token_that_asks_too_often_gets_429_and_others_do_not(tmp_path: Path) -> None:
    middleware = examples()["mcp-rate"]
    middleware["rateLimit"] |= {"average": 1, "period": "1h", "burst": 3}
    async with with_middleware(tmp_path, "mcp-rate", middleware) as traefik:
        answers = [await traefik.get("/mcp", authorization="Bearer a") for _ in range(4)]
        assert [each.status for each in answers] == [200, 200, 200, 429]
        assert "retry-after" in dict(answers[-1].headers)
        assert (await traefik.get("/mcp", authorization="Bearer b")).status == 200


async def test_what_is_open_at_once_is_bounded(tmp_path: Path) -> None:
    async with with_middleware(tmp_path, "mcp-open", examples()["mcp-open"]) as traefik:
        assert (await traefik.get("/mcp")).status == 200
    middleware = examples()["mcp-open"]
    middleware["inFlightReq"]["amount"] = 0
    (tmp_path / "none").mkdir()
    async with with_middleware(tmp_path / "none", "mcp-open", middleware) as traefik:
        assert (await traefik.get("/mcp")).status == 429


async def test_a_service_is_asked_about_every_request_and_its_challenge_reaches_the_client(tmp_path: Path) -> None:
    async with with_middleware(tmp_path, "mcp-ask", examples()["mcp-ask"]) as traefik:
        assert (await traefik.get("/mcp", authorization="Bearer good")).body == b"node1"
        refused = await traefik.get("/mcp", authorization="Bearer bad")
        assert (refused.status, dict(refused.headers)["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
