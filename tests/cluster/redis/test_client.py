"""Commands over the link: what comes back, and what happens when Redis is slow, frozen, gone or back."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.rig.left_over import descriptors, no_thread_is_within, threads_within
from tests.rig.redis import RedisServer, redis_server
from tests.rig.waiting import PATIENCE, until
from trio_mcp.cluster.redis.client import RedisClient
from trio_mcp.cluster.store.port import OperationRefused, StoreDown

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

LINK = "trio_mcp/cluster/redis"


async def test_the_replies_come_in_the_order_of_the_commands(link: RedisClient) -> None:
    commands = [("SET", "a", b"\x00\xff"), ("GET", "a"), ("INCRBY", "n", 7), ("GET", "none"), ("RPUSH", "l", "x", 1.5)]
    assert await link.run([*commands, ("LRANGE", "l", 0, -1)]) == [b"OK", b"\x00\xff", 7, None, 2, [b"x", b"1.5"]]


async def test_no_commands_have_no_replies(link: RedisClient) -> None:
    assert await link.run([]) == []


async def test_a_large_pipeline_comes_back_whole(link: RedisClient) -> None:
    big = b"x" * 100_000
    replies = await link.run([("SET", f"k{n}", big) for n in range(100)] + [("GET", f"k{n}") for n in range(100)])
    assert replies == [b"OK"] * 100 + [big] * 100


async def test_a_refused_command_costs_the_others_nothing(link: RedisClient) -> None:
    replies = await link.run([("SET", "a", 1), ("LPUSH", "a", 1), ("NOPE",), ("EVALSHA", "0" * 40, 0), ("GET", "a")])
    assert (replies[0], replies[4]) == (b"OK", b"1")
    assert [type(each) for each in replies[1:4]] == [OperationRefused] * 3
    assert [each.code for each in replies[1:4]] == ["WRONGTYPE", "ERR", "NOSCRIPT"]
    assert str(replies[1]) == "WRONGTYPE Operation against a key holding the wrong kind of value"


async def test_an_argument_redis_cannot_take_is_a_mistake_of_the_caller(link: RedisClient) -> None:
    with pytest.raises(TypeError, match="str, int, float or bytes"):
        await link.run([("SET", "a", None)])  # type: ignore[list-item]
    assert await link.run([("EXISTS", "a")]) == [0]


async def test_one_connection_serves_one_run_after_the_other(server: RedisServer, link: RedisClient) -> None:
    ids = {(await link.run([("CLIENT", "ID")]))[0] for _ in range(50)}
    assert len(ids) == 1


async def test_many_runs_share_the_threads_and_their_connections(server: RedisServer) -> None:
    link = RedisClient(server.url, threads=3)
    ids: list[int] = []

    async def once() -> None:
        ids.extend(await link.run([("CLIENT", "ID")]))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(once)
    assert len(ids) == 100
    assert 1 <= len(set(ids)) <= 3
    link.close()


async def test_without_redis_a_run_is_down_and_the_words_name_no_password(server: RedisServer) -> None:
    await server.stop()
    link = RedisClient(f"redis://user:secret@127.0.0.1:{server.port}")
    with trio.fail_after(PATIENCE), pytest.raises(StoreDown, match=f"{server.port}.*refused") as down:
        await link.run([("PING",)])
    assert "secret" not in str(down.value)


async def test_redis_that_stops_breaks_the_run_in_flight(server: RedisServer, link: RedisClient) -> None:
    await link.run([("PING",)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_when_blocked, server)
        with pytest.raises(StoreDown, match=r"(?i)closed|reset"):
            await link.run([("BLPOP", "nothing", 0)])


async def test_redis_that_came_back_is_used_again_without_a_failure_between(server: RedisServer) -> None:
    link = RedisClient(server.url)
    await _use_four_connections(server, link)
    await server.stop()
    await server.start()
    for _ in range(8):
        assert await link.run([("PING",)]) == [b"PONG"]
    link.close()


async def test_frozen_redis_is_down_in_time_however_many_wait(server: RedisServer, link: RedisClient) -> None:
    await link.run([("PING",)])
    server.pause()
    downs = 0

    async def once() -> None:
        nonlocal downs
        with pytest.raises(StoreDown):
            await link.run([("SET", "a", 1)])
        downs += 1

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(once)
    assert downs == 20
    server.resume()
    assert await link.run([("PING",)]) == [b"PONG"]


async def test_a_host_that_does_not_answer_is_down_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the kernel answers nobody after this one
            link = RedisClient(f"redis://127.0.0.1:{port}", connect_timeout=0.2, command_timeout=30 * PATIENCE)
            with trio.fail_after(PATIENCE), pytest.raises(StoreDown, match=r"(?i)timeout"):
                await link.run([("PING",)])
            await no_thread_is_within(LINK)


async def test_a_reply_that_comes_late_is_never_taken_for_the_next_one(server: RedisServer) -> None:
    link = RedisClient(server.url)
    await link.run([("SET", "a", "right"), ("SET", "b", "wrong")])
    server.pause()
    with pytest.raises(StoreDown):
        await link.run([("GET", "b")])
    server.resume()
    assert await link.run([("GET", "a")]) == [b"right"]
    link.close()


async def test_a_cancelled_run_returns_at_once_and_its_thread_ends(server: RedisServer, link: RedisClient) -> None:
    await link.run([("PING",)])
    server.pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, [("PING",)])
        await until(_is_waiting, "its thread waits", pause=0.01)
        nursery.cancel_scope.cancel("changed my mind")
    assert threads_within(LINK) == 1, "it returned although its thread still waits"
    await no_thread_is_within(LINK)


async def test_what_was_given_up_while_connecting_is_never_sent() -> None:
    received: list[bytes] = []
    asked, go_on, over = trio.Event(), trio.Event(), trio.Event()

    async def slow_to_sign_in(stream: trio.SocketStream) -> None:
        received.append(await stream.receive_some())
        asked.set()
        await go_on.wait()
        await stream.send_all(b"+OK\r\n")
        received.append(await stream.receive_some())
        over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, slow_to_sign_in, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            link = RedisClient(f"redis://:secret@127.0.0.1:{listener.socket.getsockname()[1]}")
            async with trio.open_nursery() as giving_up:
                giving_up.start_soon(link.run, [("SET", "owner", "me")])
                await asked.wait()
                giving_up.cancel_scope.cancel("changed my mind")
            go_on.set()
            await over.wait()
            nursery.cancel_scope.cancel("seen enough")
    assert received[0].startswith(b"*2\r\n$4\r\nAUTH")
    assert received[1:] == [b""]


async def test_a_master_that_became_a_replica_is_down_and_its_connection_dropped(
    server: RedisServer, link: RedisClient
) -> None:
    (before,) = await link.run([("CLIENT", "ID")])
    await server.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreDown, match="read only"):
        await link.run([("SET", "a", 1)])
    await server.ask("REPLICAOF", "NO", "ONE")
    assert (await link.run([("CLIENT", "ID")])) != [before]


async def test_redis_that_wants_a_password_is_down_for_who_has_none(tmp_path: Path) -> None:
    async with redis_server(tmp_path, extra=("--requirepass", "secret")) as server:
        with pytest.raises(StoreDown, match="Authentication required"):
            await RedisClient(server.url).run([("PING",)])


async def test_nothing_is_leaked_by_whatever_happens(server: RedisServer) -> None:
    before = descriptors()
    link = RedisClient(server.url)
    for _ in range(3):
        await link.run([("PING",)])
        server.pause()
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(_run_and_give_up, link)
        server.resume()
        await server.stop()
        with pytest.raises(StoreDown):
            await link.run([("PING",)])
        await server.start()
    await no_thread_is_within(LINK)
    await link.run([("PING",)])
    link.close()
    assert descriptors() == before


async def test_what_broke_one_connection_closes_the_idle_others(server: RedisServer) -> None:
    before = descriptors()
    link = RedisClient(server.url)
    await _use_four_connections(server, link)
    assert descriptors() == before + 4
    server.pause()
    with pytest.raises(StoreDown):
        await link.run([("PING",)])
    await no_thread_is_within(LINK)
    assert descriptors() == before


async def test_what_is_in_use_when_the_link_closes_closes_after_its_commands(server: RedisServer) -> None:
    before = descriptors()
    link = RedisClient(server.url)

    async def close_when_blocked() -> None:
        await _are_blocked(server, 1)
        link.close()
        await server.ask("LPUSH", "something", "x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_when_blocked)
        assert await link.run([("BLPOP", "something", 0)]) == [[b"something", b"x"]]
    await no_thread_is_within(LINK)
    assert descriptors() == before


async def _is_waiting() -> bool:
    return threads_within(LINK) == 1


async def _run_and_give_up(link: RedisClient) -> None:
    with trio.move_on_after(0.05):
        await link.run([("PING",)])


async def _use_four_connections(server: RedisServer, link: RedisClient) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(link.run, [("BLPOP", "something", 0)])
        await _are_blocked(server, 4)
        await server.ask("LPUSH", "something", "1", "2", "3", "4")


async def _are_blocked(server: RedisServer, count: int) -> None:
    async def asked() -> bool:
        return b"blocked_clients:%d\r" % count in await server.ask("INFO", "clients")

    await until(asked, f"{count} are blocked", pause=0.01)


async def _stop_when_blocked(server: RedisServer) -> None:
    await _are_blocked(server, 1)
    await server.stop()
