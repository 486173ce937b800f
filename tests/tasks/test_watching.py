"""notifications/tasks on a subscriptions/listen stream."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock

from tests.tasks.harness import DECLARED, TaskClient, task_client, with_tasks
from tests.transports.http.harness import Exchange, two_users
from trio_mcp import Context, MCPServer, Task
from trio_mcp.features.task_options import TASKS
from trio_mcp.protocol.envelope import SUBSCRIPTION_ID_KEY


class Consent(BaseModel):
    ok: bool


def server(**arguments: Any) -> MCPServer:
    mcp = with_tasks(**arguments)

    @mcp.tool(task=Task(after=0))
    async def work(ctx: Context, ask: bool = False) -> str:
        await trio.sleep(1)
        await ctx.report_progress(1, 2)
        if ask:
            await ctx.elicit("Go on?", Consent)
        await trio.sleep(1)
        return "done"

    return mcp


async def notified(stream: Exchange) -> dict[str, Any]:
    """The next state of a task."""
    message = await stream.message()
    assert message["method"] == "notifications/tasks"
    params: dict[str, Any] = message["params"]
    assert params.pop("_meta")[SUBSCRIPTION_ID_KEY] is not None
    return params


def without_meta(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in ("_meta", "resultType")}


@pytest.mark.requirement("tasks-29")
async def test_a_stream_has_the_states_of_the_callers_tasks_as_tasks_get_has_them(autojump_clock: MockClock) -> None:
    async with task_client(server(authenticate=two_users)) as anybody:
        alice = TaskClient(anybody.wire, None, {"authorization": "Bearer alice"})
        bob = TaskClient(anybody.wire, None, {"authorization": "Bearer bob"})
        own, foreign = await alice.begin("work", ask=True), await bob.begin("work")
        ids = [own["taskId"], foreign["taskId"], "x" * 24, "no id\n", own["taskId"]]
        stream = alice.listen(taskIds=ids)
        acknowledged = await stream.message()
        assert acknowledged["params"]["notifications"] == {"taskIds": [own["taskId"]]}
        assert await notified(stream) == without_meta(await alice.state(own))
        assert (await notified(stream))["statusMessage"] == "1/2"
        asked = await notified(stream)
        assert asked == without_meta(await alice.state(own))
        (key,) = asked["inputRequests"]
        await alice.update(own, **{key: {"action": "accept", "content": {"ok": True}}})
        assert (await notified(stream))["status"] == "working"
        ended = await notified(stream)
        assert ended == without_meta(await alice.state(own))
        assert ended["status"] == "completed"
        stream.disconnect()

        # A stream that opens afterwards has the end, once.
        stream = alice.listen(taskIds=[own["taskId"]])
        await stream.message()
        assert await notified(stream) == ended


async def test_what_goes_wrong_while_a_task_is_shown_ends_that_stream_and_nothing_else(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with task_client(server(), DECLARED) as client:
        task = await client.begin("work")
        stream = client.listen(taskIds=[task["taskId"]])
        await stream.message()
        assert (await notified(stream))["status"] == "working"

        def wrong(*_: Any) -> Any:
            raise ValueError("a mistake of ours")

        monkeypatch.setattr("trio_mcp.tasks.watching.detailed", wrong)
        assert (await stream.message())["error"]["code"] == -32603
        monkeypatch.undo()
        again = client.listen(taskIds=[task["taskId"]])
        await again.message()
        while (state := await notified(again))["status"] != "completed":
            pass
        assert state == without_meta(await client.state(task))


@pytest.mark.requirement("tasks-30")
async def test_task_ids_are_for_clients_that_declared_and_there_are_not_too_many() -> None:
    async with task_client(server(), DECLARED) as client:
        for ids in ("x", [1], {"a": 1}, [str(n) for n in range(101)]):
            exchange = client.listen(taskIds=ids)
            assert ((await exchange.error())["code"], await exchange.head()) == (-32602, 400)
        client.capabilities = {}
        exchange = client.listen(taskIds=["x" * 24])
        error = await exchange.error()
        assert (await exchange.head(), error["code"]) == (400, -32021)
        assert error["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
