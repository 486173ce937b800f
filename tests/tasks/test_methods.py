"""tasks/get, tasks/update and tasks/cancel: who may ask what of which task, and what is refused in which order."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.auth.issuer import NOW, RESOURCE, token, verifier
from tests.tasks.harness import DECLARED, FORMS, TaskClient, TaskOracle, task_client, with_tasks
from tests.tasks.races import raced
from tests.transports.http.harness import MODERN, two_users
from tests.transports.websocket.harness import WebSocket, offering
from trio_mcp import Context, MCPServer, Task
from trio_mcp.auth import BearerAuth, require_scopes
from trio_mcp.features.task_options import TASKS
from trio_mcp.protocol.envelope import CLIENT_CAPABILITIES_KEY
from trio_mcp.tasks.limits import TaskLimits

METHODS = ("tasks/get", "tasks/update", "tasks/cancel")
UNKNOWN = {"code": -32602, "message": "Task not found"}
HIDDEN: list[Any] = ["../..", "a\0b", "x" * (1 << 20), "x" * 129, "", "ünknown"]


class Consent(BaseModel):
    ok: bool


def server(**arguments: Any) -> MCPServer:
    mcp = with_tasks(**arguments)

    @mcp.tool(task=Task(after=0))
    async def work(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @mcp.tool(task=Task(after=0))
    async def asks(ctx: Context) -> str:
        return (await ctx.elicit("Go on?", Consent, key="go")).action

    @mcp.tool(task=Task(after=0))
    async def stubborn(seconds: float) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        return "done"

    @mcp.tool(task=Task(after=0))
    async def stubborn_until_cancelled(seconds: float) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)
        await trio.lowlevel.checkpoint()
        return "done"

    return mcp


def params(method: str, task_id: Any) -> dict[str, Any]:
    return {"taskId": task_id} | ({"inputResponses": {}} if method == "tasks/update" else {})


async def refused(client: TaskClient, method: str, task_id: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    exchange = client.start(method, params(method, task_id), **more)
    error = await exchange.error()
    return await exchange.head(), error


@pytest.mark.requirement("tasks-10")
@pytest.mark.parametrize("method", METHODS)
async def test_unknown_expired_and_foreign_tasks_are_the_same(method: str, autojump_clock: MockClock) -> None:
    async with task_client(server(authenticate=two_users)) as bob:
        bob.capabilities = DECLARED
        alice = TaskClient(bob.wire, DECLARED, {"authorization": "Bearer alice"})
        bob._headers = {"authorization": "Bearer bob"}
        foreign = await alice.begin("work", seconds=1)
        expired = await bob.begin("work", seconds=1)
        unknown = await refused(bob, method, "x" * 24)
        assert unknown == (400, UNKNOWN)
        assert await refused(bob, method, foreign["taskId"]) == unknown
        await alice.until(foreign)
        await trio.sleep(2 * 3600)
        assert await refused(bob, method, expired["taskId"]) == unknown


@pytest.mark.requirement("tasks-11")
@pytest.mark.parametrize("method", METHODS)
async def test_a_client_that_did_not_declare_learns_nothing_of_ids(method: str) -> None:
    async with task_client(server()) as client:
        task = await client.begin("work", seconds=1)
        client.capabilities = {}
        answers = [await refused(client, method, task_id) for task_id in (task["taskId"], "x" * 24, 5)]
        status, error = answers[0]
        assert (status, error["code"]) == (400, -32021)
        assert error["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        assert answers == [answers[0]] * 3


@pytest.mark.requirement("tasks-12")
@pytest.mark.parametrize("method", METHODS)
async def test_the_header_names_the_task_of_the_body(method: str) -> None:
    async with task_client(server()) as client:
        task_id = (await client.begin("work", seconds=0))["taskId"]
        encoded = f"=?base64?{b64encode(task_id.encode()).decode()}?="
        assert (await refused(client, method, task_id, headers={"mcp-name": None}))[1]["code"] == -32020
        assert (await refused(client, method, task_id, headers={"mcp-name": "other"}))[1]["code"] == -32020
        await client.start(method, params(method, task_id), headers={"mcp-name": encoded}).result()


@pytest.mark.requirement("tasks-14")
@pytest.mark.parametrize("method", METHODS)
async def test_what_can_be_no_id_is_refused_before_a_store_is_asked(method: str) -> None:
    async with task_client(server()) as client:
        asked: list[str] = []

        async def get(task_id: str) -> None:
            await trio.lowlevel.checkpoint()
            asked.append(task_id)

        client.store.get = get
        for task_id in HIDDEN:
            name = f"=?base64?{b64encode(task_id.encode()).decode()}?="
            assert await refused(client, method, task_id, headers={"mcp-name": name}) == (400, UNKNOWN)
        for task_id in (None, 5, ["x"], {}):
            status, error = await refused(client, method, task_id)
            assert (status, error["code"]) == (400, -32602)
        assert asked == ["../.."], "text that Redis can have in a key"


@pytest.mark.requirement("tasks-19")
async def test_answers_that_fit_nothing_are_taken_and_those_that_are_none_refused(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        task = await client.begin("asks")
        (key,) = (await client.until(task, "input_required"))["inputRequests"]
        yes = {"action": "accept", "content": {"ok": True}}
        await client.update(task, other=yes, go=yes)
        await client.update(task)
        assert (await client.state(task))["status"] == "input_required"
        wrong: list[Any] = [None, [], "x", {key: None}, {key: 1}]
        for responses in wrong:
            exchange = client.start("tasks/update", {"taskId": task["taskId"], "inputResponses": responses})
            assert (await exchange.error())["code"] == -32602
        await client.update(task, **{key: yes})
        await client.update(task, **{key: {"action": "decline"}})
        assert (await client.until(task))["result"]["content"][0]["text"] == "accept"
        await client.update(task, **{key: yes})


@pytest.mark.requirement("tasks-25")
async def test_a_task_can_be_cancelled_and_what_has_ended_stays_as_it_is(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        works, waits = await client.begin("work", seconds=100), await client.begin("asks")
        done = await client.begin("work", seconds=0)
        await client.until(waits, "input_required")
        ended = await client.until(done)
        for task in (works, waits, done):
            began = trio.current_time()
            await client.cancel(task)
            await client.cancel(task)
            await wait_all_tasks_blocked()
            assert (await client.state(task))["status"] == ("completed" if task is done else "cancelled")
            assert trio.current_time() - began < 1
        assert (await client.state(done))["result"] == ended["result"]
        assert "error" not in await client.state(works)
        # Answers to what has just been cancelled change nothing.
        await client.update(waits, go={"action": "accept", "content": {"ok": True}})
        assert (await client.state(waits))["status"] == "cancelled"


@pytest.mark.requirement("tasks-26")
async def test_a_handler_that_shields_itself_ends_when_it_likes(autojump_clock: MockClock) -> None:
    async with task_client(server()) as client:
        completes = await client.begin("stubborn", seconds=5)
        cancelled = await client.begin("stubborn_until_cancelled", seconds=5)
        other = await client.begin("work", seconds=6)
        await wait_all_tasks_blocked()
        for task in (completes, cancelled):
            await client.cancel(task)
            assert (await client.state(task))["status"] == "working"
        assert (await client.until(completes))["status"] == "completed"
        assert (await client.until(cancelled))["status"] == "cancelled"
        assert (await client.until(other))["status"] == "completed"


@pytest.mark.requirement("tasks-27")
async def test_a_cancel_that_races_the_end_gives_one_end() -> None:
    """`python -m tests.tasks.races 1000` does it more often."""
    assert set(await raced(200)) == {"completed", "cancelled"}


@pytest.mark.requirement("tasks-38")
async def test_a_task_is_polled_twenty_times_a_second_and_no_more(autojump_clock: MockClock) -> None:
    async with task_client(server(limits=TaskLimits(polls_per_second=20))) as client:
        task, other = await client.begin("work", seconds=100), await client.begin("work", seconds=100)
        exchanges = [client.get(task) for _ in range(100)]
        refused = [exchange for exchange in exchanges if await exchange.head() != 200]
        assert {await exchange.head() for exchange in refused} == {429}
        assert len(refused) == 80
        assert refused[0].headers["retry-after"] == "1"
        assert (await refused[0].error())["code"] == -32603
        assert (await client.state(other))["status"] == "working"
        await trio.sleep(1)
        assert (await client.state(task))["status"] == "working"


@pytest.mark.requirement("tasks-39")
async def test_a_task_is_kept_for_its_ttl_and_a_running_one_longer(autojump_clock: MockClock) -> None:
    mcp = with_tasks(limits=TaskLimits(ended_left=60))

    @mcp.tool(task=Task(after=0, ttl="20m"))
    async def work(minutes: float) -> str:
        await trio.sleep(minutes * 60)
        return "done"

    async with task_client(mcp) as client:
        short, long = await client.begin("work", minutes=1), await client.begin("work", minutes=40)
        assert (short["ttlMs"], long["ttlMs"]) == (1_200_000, 1_200_000)
        await trio.sleep(20 * 60 - 1)
        assert (await client.state(short))["status"] == "completed"
        await trio.sleep(2)
        assert (await refused(client, "tasks/get", short["taskId"]))[1] == UNKNOWN
        moved = await client.state(long)
        assert (moved["status"], moved["ttlMs"] > 1_200_000) == ("working", True)
        assert (await client.until(long))["status"] == "completed"


@pytest.mark.requirement("tasks-16")
async def test_a_task_that_runs_longer_than_any_may_fails(autojump_clock: MockClock) -> None:
    limits = TaskLimits(ttl=1800, max_ttl=3600)
    async with task_client(server(limits=limits)) as client:
        task = await client.begin("work", seconds=100_000)
        await trio.sleep(3590)
        assert (await client.state(task))["status"] == "working"
        await trio.sleep(20)
        failed = await client.state(task)
        assert (failed["status"], failed["error"]["data"]) == ("failed", {"reason": "expired"})
        assert client.node.runs == {}


async def test_the_scopes_of_a_tool_are_those_of_its_tasks(autojump_clock: MockClock) -> None:
    auth = BearerAuth(verifier(), resource=RESOURCE, required_scopes=["mcp:read"], now=lambda: float(NOW))
    mcp = server(auth=auth)

    @mcp.tool(task=Task(after=0), auth=require_scopes("mcp:write"))
    async def guarded() -> str:
        await trio.sleep(100)
        return "secret"

    def client_with(wire: Any, **claims: Any) -> TaskClient:
        return TaskClient(wire, FORMS, {"authorization": f"Bearer {token(**claims)}"})

    async with task_client(mcp) as anybody:
        writer, reader = client_with(anybody.wire, scope="mcp:read mcp:write"), client_with(anybody.wire)
        stranger = client_with(anybody.wire, sub="mallory", scope="mcp:read mcp:write")
        task = await writer.begin("guarded")
        for method in METHODS:
            exchange = reader.start(method, params(method, task["taskId"]))
            assert await exchange.head() == 403
            assert "mcp:write" in exchange.headers["www-authenticate"]
            assert (await refused(stranger, method, task["taskId"]))[1] == UNKNOWN
            assert (await refused(reader, method, "x" * 24))[1] == UNKNOWN
        for client, seen in ((writer, [task["taskId"]]), (reader, []), (stranger, [])):
            stream = client.listen(taskIds=[task["taskId"]])
            assert (await stream.message())["params"]["notifications"] == {"taskIds": seen}
            stream.disconnect()
        await writer.cancel(task)
        await wait_all_tasks_blocked()
        assert (await writer.state(task))["status"] == "cancelled"


async def test_over_a_websocket_scopes_are_asked_for_as_over_http(autojump_clock: MockClock) -> None:
    auth = BearerAuth(verifier(), resource=RESOURCE, required_scopes=["mcp:read"], now=lambda: float(NOW))
    mcp = server(auth=auth)

    @mcp.tool(task=Task(after=0), auth=require_scopes("mcp:write"))
    async def guarded() -> str:
        await trio.sleep(1)
        return "secret"

    async with offering(mcp) as door:

        async def connected(scope: str) -> WebSocket:
            socket = await door.knock("mcp", headers=[("authorization", f"Bearer {token(scope=scope)}")])
            socket._modern = TaskOracle(MODERN)
            return socket

        async def ask(socket: WebSocket, method: str, params: dict[str, Any]) -> dict[str, Any]:
            declared: dict[str, Any] = {CLIENT_CAPABILITIES_KEY: DECLARED}
            socket.start_modern(method, params, **declared)
            answer: dict[str, Any] = await socket.hear(modern=True)
            return answer

        writer, reader = await connected("mcp:read mcp:write"), await connected("mcp:read")
        task = (await ask(writer, "tools/call", {"name": "guarded", "arguments": {}}))["result"]
        await trio.sleep(2)
        for method in METHODS:
            refused = await ask(reader, method, params(method, task["taskId"]))
            assert refused["error"]["data"] == {"error": "insufficient_scope"}
        read = await ask(writer, "tasks/get", {"taskId": task["taskId"]})
        assert read["result"]["result"]["content"][0]["text"] == "secret"
