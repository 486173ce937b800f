"""A request for another node's session: to its owner and back, whatever the owner does meanwhile."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.cluster.peers import (
    BOOT,
    HOPS,
    PATIENCE,
    SESSION,
    RawClient,
    ask,
    black_hole,
    client_of,
    free_url,
    livez,
    ok,
    owner_at,
    raw_peer,
    read_request,
    relaying_to,
    request,
    serving,
)
from tests.transports.listener.harness import Answer, answers, echo, read_body, reply
from trio_mcp.cluster.hop import Hops
from trio_mcp.cluster.owner_cache import Owner
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.outcomes import (
    STRANGER,
    Broken,
    Misdirected,
    Outcome,
    Refused,
    Relayed,
    Unanswered,
    Unreachable,
)
from trio_mcp.cluster.peer.relaying import Patience
from trio_mcp.transports.http.exchange import HOP, HttpExchange, send_within
from trio_mcp.transports.listener import Limits, Receive, Scope, Send

pytestmark = pytest.mark.sockets

CLOSING = "Connection: close"


async def answer_of(url: str, said: bytes, method: str = "POST") -> Answer:
    (answer,) = answers(await ask(url, said), [method])
    return answer


async def shown(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it got, as JSON."""
    body = await read_body(receive)
    got = {
        "method": scope["method"],
        "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode(),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": (body or b"").decode("latin-1"),
    }
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(got).encode()})


# What travels


async def test_the_owner_gets_the_request_as_the_client_sent_it() -> None:
    async with serving(shown) as url, relaying_to(url) as (_, own):
        travelling = [
            "Origin: https://a",
            "Authorization: Bearer x",
            "Cookie: a=b",
            "X-Forwarded-For: 1.2.3.4",
            "X-B: 1",
        ]
        answer = await answer_of(own, request("POST", "/mcp?a=%20", b'{"x":1}', *travelling, "X-B: 2", CLOSING))
    got = json.loads(answer.body)
    assert (got["method"], got["target"], got["body"]) == ("POST", "/mcp?a=%20", '{"x":1}')
    assert [": ".join(field) for field in got["headers"] if field[0] != HOP.decode()] == [
        "host: mcp.example.com",
        *(each.split(":")[0].lower() + ":" + each.split(":", 1)[1] for each in travelling),
        "x-b: 2",
        "content-length: 7",
    ]


async def test_the_owner_can_tell_that_a_peer_relayed_the_request_and_which() -> None:
    async with serving(shown) as url, relaying_to(url) as (_, own):
        answer = await answer_of(own, request("DELETE", "/mcp?q", b"", CLOSING))
    (hop,) = [value for name, value in json.loads(answer.body)["headers"] if name == HOP.decode()]
    verifier = Hops([b"secret"], node="node2", boot="x")
    assert verifier.verify(hop.encode(), "DELETE", b"/mcp?q", SESSION) == "node1"
    assert verifier.verify(hop.encode(), "DELETE", b"/mcp", SESSION) is None


async def test_what_belongs_to_one_connection_or_is_said_between_nodes_stays_behind() -> None:
    hop_by_hop = [
        "Connection: close, X-Mine",
        "X-Mine: 1",
        "Keep-Alive: 5",
        "TE: trailers",
        "Upgrade: h2c",
        "Trailer: a",
    ]
    forged = [
        "Trio-Mcp-Hop: node9.b.1.c",
        "Trio-Mcp-PeerClient: a to b",
        "Proxy-Connection: close",
        "Expect: 100-continue",
    ]
    async with serving(shown) as url, relaying_to(url) as (_, own):
        answer = await answer_of(own, request("POST", "/", b"{}", *hop_by_hop, *forged).replace(b"Expect", b"X-Expect"))
    names = [name for name, _ in json.loads(answer.body)["headers"]]
    assert names == ["host", "x-expect", HOP.decode(), "content-length"]


async def test_an_expectation_is_met_where_it_is_read() -> None:
    async with serving(shown) as url, relaying_to(url) as (_, own), client_of(own) as client:
        await client.say(request("POST", "/", b"{}", "Expect: 100-continue", CLOSING)[:-2])
        await client.until(b"100 Continue\r\n\r\n")
        await client.say(b"{}")
        (answer,) = answers(await client.rest(), ["POST"])
    assert "expect" not in [name for name, _ in json.loads(answer.body)["headers"]]


async def test_a_request_of_http_1_0_without_host_becomes_one_of_1_1_that_is_valid() -> None:
    async with serving(shown) as url, relaying_to(url) as (_, own):
        heard = await ask(own, b"GET /mcp HTTP/1.0\r\n\r\n")
    assert ["host", ""] in json.loads(heard.partition(b"\r\n\r\n")[2])["headers"]


async def test_the_client_gets_the_response_as_the_owner_sent_it_and_who_relayed_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fields = [(b"mcp-session-id", b"abc"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"trio-mcp-x", b"y")]
        await send({"type": "http.response.start", "status": 404, "headers": fields})
        await send({"type": "http.response.body", "body": b"nothing"})

    async with serving(app) as url, relaying_to(url) as (front, own):
        heard = await ask(own, request("POST", "/", b"{}", CLOSING))
    head, _, body = heard.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 404 Not Found"
    assert lines[1:4] == [b"mcp-session-id: abc", b"set-cookie: a=1", b"set-cookie: b=2"]
    assert b"trio-mcp-relay: node1 to node2" in lines
    assert not [line for line in lines if line.startswith(b"trio-mcp-x")]
    assert len([line for line in lines if line.startswith((b"date:", b"content-length:", b"connection:"))]) == 3
    assert body == b"nothing"
    assert front.outcomes == [Relayed(404)]


async def test_headers_that_would_end_early_are_never_sent() -> None:
    scope = {"method": "POST", "path": "/", "headers": [(b"host", b"a"), (b"x", b"1\r\nMcp-Session-Id: other")]}
    exchange = HttpExchange.over_asgi(scope, _never, _swallow)
    with pytest.raises(ValueError, match="line break"):
        await PeerClient(HOPS, node="node1").send(exchange, b"", SESSION, owner_at(free_url()))


async def test_a_target_that_would_end_early_stays_within_its_line() -> None:
    """HTTP/2 carries the target in a field of its own; some servers let anything pass in there."""
    told = b"/mcp HTTP/1.1\r\nhost: b\r\n\r\nDELETE /"
    scope = {"method": "POST", "path": "/mcp", "raw_path": told, "query_string": b"a b", "headers": [(b"host", b"a")]}
    said: list[bytes] = []

    async def handle(stream: trio.SocketStream) -> None:
        said.append(await read_request(stream))
        await stream.send_all(ok(b""))

    relay = PeerClient(HOPS, node="node1")
    async with raw_peer(handle) as url, relay.running():
        exchange = HttpExchange.over_asgi(scope, _never, _swallow)
        assert await relay.send(exchange, b"", SESSION, owner_at(url)) == Relayed(200)
    lines = said[0].split(b"\r\n")
    target = b"/mcp%20HTTP/1.1%0D%0Ahost:%20b%0D%0A%0D%0ADELETE%20/?a%20b"
    assert lines[:2] == [b"POST " + target + b" HTTP/1.1", b"host: a"]
    hop = lines[2].removeprefix(HOP + b": ")
    assert Hops([b"secret"], node="node2", boot="x").verify(hop, "POST", target, SESSION) == "node1"


# How responses come


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "PATCH"])
async def test_every_method_gets_its_answer_and_the_connection_to_the_owner_is_kept(method: str) -> None:
    ports = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ports.add(scope["client"])
        await echo(scope, receive, send)

    async with serving(app) as url, relaying_to(url) as (front, own), client_of(own) as client:
        for _ in range(3):
            await client.say(request(method, "/mcp"))
            head = await client.until(b"\r\n\r\n")
            if method != "HEAD":
                assert await client.until(b"/mcp {}") == method.encode() + b" /mcp {}"
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert front.outcomes == [Relayed(200)] * 3
    assert len(ports) == 1


@pytest.mark.parametrize("status", [200, 202, 204, 304, 401, 500])
async def test_an_answer_without_a_body_is_one(status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"", status)

    async with serving(app) as url, relaying_to(url) as (front, own):
        for _ in range(2):
            answer = await answer_of(own, request("POST", "/", b"{}", CLOSING))
            assert (answer.status, answer.body) == (status, b"")
        assert front.outcomes == [Relayed(status)] * 2


@pytest.mark.parametrize("size", [1, 1_000, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_bodies_of_all_sizes_pass_both_ways_unchanged(size: int, chunked: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        assert body is not None
        length = [] if chunked else [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        for at in range(0, len(body), 50_000):
            await send({"type": "http.response.body", "body": body[at : at + 50_000], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    sent = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    async with serving(app) as url, relaying_to(url) as (_, own):
        for _ in range(3):
            assert (await answer_of(own, request("POST", "/", sent, CLOSING))).body == sent


async def test_answers_that_differ_in_date_and_length_alone_are_told_apart() -> None:
    async with serving(echo) as url, relaying_to(url) as (_, own), client_of(own) as client:
        for size in (0, 5, 500, 5, 5_000, 0, 70_000, 1):
            await client.say(request("POST", "/", b"x" * size))
            head = await client.until(b"\r\n\r\n")
            assert b"content-length: %d\r\n" % (size + 7) in head
            await client.until(b"POST / " + b"x" * size)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok(b"done"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ndo\r\n2;x=y\r\nne\r\n0\r\nTrailer: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\ndone",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndone",
        b"HTTP/1.1 200\r\nCONTENT-LENGTH:4\r\n\r\ndone",
    ],
    ids=["informational", "chunked", "chunked, with a length", "http/1.0", "until the close", "sparse"],
)
@pytest.mark.parametrize("piece", [1, 1_000], ids=["byte by byte", "at once"])
async def test_a_response_may_be_framed_and_cut_into_packets_as_http_allows(said: bytes, piece: int) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        for at in range(0, len(said), piece):
            await stream.send_all(said[at : at + piece])

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        answer = await answer_of(own, request("POST", "/", b"{}", CLOSING))
    assert (answer.status, answer.body) == (200, b"done")
    assert front.outcomes == [Relayed(200)]


async def test_an_event_does_not_wait_for_the_next() -> None:
    go = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal go
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        for n in range(3):
            await go.wait()
            go = trio.Event()
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % n, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as url, relaying_to(url) as (front, own), client_of(own) as client:
        await client.say(request("GET", "/", b"", CLOSING))
        assert b"text/event-stream" in await client.until(b"\r\n\r\n")
        for n in range(3):
            go.set()
            await client.until(b"data: %d\n\n" % n)
        assert (await client.rest()).endswith(b"0\r\n\r\n")
        assert front.outcomes == [Relayed(200)]


# Who does not take part


async def test_where_nobody_listens_the_owner_refuses() -> None:
    async with relaying_to(free_url()) as (front, own):
        assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).status == 503
    assert front.outcomes == [Refused()]


async def test_an_owner_that_takes_no_connection_is_unreachable() -> None:
    with black_hole() as url:
        async with relaying_to(url, connect_timeout=0.05) as (front, own):
            await ask(own, request("POST", "/", b"{}", CLOSING))
    assert front.outcomes == [Unreachable()]


async def test_a_url_that_makes_no_sense_is_unreachable() -> None:
    async with relaying_to("redis://x") as (front, own):
        await ask(own, request("POST", "/", b"{}", CLOSING))
    assert front.outcomes == [Unreachable()]


class Silent:
    """An owner that answers its first request when `go` is set; and `/livez` as `probed` says."""

    def __init__(self, probed: Callable[[bytes], bytes] | bytes | None, probes: int = 1) -> None:
        self.probed = probed
        self.go = trio.Event()
        self.probes = probes
        self.connections = 0
        self.left = trio.Event()

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        asked = await read_request(stream)
        if asked.startswith(b"GET /livez"):
            await self._livez(stream, asked)
        else:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, stream, scope)
                    await self.go.wait()
                    await stream.send_all(ok(b"late"))
                    nursery.cancel_scope.cancel()

    async def _livez(self, stream: trio.SocketStream, asked: bytes) -> None:
        self.probes -= 1
        if self.probed is None:
            await trio.sleep_forever()
        elif self.probed:
            await stream.send_all(self.probed(asked) if callable(self.probed) else self.probed)
        if not self.probes:
            self.go.set()

    async def _watch(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        await stream.receive_some()
        self.left.set()
        scope.cancel()


@pytest.mark.parametrize("boot", [BOOT, ""], ids=["boot known", "boot unknown"])
async def test_a_slow_answer_is_waited_for_as_long_as_the_owner_shows_itself_alive(boot: str) -> None:
    owner = Silent(livez, probes=3)
    async with raw_peer(owner) as url, relaying_to(url, boot=boot, patience=Patience(head=0.02)) as (front, own):
        assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).body == b"late"
    assert front.outcomes == [Relayed(200)]
    assert owner.connections == 4


async def test_an_answer_that_comes_while_the_owner_is_asked_counts_for_more_than_its_silence_there() -> None:
    asked: list[trio.SocketStream] = []

    async def handle(stream: trio.SocketStream) -> None:
        if (await read_request(stream)).startswith(b"GET /livez"):
            return await asked[0].send_all(ok(b"late"))
        asked.append(stream)
        await trio.sleep_forever()

    async with raw_peer(handle) as url, relaying_to(url, patience=Patience(head=0.02)) as (front, own):
        assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).body == b"late"
    assert front.outcomes == [Relayed(200)]


@pytest.mark.parametrize(
    "probed",
    [
        partial(livez, boot="0000"),
        partial(livez, secret=b"another"),
        ok(f'{{"boot":"{BOOT}"}}'.encode()),
        b"",
        b"nonsense",
        ok(b"{}"),
        ok(b"[]"),
        ok(b"\xff"),
        ok(b'{"boot":"' + b"x" * 100_000 + b'"}'),
        None,
    ],
    ids=[
        "another process",
        "another secret",
        "no proof",
        "closed",
        "nonsense",
        "no boot",
        "no object",
        "no JSON",
        "too long",
        "frozen",
    ],
)
async def test_an_owner_that_neither_answers_nor_shows_itself_alive_leaves_the_request_unanswered(
    probed: Callable[[bytes], bytes] | bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.peer.client.PROBE_SECONDS", 0.1 if probed is None else PATIENCE)
    owner = Silent(probed, probes=-1)
    async with raw_peer(owner) as url, relaying_to(url, patience=Patience(head=0.02)) as (front, own):
        assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).body == b"Unanswered"
        assert front.outcomes == [Unanswered()]
        with trio.fail_after(PATIENCE):
            await owner.left.wait()


async def test_an_owner_frozen_with_half_of_a_large_request_leaves_it_unanswered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_mcp.cluster.peer.client.PROBE_SECONDS", 0.05)

    async def handle(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with (
        raw_peer(handle) as url,
        relaying_to(url, Limits(body_bytes=1 << 25), patience=Patience(head=0.02)) as (front, own),
    ):
        await ask(own, request("POST", "/", bytes(1 << 24), CLOSING))
    assert front.outcomes == [Unanswered()]


async def test_an_owner_that_lives_but_does_not_take_the_request_has_broken_off() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        start = bytes(await stream.receive_some())
        if start.startswith(b"GET /livez"):
            return await stream.send_all(livez(start))
        await trio.sleep_forever()

    limits = Limits(body_bytes=1 << 25)
    async with (
        raw_peer(handle) as url,
        relaying_to(url, limits, patience=Patience(head=0.02, write_timeout=0.2)) as (front, own),
    ):
        await ask(own, request("POST", "/", bytes(1 << 24), CLOSING))
    assert front.outcomes == [Broken()]


# Who breaks off


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 421 Misdirected Request\r\nTrio-Mcp-Misdirected: node2.b\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 421 Misdirected Request\r\nTrio-Mcp-Misdirected: node2.b\r\nContent-Length: 99999\r\n\r\n"
        + b" " * 99999,
    ],
    ids=[
        "nothing",
        "half a head",
        "endless head",
        "oversized head",
        "another protocol",
        "switch",
        "two lengths",
        "short body",
        "421",
        "long 421",
    ],
)
async def test_a_request_without_a_whole_answer_is_broken_off_and_not_sent_again(said: bytes) -> None:
    got = []

    async def handle(stream: trio.SocketStream) -> None:
        got.append(await read_request(stream))
        await stream.send_all(said)

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).body == b"Broken"
    assert front.outcomes == [Broken()]
    assert len(got) == 1


async def test_an_owner_that_resets_the_connection_before_its_answer_has_broken_off() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        # Closing with unread bytes resets.

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        await ask(own, request("POST", "/", b"{}", CLOSING))
    assert front.outcomes == [Broken()]


async def test_what_the_owner_said_before_it_hung_up_on_a_large_request_reaches_the_client() -> None:
    limits = Limits(body_bytes=1 << 25)
    async with serving(echo, Limits(body_bytes=1_000)) as url, relaying_to(url, limits) as (front, own):
        answer = await answer_of(own, request("POST", "/", bytes(1 << 24), CLOSING))
    assert answer.status == 413
    assert front.outcomes == [Relayed(413)]


async def test_a_stream_whose_owner_dies_ends_cleanly(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"9\r\ndata: 1\n\n\r\n20\r\ndata: ha"
        )

    with caplog.at_level(logging.INFO, "trio_mcp.cluster"):
        async with raw_peer(handle) as url, relaying_to(url) as (front, own):
            answer = await answer_of(own, request("GET", "/", b"", CLOSING), "GET")
    # `answers` refuses a chunked body without its last chunk.
    assert answer.body.startswith(b"data: 1\n\n")
    assert front.outcomes == [Relayed(200)]
    assert "owner lost within its response" in caplog.text


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_any_other_response_whose_owner_dies_is_cut_off_for_the_client_too(
    framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\n[1,2,\r\n".encode())

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            answers(await ask(own, request("POST", "/")), ["POST"], closed=False)
    assert front.outcomes == [Relayed(200)]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "nobody here is at fault"


@pytest.mark.parametrize("drop", [b"HTTP/1.1 102 Processing\r\n\r\n", b"x-drop: 1\r\n"], ids=["1xx", "headers"])
async def test_a_head_that_drips_for_ever_is_no_response(drop: bytes) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        if (await read_request(stream)).startswith(b"GET /livez"):
            raise AssertionError("an owner that says something need not be asked")
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 102 Processing\r\n" if drop.startswith(b"x") else drop)
            while True:
                await stream.send_all(drop)
                await trio.sleep(0.02)

    async with raw_peer(handle) as url, relaying_to(url, patience=Patience(head=0.2)) as (front, own):
        assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).body == b"Broken"
    assert front.outcomes == [Broken()]


async def test_a_stream_that_is_silent_too_long_ends_unless_its_owner_lives() -> None:
    """A host that vanished sends no end: nothing but the silence tells of it."""
    alive = True
    probed = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal probed
        asked = await read_request(stream)
        if asked.startswith(b"GET /livez"):
            probed.set()
            return await stream.send_all(livez(asked) if alive else b"")
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")
        await trio.sleep_forever()

    async with (
        raw_peer(handle) as url,
        relaying_to(url, patience=Patience(head=PATIENCE * 3, body=0.02)) as (front, own),
        client_of(own) as client,
    ):
        await client.say(request("GET", "/", b"", CLOSING))
        await client.until(b": hello\n\n")
        for _ in range(2):
            await probed.wait()
            probed = trio.Event()
        assert not front.outcomes
        alive = False
        assert (await client.rest()).endswith(b"0\r\n\r\n")


# Kept connections


async def test_a_kept_connection_that_the_owner_has_closed_is_replaced() -> None:
    closed = trio.Event()
    got = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal got, closed
        got += 1
        await read_request(stream)
        await stream.send_all(ok(b"answer"))
        await stream.aclose()
        closed.set()

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        for _ in range(3):
            assert (await answer_of(own, request("POST", "/", b"{}", CLOSING))).body == b"answer"
            await closed.wait()
            closed = trio.Event()
    assert front.outcomes == [Relayed(200)] * 3
    assert got == 3


async def test_one_that_fails_before_it_took_a_byte_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.cluster.peer.pool.Connection.is_quiet", lambda _: True)
    reset = trio.Event()
    got = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal got
        got += 1
        await read_request(stream)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.send_all(ok(b"answer"))
        if got == 1:
            await release.wait()
        await stream.aclose()
        reset.set()

    release = trio.Event()
    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        await ask(own, request("POST", "/", b"{}", CLOSING))
        release.set()
        await reset.wait()
        await ask(own, request("POST", "/", b"{}", CLOSING))
    assert front.outcomes == [Relayed(200)] * 2
    assert got == 2


async def test_one_that_ends_after_it_took_the_request_is_broken_off_and_nothing_sent_again() -> None:
    got = []

    async def handle(stream: trio.SocketStream) -> None:
        got.append(await read_request(stream))
        await stream.send_all(ok(b"answer"))
        got.append(await read_request(stream))

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        for _ in range(2):
            await ask(own, request("POST", "/", b"{}", CLOSING))
    assert front.outcomes == [Relayed(200), Broken()]
    assert len(got) == 2


@pytest.mark.parametrize(
    "said",
    [ok(b"answer", "Connection: close"), ok(b"answer") + b"HTTP/1.1 408 Request Timeout\r\n\r\n"],
    ids=["end announced", "something follows"],
)
async def test_a_connection_that_cannot_serve_another_request_is_not_kept(said: bytes) -> None:
    connections = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while await read_request(stream):
            await stream.send_all(said)

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        for _ in range(2):
            await ask(own, request("POST", "/", b"{}", CLOSING))
    assert front.outcomes == [Relayed(200)] * 2
    assert connections == 2


async def test_the_end_of_the_relay_closes_what_is_kept() -> None:
    ended = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        while await read_request(stream):
            await stream.send_all(ok(b"answer"))
        ended.set()

    async with raw_peer(handle) as url:
        async with relaying_to(url) as (_, own):
            await ask(own, request("POST", "/", b"{}", CLOSING))
            assert not ended.is_set()
        with trio.fail_after(PATIENCE):
            await ended.wait()


# 421


MISDIRECTED = "HTTP/1.1 421 Misdirected Request\r\nContent-Length: {}\r\n{}\r\n{}"


async def outcome_of(said: str, *, times: int = 1) -> tuple[Outcome | str, bytes]:
    connections = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        while await read_request(stream):
            await stream.send_all(said.encode())

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        for _ in range(times):
            answer = await answer_of(own, request("POST", "/", b"{}", CLOSING))
    assert connections == 1
    assert front.outcomes == front.outcomes[:1] * times
    return front.outcomes[0], answer.body


async def test_a_peer_without_the_session_tells_who_has_it() -> None:
    body = '{"owner":{"node":"node3","boot":"cc","epoch":4,"url":"http://10.0.0.3:8000"}}'
    said = MISDIRECTED.format(len(body), "Trio-Mcp-Misdirected: node2.bb\r\n", body)
    outcome, _ = await outcome_of(said, times=2)
    assert outcome == Misdirected("node2", "bb", Owner("node3", "cc", 4, "http://10.0.0.3:8000"))


@pytest.mark.parametrize(
    "body",
    [
        *('{"owner":null}', "{}", "", "nonsense", "[1]", '{"owner":{"node":1}}', '{"owner":"\xff"}'),
        *("[" * 60_000, '{"zz":' + "[" * 60_000),
    ],
)
async def test_a_peer_that_knows_no_owner_or_makes_no_sense_names_none(body: str) -> None:
    said = MISDIRECTED.format(len(body.encode()), "trio-mcp-misdirected: node2.bb\r\n", body)
    outcome, _ = await outcome_of(said)
    assert outcome == Misdirected("node2", "bb", None)


@pytest.mark.parametrize("header", ["", "Trio-Mcp-Misdirected: nonsense\r\n", "Trio-Mcp-Misdirected: a b.c\r\n"])
async def test_any_other_421_is_an_answer_for_the_client(header: str) -> None:
    outcome, body = await outcome_of(MISDIRECTED.format(12, header, "Host refused"), times=2)
    assert outcome == Relayed(421)
    assert body == b"Host refused"


# Clients


async def wait_until_left(stream: trio.SocketStream, left: trio.Event) -> None:
    with trio.fail_after(PATIENCE):
        assert await stream.receive_some() == b""
    left.set()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["before the head", "within a stream", "within JSON"],
)
async def test_a_client_that_leaves_closes_the_connection_to_the_owner_at_once(begun: bytes) -> None:
    requested, left = trio.Event(), trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(begun)
        requested.set()
        await wait_until_left(stream, left)

    async with raw_peer(handle) as url, relaying_to(url) as (front, own):
        async with client_of(own) as client:
            await client.say(request())
            await requested.wait()
            if b"event-stream" in begun:
                await client.until(b": hello\n\n")
            assert not left.is_set()
        with trio.fail_after(PATIENCE):
            await left.wait()
            await front.ended.wait()
        assert front.outcomes == [Relayed(499)]


async def test_a_client_that_leaves_while_the_owner_is_being_connected_ends_that() -> None:
    with black_hole() as url:
        async with relaying_to(url, connect_timeout=PATIENCE * 3) as (front, own):
            async with client_of(own) as client:
                await client.say(request())
            with trio.fail_after(PATIENCE):
                await front.ended.wait()
    assert front.outcomes == [Relayed(499)]


async def test_a_client_that_stops_reading_loses_its_connection_and_the_owner_stops_too() -> None:
    left = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while True:
                await stream.send_all(bytes(100_000))
        except trio.BrokenResourceError:
            left.set()

    limits = Limits(write_seconds=0.1)
    async with raw_peer(handle) as url, relaying_to(url, limits) as (front, own), client_of(own) as client:
        await client.say(request())
        await left.wait()
        await front.ended.wait()
        assert front.outcomes == [Relayed(499)]


async def test_a_slow_client_slows_the_owner_down_and_gets_everything() -> None:
    sent = 0
    size = 40_000_000

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal sent
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await stream.send_all(bytes(1_000_000))
            sent += 1_000_000

    async with raw_peer(handle) as url, relaying_to(url) as (_, own), client_of(own) as client:
        await client.say(request("POST", "/", b"{}", CLOSING))
        await client.until(b"\r\n\r\n")
        assert sent < size
        assert len(await client.rest()) == size
        assert sent == size


# Other servers than our listener


async def _never() -> Any:
    await trio.sleep_forever()


async def _swallow(message: object) -> None:
    pass


class ForeignServer:
    """An ASGI exchange of a server that tells of a disconnect through `receive` alone."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.leave = trio.Event()
        self.stalled = False

    def exchange(self, write_timeout: float = math.inf) -> HttpExchange:
        scope = {
            "method": "POST",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "query_string": b"",
            "headers": [(b"host", b"a")],
        }
        return HttpExchange.over_asgi(scope, self._receive, partial(send_within, self._send, write_timeout))

    async def _receive(self) -> Any:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.stalled and message["type"] == "http.response.body":
            await trio.sleep_forever()
        self.sent.append(message)
        if not message.get("more_body", True):
            # The end of a response is told like the client's leaving.
            self.leave.set()
            await trio.testing.wait_all_tasks_blocked()


async def test_on_another_server_a_response_passes_as_well() -> None:
    server = ForeignServer()
    async with serving(echo) as url:
        relay = PeerClient(HOPS, node="node1")
        async with relay.running():
            assert await relay.send(server.exchange(), b"{}", SESSION, owner_at(url)) == Relayed(200)
    assert server.sent[0]["status"] == 200
    assert server.sent[1] == {"type": "http.response.body", "body": b"POST /mcp {}"}


async def test_on_another_server_a_client_that_leaves_ends_the_relaying() -> None:
    server, left = ForeignServer(), trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        server.leave.set()
        await wait_until_left(stream, left)

    async with raw_peer(handle) as url:
        exchange = server.exchange()
        assert await PeerClient(HOPS, node="node1").send(exchange, b"{}", SESSION, owner_at(url)) == Relayed(499)
        assert exchange.left
        await left.wait()


async def test_on_another_server_a_client_that_takes_nothing_is_given_up() -> None:
    server = ForeignServer()
    server.stalled = True
    async with serving(echo) as url:
        relay = PeerClient(HOPS, node="node1")
        async with relay.running():
            exchange = server.exchange(write_timeout=0.02)
            assert await relay.send(exchange, b"{}", SESSION, owner_at(url)) == Relayed(499)


async def test_on_another_server_a_response_cut_short_raises_as_it_does_on_ours() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")

    async with raw_peer(handle) as url:
        with pytest.raises(trio.BrokenResourceError, match="node2 ended early"):
            await PeerClient(HOPS, node="node1").send(ForeignServer().exchange(), b"{}", SESSION, owner_at(url))


# Probes


async def test_a_probe_tells_the_boot_of_who_knows_the_secret_or_that_nobody_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe = PeerClient(HOPS, node="node1").probe
    async with raw_peer(Silent(partial(livez, boot="abc"))) as url:
        assert await probe(url) == "abc"
    async with raw_peer(Silent(partial(livez, secret=b"another"))) as url:
        assert await probe(url) == STRANGER
    async with raw_peer(Silent(ok(b'{"boot":"abc","proof":"\\u00e9"}'))) as url:
        assert await probe(url) == STRANGER
    for deep in (b"[" * 60_000, b'{"boot":"abc","zz":' + b"[" * 60_000):
        async with raw_peer(Silent(ok(deep))) as url:
            assert await probe(url) == Unreachable()
    assert await probe(free_url()) == Refused()
    assert await probe("nonsense") == Unreachable()
    monkeypatch.setattr("trio_mcp.cluster.peer.client.PROBE_SECONDS", 0.05)
    with black_hole() as url:
        assert await probe(url) == Unreachable()


async def test_many_at_once_each_get_their_own_answer() -> None:
    async def call(client: RawClient, n: int) -> None:
        for turn in range(20):
            said = b"client %d turn %d!" % (n, turn)
            await client.say(request("POST", "/", said))
            assert (await client.until(b"!")).endswith(said)

    async def one(own: str, n: int) -> None:
        async with client_of(own) as client:
            await call(client, n)

    async with serving(echo) as url, relaying_to(url, max_idle=4) as (front, own), trio.open_nursery() as nursery:
        for n in range(12):
            nursery.start_soon(partial(one, own, n))
    assert front.outcomes == [Relayed(200)] * 240
