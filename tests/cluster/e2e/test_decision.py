"""The decision, row by row: a dedicated router pins clients by cookie, Redis knows which sessions exist, and no more."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.parts import waiting_long
from tests.rig.client import Answer, LegacyClient, NewClient, OpenClient
from tests.rig.cluster import Cluster, cluster
from tests.rig.http_connection import fetch
from tests.rig.records import on_record, record_of, tombstone_of
from tests.rig.request_rounds import patiently
from tests.rig.routing import shipped
from tests.rig.traefik import Traefik, traefik
from tests.rig.waiting import until
from trio_mcp import ANONYMOUS, MCPServer
from trio_mcp.serving.composition import build_app, build_cluster
from trio_mcp.serving.settings import load

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

THIRTY_DAYS = 30 * 24 * 3600
AN_HOUR = 3600
DIGEST = re.compile(r"^[0-9a-f]{32}$")


def _backend(client: LegacyClient) -> str:
    return client.jar["_mcp_backend"]


# The cookie.


async def test_the_first_answer_sets_the_cookie_exactly_as_decided(new_client: NewClient, standing: Cluster) -> None:
    answer = await new_client(standing.url).initialize()
    assert len(answer.set_cookies) == 1
    assert re.fullmatch(
        r"_mcp_backend=[0-9a-f]{16}; Path=/mcp; HttpOnly; Secure; SameSite=Strict", answer.set_cookies[0]
    )


async def test_the_cookie_names_the_node_that_opened_the_session(open_client: OpenClient, standing: Cluster) -> None:
    client = await open_client(standing.url)
    assert _backend(client) == hashlib.sha256(standing.urls[client.node].encode()).hexdigest()[:16]


async def test_twenty_calls_with_the_cookie_stay_on_one_node_without_a_relay(
    open_client: OpenClient, standing: Cluster
) -> None:
    client = await open_client(standing.url)
    answers = [await client.tool("where") for _ in range(20)]
    assert {answer.told["node"] for answer in answers} == {client.node}
    assert {answer.relay for answer in answers} == {""}
    assert [answer.set_cookies for answer in answers] == [[]] * 20


async def test_new_clients_are_spread_over_all_nodes(open_client: OpenClient, standing: Cluster) -> None:
    opened = [await open_client(standing.url) for _ in range(9)]
    assert Counter(client.node for client in opened) == {"node1": 3, "node2": 3, "node3": 3}


# What is not MCP.


async def test_other_paths_go_round_all_nodes_and_get_no_cookie(open_client: OpenClient, standing: Cluster) -> None:
    client = await open_client(standing.url)
    headers = {"cookie": f"_mcp_backend={_backend(client)}"}
    answers = [await fetch(f"{standing.traefik.url}/graphql", headers=headers) for _ in range(12)]
    assert Counter(answer.json()["node"] for answer in answers) == {"node1": 4, "node2": 4, "node3": 4}
    assert [answer.cookies for answer in answers] == [[]] * 12


@pytest.mark.parametrize(
    ("path", "router"),
    [("/mcp", "mcp-new"), ("/mcp/", "mcp-new"), ("/mcp/below", "mcp-new"), ("/mcpfoo", "app"), ("/", "app")],
)
async def test_only_mcp_and_what_is_below_it_is_mcp(standing: Cluster, path: str, router: str) -> None:
    answer = await fetch(f"{standing.traefik.url}{path}?asked={router}")
    routed = await _line(standing.traefik, f"{path}?asked={router}")
    assert routed == router
    assert bool(answer.cookies) == (router == "mcp-new")


async def _line(balancer: Traefik, path: str) -> str:
    async def asked() -> str:
        return next((request.router for request in balancer.requests() if request.path == path), "")

    return await until(asked, f"the access log has {path}")


# The routers.


async def test_every_router_is_enabled(standing: Cluster) -> None:
    routers = await standing.traefik.routers()
    assert {name: router["status"] for name, router in routers.items()} == dict.fromkeys(routers, "enabled")
    assert set(routers) == {"mcp", "mcp-new", "mcp-metadata", "mcp-unavailable", "app", "ping"}


async def test_the_routers_of_mcp_stand_above_the_default_one(standing: Cluster) -> None:
    routers = await standing.traefik.routers()
    by_priority = sorted(routers, key=lambda name: routers[name]["priority"], reverse=True)
    assert by_priority[:4] == ["mcp-new", "mcp-metadata", "mcp", "mcp-unavailable"]
    assert routers["mcp"]["rule"] == "Path(`/mcp`) || PathPrefix(`/mcp/`)"


@pytest.mark.parametrize("broken", [("mcp",), ("mcp", "mcp-new")], ids="+".join)
async def test_a_broken_rule_gives_503_on_mcp_never_404(
    standing: Cluster, tmp_path: Path, broken: tuple[str, ...]
) -> None:
    async with traefik(tmp_path / "traefik", shipped(standing.urls)) as balancer:
        balancer.load(_with_broken_rules(shipped(standing.urls), broken))
        await until(lambda: _disabled(balancer, set(broken)), f"{broken} are disabled")
        session = await fetch(balancer.mcp_url, "POST", {"mcp-session-id": "node1.x"}, b"{}")
        assert session.status == 503
        if "mcp-new" in broken:
            assert (await fetch(balancer.mcp_url, "POST", {}, b"{}")).status == 503
        assert (await fetch(f"{balancer.url}/graphql")).status == 200


def _with_broken_rules(dynamic: str, names: tuple[str, ...]) -> str:
    for name in names:
        dynamic, times = re.subn(
            rf"(?m)^(    {name}:\n(?:\s*#.*\n)*\s+rule: ').*'", r"\1Pathological(`/mcp`)'", dynamic
        )
        assert times == 1
    return dynamic


async def _disabled(balancer: Traefik, names: set[str]) -> bool:
    routers = await balancer.routers()
    return {name for name, router in routers.items() if router["status"] == "disabled"} == names


# Redis.


async def test_a_session_is_one_key_with_a_ttl_of_thirty_days(open_client: OpenClient, standing: Cluster) -> None:
    client = await open_client(standing.url)
    await on_record(standing, client.session)
    ttl = await standing.redis.ask("TTL", f"mcp:session:{client.session}")
    assert THIRTY_DAYS - 60 < ttl <= THIRTY_DAYS


async def test_its_value_says_whose_it_is_and_where_and_holds_no_transport_state(
    open_client: OpenClient, standing: Cluster
) -> None:
    client = await open_client(standing.url)
    await client.tool("where")
    await on_record(standing, client.session)
    record = await record_of(standing, client.session)
    node = standing.node(client.node)
    assert DIGEST.match(record.pop("principal"))
    assert record.pop("created") > 0
    assert record == {
        "v": 1,
        "node": node.name,
        "boot": await node.boot(),
        "epoch": 0,
        "url": node.url,
        "version": "2025-11-25",
        "info": {"name": "rig", "version": "1"},
        "capabilities": {},
        "initialized": False,  # only a restore would want to know: it is written when restore is on
        "log_level": "info",
        "subscriptions": [],
        "restorable": False,
        "released": False,
        "transport": "",  # only what lives on one connection names it
    }


async def test_a_thousand_local_calls_ask_redis_nothing(open_client: OpenClient, standing: Cluster) -> None:
    clients = [await open_client(standing.url) for _ in range(4)]
    await on_record(standing, *(client.session for client in clients))
    async with standing.redis.monitor() as monitor:
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(_call, client, 250)
        await standing.redis.ask("PING", "all of it was seen")
        await monitor.says("all of it was seen")
    upkeep = re.compile(r'"PING"|"mcp:(nodes?|moves)\b')
    assert [line for line in monitor.lines if not upkeep.search(line)] == []


async def _call(client: LegacyClient, times: int) -> None:
    for _ in range(times):
        assert not (await client.tool("add", a=1, b=2)).error


async def test_a_session_costs_redis_one_write_and_no_read(open_client: OpenClient, standing: Cluster) -> None:
    async with standing.redis.monitor() as monitor:
        client = await open_client(standing.url)
        await client.tool("where")
        await monitor.says(client.session)
        await standing.redis.ask("PING", "seen")
        await monitor.says("seen")
    commands = [line.split('"')[1] for line in monitor.lines if client.session in line]
    assert commands == ["SET"]


# has_session.


async def test_has_session_is_false_for_one_of_another_node_and_the_log_tells_it_from_an_unknown_one(
    open_client: OpenClient, standing: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    client = await open_client(standing.url)
    await on_record(standing, client.session)
    settings = load(node_id="observer", redis_url=standing.redis.url, secret=standing.secret)
    app = build_app(MCPServer("observer"), settings)
    observer = build_cluster(app, settings)
    assert observer is not None
    with waiting_long():
        async with observer.running(), app.running():
            with caplog.at_level(logging.WARNING):
                assert await app.hub.has_session(f"{client.node}.nobody-knows-it", ANONYMOUS) is False
                assert "session is elsewhere" not in caplog.text
                assert await app.hub.has_session(client.session, ANONYMOUS) is False
                assert "session is elsewhere" in caplog.text


# The end of a session.


async def _told_by_all(cluster: Cluster, session: str) -> set[tuple[int, str]]:
    """Status and reason, as each node gives them to who asks it directly."""
    answers = []
    for node in cluster.nodes:
        client = LegacyClient(f"{node.url}/mcp")
        client.session = session
        answers.append(await patiently(client))
        client.close()
    return {(answer.status, answer.reason) for answer in answers}


async def _buried(cluster: Cluster, session: str) -> dict[str, Any]:
    """The tombstone, once it has taken the record's place."""

    async def asked() -> dict[str, Any]:
        recorded = await record_of(cluster, session)
        return {} if recorded else await tombstone_of(cluster, session)

    stone = await until(asked, "the session has a tombstone and no record")
    assert 0 < await cluster.redis.ask("TTL", f"mcp:closed:{session}") <= AN_HOUR
    return stone


async def _deleted(client: LegacyClient) -> Answer:
    return await client.delete()


async def _crashed(client: LegacyClient) -> Answer:
    return await client.tool("crash")


async def _deleted_with_a_close_that_raises(client: LegacyClient) -> Answer:
    await client.tool("crash_on_close")
    return await client.delete()


@pytest.mark.parametrize(
    ("end", "reason"),
    [(_deleted, "deleted"), (_crashed, "crashed"), (_deleted_with_a_close_that_raises, "deleted")],
    ids=["DELETE", "crash", "a local close that raised"],
)
async def test_a_session_that_ends_leaves_a_tombstone_in_place_of_its_record(
    open_client: OpenClient, standing: Cluster, end: Any, reason: str
) -> None:
    client = await open_client(standing.url)
    assert not (await end(client)).error
    stone = await _buried(standing, client.session)
    assert stone["reason"] == reason
    assert DIGEST.match(stone["principal"])
    assert await _told_by_all(standing, client.session) == {(404, reason)}


async def test_the_close_that_raised_is_in_the_log(open_client: OpenClient, standing: Cluster) -> None:
    client = await open_client(standing.url)
    await _deleted_with_a_close_that_raises(client)
    label = client.session.rpartition(".")[2][:8]

    async def asked() -> list[dict[str, Any]]:
        return [line for line in standing.node(client.node).events("session crashed") if line["session"] == label]

    assert "was asked to fail" in json.dumps(await until(asked, "the log tells of the close"))


async def test_a_session_nobody_uses_leaves_one_too(open_client: OpenClient) -> None:
    async with cluster(flags=["--session-idle-timeout", "500ms"]) as own:
        client = await open_client(own.url)
        stone = await _buried(own, client.session)
        assert stone["reason"] == "expired"
        assert await _told_by_all(own, client.session) == {(404, "expired")}
