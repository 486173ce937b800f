"""`ctx.close_stream()` ends the connection of a call, and its client comes back for the result (SEP-1699)."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transports.http.harness import JSON, Exchange, SessionClient, serving
from trio_mcp import Context, MCPServer


class Polled:
    """A server whose tool closes its stream, then waits to be told to end."""

    def __init__(self) -> None:
        self.mcp = MCPServer("polled")
        self.may_end = trio.Event()

        @self.mcp.tool
        async def poll(ctx: Context, reports: bool = False) -> str:
            """Close the stream and go on."""
            if reports:
                await ctx.report_progress(1)
            await ctx.close_stream()
            await self.may_end.wait()
            return "done"


def call(client: SessionClient, *, reports: bool = False) -> Exchange:
    params = {"name": "poll", "arguments": {"reports": reports}, "_meta": {"progressToken": 7}}
    return client.start("tools/call", params)


@pytest.mark.parametrize("reports", [False, True])
async def test_a_call_that_closes_its_stream_at_once_is_resumed_and_loses_nothing(reports: bool) -> None:
    server = Polled()
    async with serving(server.mcp) as wire:
        client = await wire.open()
        first = call(client, reports=reports)
        with trio.fail_after(60):
            priming, closing = await first.event(), await first.event()
        assert priming is not None
        assert closing is not None
        assert priming["data"] == ""
        assert closing.keys() == {"retry"}
        assert await first.event() is None

        again = client.listen(last_event_id=priming["id"])
        server.may_end.set()
        *progress, reply = await again.messages()
    assert len(progress) == reports
    assert reply["result"]["content"][0]["text"] == "done"


async def test_a_client_that_takes_only_json_waits_for_the_result() -> None:
    server = Polled()
    async with serving(server.mcp) as wire:
        client = await wire.open(headers={"accept": JSON})
        exchange = call(client)
        await wait_all_tasks_blocked()
        server.may_end.set()
        assert (await exchange.json())["result"]["content"][0]["text"] == "done"


async def test_before_2025_11_25_a_stream_is_not_closed_early() -> None:
    server = Polled()
    async with serving(server.mcp) as wire:
        exchange = call(await wire.open("2025-06-18"))
        await wait_all_tasks_blocked()
        server.may_end.set()
        assert (await exchange.result())["content"][0]["text"] == "done"
