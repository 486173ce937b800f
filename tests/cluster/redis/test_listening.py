"""The listener: in order, in the Trio thread, joined anew after every outage, and gone soon after it is cancelled."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from tests.rig.left_over import descriptors, no_thread_is_within, threads_within
from tests.rig.redis import RedisServer, redis_server
from tests.rig.waiting import PATIENCE, until
from trio_mcp.cluster.redis import client as redis_client
from trio_mcp.cluster.redis import connection as redis_connection
from trio_mcp.cluster.redis.client import RedisClient
from trio_mcp.cluster.redis.connection import RedisConnection, RedisRoute
from trio_mcp.cluster.store.port import StoreDown

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

LINK = "trio_mcp/cluster/redis/client.py"
LISTENER = ("_connect_in_steps", "_hear_messages")
FOR_EVER = 30 * PATIENCE
"""What would hold a listener up holds it up longer than a test waits."""


@dataclass
class _Ear:
    """What a listener was told; it may be waited for."""

    heard: list[bytes] = field(default_factory=list)
    joins: int = 0
    threads: set[threading.Thread] = field(default_factory=set)
    tasks: set[trio.lowlevel.Task] = field(default_factory=set)
    _news: trio.Event = field(default_factory=trio.Event)

    def hear(self, data: bytes) -> None:
        self.heard.append(data)
        self._note()

    def joined(self) -> None:
        self.joins += 1
        self._note()

    def _note(self) -> None:
        self.threads.add(threading.current_thread())
        self.tasks.add(trio.lowlevel.current_task())
        self._news.set()

    async def has(self, state: Callable[[_Ear], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not state(self):
                self._news = trio.Event()
                await self._news.wait()

    async def joined_times(self, count: int) -> None:
        await self.has(lambda ear: ear.joins == count)

    async def heard_many(self, count: int) -> None:
        await self.has(lambda ear: len(ear.heard) == count)


@asynccontextmanager
async def _listening(link: RedisClient, ear: _Ear) -> AsyncIterator[trio.CancelScope]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: link.listen("news", hear=ear.hear, joined=ear.joined))
        yield nursery.cancel_scope
        nursery.cancel_scope.cancel("heard enough")


async def test_messages_come_in_order_and_whole(link: RedisClient) -> None:
    ear = _Ear()
    sent = [b"%d" % n + b"\x00\xff\r\n" * (n % 50) for n in range(500)] + [b"x" * 1_000_000, b""]
    async with _listening(link, ear):
        await ear.joined_times(1)
        for data in sent:
            await link.run([("PUBLISH", "news", data)])
        await ear.heard_many(len(sent))
    assert ear.heard == sent


async def test_a_listener_is_told_in_the_thread_and_the_task_that_listens(link: RedisClient) -> None:
    ear = _Ear()
    async with _listening(link, ear):
        await ear.joined_times(1)
        await link.run([("PUBLISH", "news", "a")])
        await ear.heard_many(1)
    assert ear.threads == {threading.current_thread()}
    assert len(ear.tasks) == 1
    assert trio.lowlevel.current_task() not in ear.tasks


async def test_what_a_listener_does_wrong_ends_its_listening(link: RedisClient) -> None:
    def joined() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await link.listen("news", hear=lambda _: None, joined=joined)
    await _no_thread_listens()


async def test_when_redis_comes_back_the_listener_joins_anew_and_says_so_once_an_outage(
    server: RedisServer, link: RedisClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = _attempts(monkeypatch)
    monkeypatch.setattr(redis_client, "RETRY_AFTER", 0.05)
    caplog.set_level(logging.INFO, "trio_mcp")
    ear = _Ear()
    async with _listening(link, ear):
        await ear.joined_times(1)
        await server.stop()
        await _is_logged("redis channel lost", caplog)
        await until(partial(_more_than, attempts, 4), "it tries in vain, of which nothing shall be said")
        await server.start()
        await ear.joined_times(2)
        await link.run([("PUBLISH", "news", "back")])
        await ear.heard_many(1)
        await server.stop()
        await _is_logged("redis channel lost", caplog, times=2)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["redis channel joined", "redis channel lost"] * 2


async def test_a_listener_that_starts_before_redis_joins_when_it_is_there(
    server: RedisServer, link: RedisClient
) -> None:
    await server.stop()
    ear = _Ear()
    async with _listening(link, ear):
        await server.start()
        await ear.joined_times(1)


async def test_a_quiet_channel_is_asked_whether_it_is_there_and_stays_joined(
    server: RedisServer, link: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "QUIET", 0.1)
    ear = _Ear()
    async with server.monitor() as monitor, _listening(link, ear):

        async def asked_thrice() -> bool:
            return sum('"PING"' in line for line in monitor.lines) >= 3

        await until(asked_thrice, "Redis is asked for a sign of life")
    assert ear.joins == 1


async def test_redis_that_fell_silent_is_left_and_joined_anew(
    server: RedisServer, link: RedisClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_connection, "QUIET", 0.1)
    ear = _Ear()
    async with _listening(link, ear):
        await ear.joined_times(1)
        server.pause()
        await _is_logged("redis channel lost", caplog)
        server.resume()
        await ear.joined_times(2)


async def test_a_user_who_may_not_subscribe_keeps_trying(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rules = ("--user", "node", "on", ">secret", "~*", "+@all", "resetchannels")
    async with redis_server(tmp_path, extra=rules) as server:
        ear = _Ear()
        async with _listening(RedisClient(f"redis://node:secret@127.0.0.1:{server.port}"), ear):
            await _is_logged("redis channel lost", caplog)
            await server.ask("ACL", "SETUSER", "node", "allchannels")
            await ear.joined_times(1)


def test_what_cannot_be_interrupted_in_a_listener_takes_less_than_half_a_second() -> None:
    assert max(redis_client.POLL, redis_client.STEP) < 0.5


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
async def test_a_listener_ends_with_its_cancellation_whatever_redis_does(server: RedisServer, frozen: bool) -> None:
    link = RedisClient(server.url, connect_timeout=FOR_EVER, command_timeout=FOR_EVER)
    ear = _Ear()
    with trio.fail_after(PATIENCE):
        async with _listening(link, ear) as scope:
            await ear.joined_times(1)
            if frozen:
                server.pause()
            scope.cancel("now")
    assert threads_within(LINK, *LISTENER) == 0


@pytest.mark.parametrize("account", ["", ":secret@"], ids=["while subscribing", "while signing in"])
async def test_a_listener_ends_as_soon_when_redis_freezes_before_it_joined(server: RedisServer, account: str) -> None:
    server.pause()
    url = f"redis://{account}127.0.0.1:{server.port}"
    link = RedisClient(url, connect_timeout=FOR_EVER, command_timeout=FOR_EVER)
    async with _listening(link, _Ear()) as scope:
        await until(_is_listening, "the listener is busy", pause=0.01)
        scope.cancel("now")
    await _no_thread_listens()


async def test_a_name_that_takes_long_to_resolve_does_not_hold_up_the_end(
    link: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = threading.Event()

    def slow(*_: object) -> NoReturn:
        resolved.wait(FOR_EVER)
        raise StoreDown("no such host")

    monkeypatch.setattr(RedisRoute, "connect", slow)
    async with _listening(link, _Ear()) as scope:
        await until(_is_listening, "the listener is busy", pause=0.01)
        scope.cancel("now")
    assert await _is_listening(), "it returned although its thread still waits"
    resolved.set()
    await _no_thread_listens()


async def test_listeners_that_come_and_go_leave_nothing_behind(server: RedisServer, link: RedisClient) -> None:
    before = descriptors()
    for _ in range(3):
        ear = _Ear()
        async with _listening(link, ear):
            await ear.joined_times(1)
    server.pause()
    for _ in range(3):
        async with _listening(link, _Ear()):
            await until(_is_listening, "the listener is busy", pause=0.01)
    await _no_thread_listens()
    assert descriptors() == before


async def _is_listening() -> bool:
    return threads_within(LINK, *LISTENER) > 0


async def _no_thread_listens(patience: float = PATIENCE) -> None:
    await no_thread_is_within(LINK, *LISTENER, patience=patience)


def _attempts(monkeypatch: pytest.MonkeyPatch) -> list[RedisRoute]:
    """Grows with each connection that somebody wants."""
    attempts: list[RedisRoute] = []
    connect = RedisRoute.connect

    def counted(route: RedisRoute, connect_timeout: float, timeout: float) -> RedisConnection:
        attempts.append(route)
        return connect(route, connect_timeout, timeout)

    monkeypatch.setattr(RedisRoute, "connect", counted)
    return attempts


async def _more_than(attempts: list[RedisRoute], count: int) -> bool:
    return len(attempts) > count


async def _is_logged(text: str, caplog: pytest.LogCaptureFixture, times: int = 1) -> None:
    async def asked() -> bool:
        return sum(record.getMessage() == text for record in caplog.records) == times

    await until(asked, text)
