"""What stops a call, and what does not: the era decides."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.http.harness import JSON, LEGACY, OLDER, serving
from trio_mcp import Context, MCPServer

VERSIONS = [*OLDER, LEGACY]


class Watched:
    """A server with one tool that runs for an hour, and what became of it."""

    def __init__(self) -> None:
        self.mcp = MCPServer("test")
        self.fate = "not called"
        self.ended = trio.Event()

        @self.mcp.tool
        async def work(ctx: Context, say: bool = False) -> str:
            self.fate = "running"
            try:
                if say:
                    await ctx.report_progress(1)
                await trio.sleep(3_600)
                self.fate = "completed"
            except trio.Cancelled:
                self.fate = "cancelled"
                raise
            finally:
                self.ended.set()
            return "worked"


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.mark.requirement("C1", "gap-cancellation")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_legacy_client_cancels_by_a_notification(
    version: str, autojump_clock: MockClock, watched: Watched
) -> None:
    async with serving(watched.mcp) as wire:
        session = await wire.open(version)
        held_back, streaming = session.tool("work", id="quick"), session.tool("work", id=2)
        await streaming.head()
        for number in ("quick", 2):
            assert (
                await session.notify("notifications/cancelled", {"requestId": number, "reason": "changed my mind"})
                == 202
            )
        # No result comes; an exchange has to end somehow, so it ends with an error.
        assert (await held_back.error())["message"] == "Request cancelled"
        assert (await streaming.error())["message"] == "Request cancelled"
        assert watched.fate == "cancelled"
        assert trio.current_time() < 60


@pytest.mark.requirement("C1")
@pytest.mark.parametrize(
    "params", [{}, {"requestId": None}, {"requestId": 99}, {"requestId": [1]}, {"requestId": 1.0}, {"requestId": "1"}]
)
async def test_a_cancellation_of_nothing_is_ignored(
    params: dict[str, object], autojump_clock: MockClock, watched: Watched
) -> None:
    async with serving(watched.mcp) as wire:
        session = await wire.open()
        call = session.tool("work")
        await call.head()
        assert await session.notify("notifications/cancelled", params) == 202
        assert (await call.result())["content"][0]["text"] == "worked"


@pytest.mark.requirement("C2")
async def test_a_session_cannot_cancel_the_call_of_another(autojump_clock: MockClock, watched: Watched) -> None:
    async with serving(watched.mcp) as wire:
        mine, yours = await wire.open(), await wire.open()
        call = mine.tool("work", id=1)
        await call.head()
        assert await yours.notify("notifications/cancelled", {"requestId": 1}) == 202
        await call.result()
        assert watched.fate == "completed"


@pytest.mark.requirement("L13", "gap-disconnect-safety", "gap-cancellation")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("accept", [None, JSON])
@pytest.mark.parametrize("wait", [0, 5])
async def test_a_legacy_client_that_disconnects_cancels_nothing(
    version: str, accept: str | None, wait: float, autojump_clock: MockClock, watched: Watched
) -> None:
    async with serving(watched.mcp) as wire:
        session = await wire.open(version)
        call = session.tool("work", headers={"accept": accept} if accept else None)
        await trio.sleep(wait)
        call.disconnect()
        await watched.ended.wait()
        assert watched.fate == "completed"
        assert trio.current_time() >= 3_600
        assert await session.start("ping").result() == {}


@pytest.mark.requirement("H10", "gap-disconnect-safety", "gap-cancellation")
@pytest.mark.parametrize("accept", [None, JSON])
@pytest.mark.parametrize("wait", [0.1, 5])
async def test_a_modern_client_that_disconnects_cancels_its_call_at_once(
    accept: str | None, wait: float, autojump_clock: MockClock, watched: Watched
) -> None:
    async with serving(watched.mcp) as wire:
        modern = wire.modern()
        call = modern.tool("work", headers={"accept": accept} if accept else None)
        await trio.sleep(wait)
        assert watched.fate == "running"
        call.disconnect()
        await watched.ended.wait()
        assert watched.fate == "cancelled"
        assert trio.current_time() < wait + 1
        # Nobody else notices, then or later.
        await trio.sleep(60)
        assert (await modern.start("server/discover").result())["capabilities"]


@pytest.mark.requirement("H10")
async def test_nothing_more_is_sent_to_a_modern_client_that_left(autojump_clock: MockClock) -> None:
    mcp = MCPServer("test")

    @mcp.tool
    async def chatty(ctx: Context) -> None:
        for number in range(1_000):
            await ctx.report_progress(number)
            await trio.sleep(1)

    async with serving(mcp) as wire:
        modern = wire.modern()
        params = {"name": "chatty", "arguments": {}}
        call = modern.start("tools/call", params, meta={**modern.meta(), "progressToken": 1})
        await call.message()
        await wait_all_tasks_blocked()
        call.disconnect()
        await call.raw.finished.wait()
        assert b"progress" not in await call.raw.body()
        assert trio.current_time() < 10


@pytest.mark.requirement("H3", "C1")
async def test_a_posted_modern_cancellation_is_accepted_and_never_acted_on(
    autojump_clock: MockClock, watched: Watched
) -> None:
    async with serving(watched.mcp) as wire:
        mine, theirs = wire.modern(), wire.modern()
        call = mine.start("tools/call", {"name": "work"}, id=1)
        await call.head()
        for params in ({"requestId": 1}, {"requestId": 1, "_meta": theirs.meta()}):
            note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
            headers = theirs.headers("notifications/cancelled", {})
            assert await wire.post(note, headers).nothing() == 202
        assert (await call.result())["content"][0]["text"] == "worked"


@pytest.mark.requirement("C1")
async def test_a_cancellation_that_comes_after_the_answer_is_harmless(watched: Watched) -> None:
    async with serving(watched.mcp) as wire:
        session = await wire.open()
        assert await session.start("ping", id=5).result() == {}
        assert await session.notify("notifications/cancelled", {"requestId": 5}) == 202
        assert await session.start("ping", id=5).result() == {}
