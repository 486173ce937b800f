"""Bearer tokens on several nodes: who judges them, what reaches the owner of a session, and what the store holds."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.auth.issuer import ISSUER, NOW, rsa_key, token, verifier
from tests.cluster.nodes import Activity, Node, at, demo, hops_of, in_process_cluster, stranger
from tests.cluster.test_router import reason_of, said_by
from tests.transports.http.harness import Exchange, SessionClient
from tests.transports.http.test_authorization import NO_ERROR, bearer, sent
from trio_mcp import MCPServer

OVER_BOTH_STORES = True

UNKNOWN_ID = "node1.AAAAAAAAAAAAAAAAAAAAAAAA"

ANN = sent(token())
ANNS_OTHER_CLIENT = sent(token(client_id="phone"))
BOB = sent(token(sub="bob"))
LATER = 1_000.0
"""Seconds by which the clock of node1 is ahead where a test says so."""


def guarded(name: str, activity: Activity) -> MCPServer:
    mcp = demo(name, activity)
    mcp.auth = bearer()
    return mcp


def guarded_by_another_clock(name: str, activity: Activity) -> MCPServer:
    mcp = demo(name, activity)
    ahead = LATER if name == "node1" else 0.0
    mcp.auth = bearer(verifier(now=lambda: NOW + ahead), now=lambda: NOW + ahead)
    return mcp


def judged(node: Node, outcome: str, reason: str = "") -> float:
    return node.metric(f'trio_mcp_auth_total{{outcome="{outcome}",reason="{reason}"}}')


def hop(session_id: str, secret: bytes | None = None) -> dict[str, str]:
    hops = hops_of("node1") if secret is None else hops_of("node1", secret)
    return {"trio-mcp-hop": hops.sign("POST", b"/mcp", session_id).decode()}


async def challenge(exchange: Exchange, status: int = 401) -> str:
    assert await exchange.head() == status
    return exchange.headers["www-authenticate"]


@pytest.mark.requirement("auth-52")
async def test_a_relayed_request_is_judged_by_both_nodes(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=ANN)
        here, there = judged(nodes[1], "allowed"), judged(nodes[2], "allowed")
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        assert judged(nodes[1], "allowed") == here + 1
        assert judged(nodes[2], "allowed") == there + 1
        assert nodes[2].relayed == 1


@pytest.mark.requirement("auth-53")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (sent(token(exp=NOW - 31)), 401),
        (sent(token(rsa_key("other"))), 401),
        (sent(token(scope="other")), 403),
    ],
    ids=["none", "expired", "forged", "without the scope"],
)
async def test_what_the_first_node_refuses_reaches_neither_the_owner_nor_the_store(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=ANN)
        nodes[2].asked.clear()
        for begin in _REQUESTS:
            assert (await challenge(begin(stranger(nodes[2], client.id), headers), status)).startswith("Bearer ")
        assert nodes[1].heard == []
        assert nodes[2].asked == []
        assert nodes[1].activity.ran == []


@pytest.mark.requirement("auth-54")
async def test_the_owners_refusal_comes_back_as_it_is(tmp_path: Path) -> None:
    good, ending = sent(token(exp=NOW + 3600)), sent(token(exp=NOW + 300))
    async with in_process_cluster(tmp_path, build=guarded_by_another_clock) as nodes:
        client = await nodes[1].wire.open(headers=good)
        exchange = at(nodes[2], client).tool("where", headers=ending)
        owners = await challenge(exchange)
        assert 'error="invalid_token", error_description="The token has expired"' in owners
        assert owners == await challenge(client.tool("where", headers=ending))
        assert judged(nodes[2], "allowed") == 1
        assert nodes[1].activity.ran == []


@pytest.mark.requirement("auth-55")
@pytest.mark.parametrize("kind", ["forged", "right"])
async def test_a_hop_is_no_token(tmp_path: Path, kind: str) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=ANN)
        signed = hop(client.id, b"guessed" if kind == "forged" else None)
        for node in nodes.nodes:
            assert await challenge(stranger(node, client.id).tool("where", headers=signed)) == NO_ERROR
        assert nodes[1].activity.ran == []


@pytest.mark.requirement("auth-56")
async def test_a_hop_opens_no_session_to_the_token_of_another(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=ANN)
        for other in (BOB, ANNS_OTHER_CLIENT):
            theirs = stranger(nodes[1], client.id).tool("where", headers={**other, **hop(client.id)})
            assert await reason_of(theirs) == "unknown"
        assert await said_by(client.tool("where")) == "node1"


@pytest.mark.requirement("auth-57")
async def test_a_session_is_restored_for_its_principal_alone(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded, restore=True) as nodes:
        client = await nodes[1].wire.open(headers=ANN)
        await nodes[1].die()
        for other in (BOB, ANNS_OTHER_CLIENT):
            assert await reason_of(stranger(nodes[2], client.id).tool("where", headers=other)) == "unknown"
            assert await reason_of(stranger(nodes[2], client.id).delete(headers=other)) == "unknown"
        renewed = sent(token(exp=NOW + 3000, scope="mcp:read mcp:write"))
        assert await said_by(at(nodes[2], client).tool("where", headers=renewed)) == "node2"
        assert await reason_of(stranger(nodes[2], client.id).tool("where", headers=BOB)) == "unknown"
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"


@pytest.mark.requirement("auth-43")
async def test_to_others_a_session_is_like_one_that_never_was_on_every_node(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        client = await nodes[1].wire.open(headers=ANN)
        for node in nodes.nodes:
            for other in (BOB, ANNS_OTHER_CLIENT):
                for begin in _REQUESTS:
                    theirs, unknown = [
                        await _whole(begin(stranger(node, session_id), other)) for session_id in (client.id, UNKNOWN_ID)
                    ]
                    assert theirs == unknown
                    assert theirs[0] == 404
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"


_REQUESTS: Sequence[Callable[[SessionClient, dict[str, str]], Exchange]] = (
    lambda client, headers: client.tool("where", id=1, headers=headers),
    lambda client, headers: client.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers),
    lambda client, headers: client.post({"jsonrpc": "2.0", "id": 1, "result": {}}, headers),
    lambda client, headers: client.listen(headers=headers),
    lambda client, headers: client.listen("0-1", headers=headers),
    lambda client, headers: client.delete(headers=headers),
)


async def _whole(exchange: Exchange) -> tuple[int, dict[str, str], bytes]:
    status = await exchange.head()
    headers = {name: value for name, value in exchange.headers.items() if name != "date"}
    return status, headers, await exchange.raw.body()


@pytest.mark.requirement("auth-58")
@pytest.mark.requirement("auth-59")
async def test_neither_store_nor_logs_nor_metrics_see_token_or_claim(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mine = token(sub="somebody", client_id="someclient", email="somebody@example.org")
    bad = token(rsa_key("other"), sub="somebody")
    written: list[str] = []
    async with in_process_cluster(tmp_path, build=guarded, restore=True) as nodes:
        for node in nodes.nodes:
            _note_what_is_written(node, written)
        client = await nodes[1].wire.open(headers=sent(mine))
        assert await said_by(at(nodes[2], client).tool("where")) == "node1"
        assert await at(nodes[2], client).tool("where", headers=sent(bad)).head() == 401
        await nodes[1].die()
        assert await said_by(at(nodes[2], client).tool("where")) == "node2"
        assert await at(nodes[2], client).delete().nothing() == 204
        await nodes[2].flushed()
        pages = [node.app.service.metrics.render()[0].decode() for node in nodes.nodes]
    assert any(client.id in text for text in written)
    secrets = [mine, bad, *mine.split("."), bad.split(".")[2], "somebody@example.org"]
    for text in (*written, *pages, caplog.text, *(str(vars(record)) for record in caplog.records)):
        assert not any(secret in text for secret in secrets)
    for text in (*written, *pages):
        assert "somebody" not in text
        assert "someclient" not in text
    refusals = [record for record in caplog.records if record.message == "request refused"]
    assert [record.__dict__["mcp_fields"]["reason"] for record in refusals] == ["signature"]


def _note_what_is_written(node: Node, written: list[str]) -> None:
    run: Callable[[Sequence[Any]], Awaitable[list[Any]]] = node.store.run

    async def noted(operations: Sequence[Any]) -> list[Any]:
        written.extend(map(repr, operations))
        return await run(operations)

    node.store.run = noted  # type: ignore[method-assign]


@pytest.mark.requirement("auth-60")
async def test_every_node_answers_the_metadata_alike(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        answers = {await _metadata(node) for node in nodes.nodes}
        nodes[2].stop_asked()
        answers.add(await _metadata(nodes[2]))
        nodes[2].hand_over()
        answers.add(await _metadata(nodes[2]))
        assert len(answers) == 1
        assert ISSUER.encode() in answers.pop()


async def _metadata(node: Node) -> bytes:
    exchange = node.wire.start("GET", path="/.well-known/oauth-protected-resource/mcp")
    assert await exchange.head() == 200
    return await exchange.raw.body()


async def test_a_session_opened_by_a_peer_is_the_callers_own(tmp_path: Path) -> None:
    async with in_process_cluster(tmp_path, build=guarded) as nodes:
        nodes[2].hand_over()
        await nodes.meet()
        client = await nodes[2].wire.open(headers=ANN)
        assert client.id.startswith("node1.")
        assert await reason_of(stranger(nodes[2], client.id).tool("where", headers=BOB)) == "unknown"
        assert await challenge(nodes[2].wire.initialize()) == NO_ERROR
        assert len(nodes[1].app.hub.sessions) == 1
