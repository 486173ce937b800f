"""Notifications of clients to extensions: in order, one after the other, bounded, and nobody is harmed by a function that fails."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.http.harness import LEGACY, MODERN, serving
from trio_mcp import Context, Extension, MCPServer, NoBackChannel
from trio_mcp.dispatch.notices import FUNCTION_SECONDS, MAX_WAITING, MAX_WAITING_BYTES

ECHO = "com.example/echo"
HEARD = "notifications/echo/heard"
DECLARED: dict[str, Any] = {"extensions": {ECHO: {}}}


class Noted:
    """A server that notes what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.told = trio.Event()
        self.extension = Extension(ECHO)
        self.mcp = MCPServer("t", extensions=[self.extension])
        self.extension.notification(HEARD)(self.heard)

    async def heard(self, ctx: Context, params: dict[str, Any]) -> None:
        what = params.get("word")
        if what == "crash":
            raise RuntimeError("it failed")
        if what == "hang":
            await trio.sleep_forever()
        if what == "ask":
            await ctx.log("info", "nobody hears this")
            with pytest.raises(NoBackChannel):
                await ctx.list_roots()
        self.said.append((what, ctx.protocol_version))
        self.told.set()


async def test_both_eras_are_heard_and_only_clients_that_declared_the_extension() -> None:
    noted = Noted()
    async with serving(noted.mcp) as wire:
        session, other = await wire.open(LEGACY, DECLARED), await wire.open(LEGACY)
        assert await session.notify(HEARD, {"word": 1}) == 202
        assert await other.notify(HEARD, {"word": 2}) == 202
        assert await session.notify("notifications/echo/unknown") == 202
        for capabilities, word in ((DECLARED, 3), ({}, 4)):
            client = wire.modern(capabilities)
            message = {"jsonrpc": "2.0", "method": HEARD, "params": {"word": word, "_meta": client.meta()}}
            assert await wire.post(message, client.headers(HEARD, {})).nothing() == 202
        without_meta = {"jsonrpc": "2.0", "method": HEARD, "params": {"word": 5}}
        assert await wire.post(without_meta, client.headers(HEARD, {})).nothing() == 202
        await trio.testing.wait_all_tasks_blocked()
    assert noted.said == [(1, LEGACY), (3, MODERN)]


async def test_a_function_that_fails_or_hangs_harms_itself_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    noted = Noted()
    async with serving(noted.mcp) as wire:
        session = await wire.open(LEGACY, {**DECLARED, "roots": {}})
        began = trio.current_time()
        for word in ("crash", "hang", "ask"):
            await session.notify(HEARD, {"word": word})
        await noted.told.wait()
        assert noted.said[0][0] == "ask"
        assert trio.current_time() - began >= FUNCTION_SECONDS
    failed = [record for record in caplog.records if record.message == "notification failed"]
    assert len(failed) == 2


async def test_what_waits_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    noted = Noted()
    async with serving(noted.mcp) as wire:
        client = wire.modern(DECLARED)
        take = wire.app.service.take_notice
        assert take is not None
        message = {"jsonrpc": "2.0", "method": HEARD, "params": {"word": 0, "_meta": client.meta()}}
        await wire.post(message, client.headers(HEARD, {})).nothing()
        await trio.testing.wait_all_tasks_blocked()
        assert len(noted.said) == 1
        with caplog.at_level(logging.WARNING):
            call = kept(wire.app.service, noted)
            for _ in range(MAX_WAITING + 5):
                take(call)
        assert [record.message for record in caplog.records].count("notifications dropped") == 1
        await trio.testing.wait_all_tasks_blocked()
        assert len(noted.said) == MAX_WAITING + 1
        with caplog.at_level(logging.WARNING):
            for _ in range(MAX_WAITING + 5):
                take(call)
        assert [record.message for record in caplog.records].count("notifications dropped") == 2, "once each time"
    assert wire.app.service.take_notice is None


async def test_what_waits_is_bounded_in_bytes() -> None:
    noted = Noted()
    async with serving(noted.mcp) as wire:
        take = wire.app.service.take_notice
        assert take is not None
        call = kept(wire.app.service, noted, "x" * (MAX_WAITING_BYTES // 4))
        for _ in range(2):
            for _ in range(MAX_WAITING):
                take(call)
            await trio.testing.wait_all_tasks_blocked()
        assert len(noted.said) == 2 * 4


def kept(service: Any, noted: Noted, word: object = 1) -> Any:
    """A notification as a transport hands it over."""
    from tests.doubles import DispatchHarness

    harness = DispatchHarness(noted.mcp, MODERN)
    harness.service, harness.capabilities = service, DECLARED
    return harness.call(HEARD, {"word": word})


def test_names_of_notifications_are_taken_once() -> None:
    extension = Noted().extension
    for name in (HEARD, "notifications/cancelled"):
        with pytest.raises(ValueError, match="is taken"):
            extension.notification(name)(lambda ctx, params: None)
