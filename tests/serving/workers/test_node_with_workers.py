"""A node with several workers, as its clients and operators meet it: real processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.rig.client import LEGACY, LegacyClient
from tests.rig.http_connection import HttpConnection, Response, fetch
from tests.rig.ports import free_ports
from tests.rig.task_traffic import TaskTraffic
from tests.rig.waiting import PATIENCE, until
from tests.serving.peer import Peer
from tests.serving.workers.node import SERVER, Clients, alive, all_gone, node

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

BOTH = "application/json, text/event-stream"
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "rig", "version": "1"},
        },
    }
).encode()
PING = b'{"jsonrpc":"2.0","id":2,"method":"ping"}'
SESSION = "mcp-session-id"


async def test_every_session_is_found_by_any_connection_and_the_node_is_one_to_operators_and_stops_as_one() -> None:
    async with node() as served_node:
        clients = Clients(served_node)
        await clients.open(8)
        for client, owner in zip(clients.clients, clients.owners, strict=True):
            # Each call on a connection of its own, that any worker may accept.
            assert {await clients.process(client) for _ in range(4)} == {owner}
            kept = LegacyClient(served_node.url)
            kept.session = client.session
            assert {await clients.process(kept) for _ in range(4)} == {owner}
            kept.close()

        page = await served_node.metrics()
        assert page["trio_mcp_sessions_active"] == len(clients.clients)
        assert page["trio_mcp_moves_total"] > 0
        sessions = (await served_node.ask_admin("/sessions")).json()
        assert {each["session"] for each in sessions} == {
            client.session.partition(".")[2][:8] for client in clients.clients
        }
        assert (await served_node.ask_admin("/readyz")).json()["status"] == "ready"

        pids = served_node.pids
        assert (await served_node.ask_admin("/drain", "POST")).status == 202
        assert await served_node.ended() == 0
        await all_gone(list(pids))


async def test_list_changed_and_updates_cross_workers() -> None:
    async with node() as served_node, trio.open_nursery() as nursery:
        clients = Clients(served_node)
        await clients.open(4)
        for client in clients.clients:
            assert not (await client.request("resources/subscribe", {"uri": "workers://news"})).error
            opened = trio.Event()
            nursery.start_soon(client.listen, lambda _, opened=opened: opened.set())
            await opened.wait()
        speaker = clients.clients[0]
        assert not (await speaker.tool("announce")).error

        async def all_heard() -> bool:
            wanted = {"notifications/tools/list_changed", "notifications/resources/updated"}
            return all({each["method"] for each in client.heard} >= wanted for client in clients.clients)

        await until(all_heard, "every session has heard of both, on whichever worker it is")
        nursery.cancel_scope.cancel("heard")


async def test_a_task_is_told_by_any_worker() -> None:
    async with node() as served_node:
        client = TaskTraffic([served_node.url.removesuffix("/mcp")], seed=1)
        begun = [
            await client.ask("tools/call", {"name": "long", "arguments": {"name": f"task {number}", "seconds": 1.0}})
            for number in range(4)
        ]
        ids = [told.result["taskId"] for told in begun]
        ran_on = set()
        for task_id in ids:

            async def completed(task_id: str = task_id) -> int:
                # Each time on another connection, that any worker may accept.
                told = await client.ask("tasks/get", {"taskId": task_id})
                assert told.status == 200, told
                assert told.result["status"] in ("working", "completed")
                return int(told.result.get("result", {}).get("structuredContent", {}).get("process", 0))

            ran_on.add(await until(completed, "the task is completed"))
            for _ in range(5):
                assert (await client.ask("tasks/get", {"taskId": task_id})).result["status"] == "completed"
        assert ran_on <= served_node.pids


async def test_when_a_worker_is_killed_under_load_its_sessions_end_and_no_other_loses_anything() -> None:
    async with node() as served_node, trio.open_nursery() as nursery:
        clients = Clients(served_node)
        await clients.open(8)
        victim = clients.owners[0]
        others = [client for client, owner in zip(clients.clients, clients.owners, strict=True) if owner != victim]
        lost = [client for client, owner in zip(clients.clients, clients.owners, strict=True) if owner == victim]
        called, over = Counter[str](), trio.Event()

        async def call_all_the_time(client: LegacyClient) -> None:
            kept = LegacyClient(served_node.url)
            kept.session = client.session
            while not over.is_set():
                assert not (await kept.tool("process")).error
                called[kept.session] += 1
            kept.close()

        async def all_have_called() -> bool:
            return len(called) == len(others)

        for client in others:
            nursery.start_soon(call_all_the_time, client)
        await until(all_have_called, "all others call")
        os.kill(victim, signal.SIGKILL)
        await served_node.run.says('"worker died"')
        (died,) = served_node.events("worker died")
        assert (died["pid"], died["how"], died["again_in"]) == (victim, "SIGKILL", 0.0)
        for client in lost:

            async def told(client: LegacyClient = client) -> str:
                answer = await client.tool("process")
                return answer.reason if answer.status == 404 else ""

            assert await until(told, "the client is told that its session is gone") == "node_gone"
        await served_node.all_ready()
        called.clear()
        await until(all_have_called, "all others still call")
        over.set()
        assert (await served_node.metrics())["trio_mcp_worker_deaths_total"] == 1


async def test_a_connection_that_goes_to_and_fro_ends_with_the_worker_that_is_killed_while_it_has_it() -> None:
    """The other worker has it parked, with a descriptor that would keep it open."""
    async with node() as served_node:
        clients = Clients(served_node)
        await clients.open(2)
        of_each = dict(zip(clients.owners, clients.clients, strict=True))
        victim, other = of_each
        async with await trio.open_tcp_stream("127.0.0.1", served_node.run.port) as stream:
            peer = Peer(stream)
            for number, pid in enumerate([victim, other] * 4 + [victim]):
                await peer.tool(of_each[pid].session, number, "process")
                assert (await peer.answer())["result"]["structuredContent"]["process"] == pid
            assert (await served_node.metrics())["trio_mcp_moves_total"] >= 8
            await peer.tool(of_each[victim].session, 99, "slow", seconds=3600)
            os.kill(victim, signal.SIGKILL)
            with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
        assert not (await of_each[other].tool("process")).error


async def test_with_restore_the_sessions_of_a_worker_that_is_killed_go_on() -> None:
    async with node("--restore") as served_node:
        clients = Clients(served_node)
        await clients.open(6)
        victim = clients.owners[0]
        os.kill(victim, signal.SIGKILL)
        for client in clients.clients:

            async def goes_on(client: LegacyClient = client) -> bool:
                return not (await client.tool("process")).error

            await until(goes_on, "the session goes on")
            assert await clients.process(client) != victim


async def test_a_worker_whose_event_loop_hangs_is_replaced() -> None:
    async with node("--worker-timeout", "4s") as served_node, trio.open_nursery() as nursery:
        clients = Clients(served_node)
        await clients.open(4)
        nursery.start_soon(clients.clients[0].tool, "block")
        await served_node.run.says('"worker died"')
        (died,) = served_node.events("worker died")
        assert died["pid"] == clients.owners[0]
        assert died["why"] == "its event loop did not run for 4 s"
        innermost, _, _ = died["stack"].partition(" < ")
        assert innermost.startswith(f'File "{SERVER}"')
        assert innermost.endswith(" in block")
        await served_node.all_ready()
        nursery.cancel_scope.cancel("seen")


@pytest.mark.parametrize("restore", [True, False], ids=["restored", "not restored"])
async def test_a_roll_replaces_every_worker_and_no_call_fails_that_has_a_session(restore: bool) -> None:
    # All that it may have are there: each has to be handed over to the worker that has its place.
    async with node(*(["--restore", "--max-sessions", "6"] if restore else ["--drain-timeout", "2s"])) as served_node:
        before = served_node.pids
        clients = Clients(served_node)
        await clients.fill(6) if restore else await clients.open(6)
        failed: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        rolled = trio.Event()

        async def call_all_the_time(client: LegacyClient) -> None:
            kept = LegacyClient(served_node.url)
            kept.session = client.session
            while not rolled.is_set():
                answer = await kept.tool("process")
                assert not answer.broken, "no connection is lost"
                if answer.status == 404:
                    ended[answer.reason] += 1
                elif answer.error:
                    failed[answer.reason or answer.error] += 1
                if answer.status == 404:
                    break
            kept.close()

        async with trio.open_nursery() as nursery:
            for client in clients.clients:
                nursery.start_soon(call_all_the_time, client)
            served_node.signal(signal.SIGHUP)
            await served_node.run.says('"rolled"')
            await served_node.all_ready()
            rolled.set()
        assert not before & served_node.pids
        await all_gone(list(before))
        if restore:
            assert not failed
            assert not ended
        else:
            # Each client hears on its own connection that its session has ended. Where the machine is slow, a call before that may
            # hear that it is to try again, or that its answer is lost with the worker.
            assert set(ended) <= {"shutdown", "node_gone"}, ended
        assert (await served_node.metrics())["trio_mcp_worker_deaths_total"] == 0


RAISES_IN_IMPORT = "raise RuntimeError('a mistake')\n"
RAISES_IN_LIFESPAN = """
from contextlib import asynccontextmanager
from trio_mcp import MCPServer

@asynccontextmanager
async def lifespan(server):
    raise RuntimeError("a mistake")
    yield

mcp = MCPServer("never", lifespan=lifespan)
"""


async def test_a_roll_to_code_that_does_not_start_is_given_up_and_the_old_workers_stay(tmp_path: Path) -> None:
    target = tmp_path / "server.py"
    target.write_text(SERVER.read_text())
    async with node(target=target) as served_node:
        before = served_node.pids
        for rolls, raises in enumerate((RAISES_IN_IMPORT, RAISES_IN_LIFESPAN), 1):
            target.write_text(raises)
            served_node.signal(signal.SIGHUP)
            await served_node.run.says('"roll given up"', rolls)
            assert "a mistake" in served_node.events("roll given up")[-1]["why"]
        clients = Clients(served_node)
        await clients.open(4)
        assert set(clients.owners) == before


async def test_a_second_supervisor_is_refused() -> None:
    async with node() as served_node:
        command = [sys.executable, "-m", "trio_mcp", "serve", str(SERVER), "--workers", "2"]
        second = await trio.run_process(
            [*command, "--port", str(served_node.run.port)], capture_stderr=True, check=False
        )
        assert second.returncode == 1
        assert b"address already in use" in second.stderr
        assert not (await LegacyClient(served_node.url, fresh=True).initialize()).error


@pytest.mark.parametrize("raises", [RAISES_IN_IMPORT, RAISES_IN_LIFESPAN], ids=["import", "lifespan"])
async def test_a_server_that_cannot_start_says_so_once_and_the_node_ends(raises: str, tmp_path: Path) -> None:
    target = tmp_path / "server.py"
    target.write_text(raises)
    command = [sys.executable, "-m", "trio_mcp", "serve", str(target), "--workers", "3", "--port", "0"]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    assert done.returncode == 1
    assert sum(b"RuntimeError: a mistake" in line for line in done.stderr.splitlines()) == 1, done.stderr


SLOW_TO_END = """
import os
from contextlib import asynccontextmanager
from pathlib import Path
import trio
from trio_mcp import MCPServer

HERE = Path(__file__).parent

@asynccontextmanager
async def lifespan(server):
    yield
    (HERE / f"{os.getpid()}.cleans_up").touch()
    while not (HERE / "may_end").exists():
        await trio.sleep(0.05)

mcp = MCPServer("slow to end", lifespan=lifespan)
"""


async def test_a_worker_that_was_replaced_and_has_drained_holds_up_no_other_when_the_node_stops(tmp_path: Path) -> None:
    target = tmp_path / "slow_to_end.py"
    target.write_text(SLOW_TO_END)
    seconds = str(4 * PATIENCE)

    async def clean_up(count: int) -> None:
        async def seen() -> bool:
            return sum(name.endswith(".cleans_up") for name in os.listdir(tmp_path)) == count

        await until(seen, f"{count} workers have drained")

    async with node("--drain-timeout", seconds, "--cleanup-timeout", seconds, target=target) as served_node:
        served_node.signal(signal.SIGHUP)
        await clean_up(1)
        served_node.signal(signal.SIGTERM)
        await clean_up(3)
        (tmp_path / "may_end").touch()
        assert await served_node.ended() == 0


async def test_a_call_that_runs_when_the_node_stops_is_answered() -> None:
    async with node() as served_node, trio.open_nursery() as nursery:
        clients = Clients(served_node)
        await clients.open(4)
        answers = []

        async def call(client: LegacyClient) -> None:
            answers.append(await client.tool("slow", seconds=1.0))

        for client in clients.clients:
            nursery.start_soon(call, client)

        async def all_run() -> bool:
            return (await served_node.metrics())["trio_mcp_requests_active"] == len(clients.clients)

        await until(all_run, "all calls run")
        served_node.signal(signal.SIGTERM)
        assert await served_node.ended() == 0
        assert [answer.error for answer in answers] == [""] * len(clients.clients)


async def test_workers_end_when_their_supervisor_is_killed() -> None:
    async with node() as served_node:
        pids = served_node.pids
        served_node.run.process.kill()
        await served_node.ended()
        await all_gone(list(pids))


async def test_a_second_stop_signal_ends_the_node_at_once() -> None:
    async with node() as served_node, trio.open_nursery() as nursery:
        clients = Clients(served_node)
        await clients.open(2)
        nursery.start_soon(clients.clients[0].tool, "block")

        async def it_runs() -> bool:
            return (await served_node.metrics()).get("trio_mcp_requests_active") != 0

        pids = served_node.pids
        served_node.signal(signal.SIGTERM)
        await served_node.run.says('"node stops"')
        served_node.signal(signal.SIGTERM)
        assert await served_node.ended() == 128 + signal.SIGTERM
        assert not any(map(alive, pids))
        nursery.cancel_scope.cancel("over")


@pytest.mark.parametrize("kind", ["unix", "fd"])
async def test_a_session_is_found_over_a_unix_socket_and_an_inherited_descriptor_too(kind: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    path = tmp_path / "node.sock"
    command = [sys.executable, "-m", "trio_mcp", "serve", str(SERVER), "--workers", "2", "--log-format", "json"]
    inherited = socket.socket()
    inherited.bind(("127.0.0.1", port))
    inherited.listen()
    with inherited:
        number = inherited.fileno()
        bind = f"unix:{path}" if kind == "unix" else f"fd://{number}"
        process = await trio.lowlevel.open_process(
            [*command, "--bind", bind, "--allowed-hosts", "*"], pass_fds=[number], stderr=subprocess.DEVNULL
        )
        try:
            pids = Counter[str]()

            async def asked() -> bool:
                try:
                    stream = await _connected(path if kind == "unix" else None, port)
                except OSError:
                    return False
                async with stream:
                    await stream.send_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                    answer = b"".join([chunk async for chunk in stream])
                pids[answer.rpartition(b'"boot":')[2].decode()] += b'"ready"' in answer
                return len(+pids) == 2

            await until(asked, "both workers answer", pause=0)

            @asynccontextmanager
            async def connected() -> AsyncIterator[Peer]:
                async with await _connected(path if kind == "unix" else None, port) as stream:
                    yield Peer(stream)

            async with connected() as opening:
                await opening.request("POST", {}, json.loads(INITIALIZE))
                await opening.answer()
                session = opening.headers["mcp-session-id"]
            answered_by = set()
            for number in range(2, 10):
                async with connected() as peer:
                    await peer.tool(session, number, "process")
                    answered_by.add((await peer.answer())["result"]["structuredContent"]["process"])
            assert len(answered_by) == 1
        finally:
            process.terminate()
            with trio.move_on_after(PATIENCE, shield=True):
                await process.wait()
        assert process.returncode == 0
        assert not path.exists()


async def _connected(path: Path | None, port: int) -> trio.SocketStream:
    if path is None:
        return await trio.open_tcp_stream("127.0.0.1", port)
    return await trio.open_unix_socket(path)


async def test_a_worker_that_has_no_room_opens_the_session_on_one_that_has() -> None:
    async with node("--max-sessions", "6") as served_node, AsyncExitStack() as stack:
        # One connection: with more, chance could find the worker that has room.
        client = LegacyClient(served_node.url)
        stack.callback(client.close)

        async def opened() -> bool:
            if (await client.initialize()).status != 200:
                return False
            # A session that was used makes no room for another.
            assert not (await client.tool("process")).error
            return True

        for number in range(6):
            # Until a worker has heard of the other it is 503, with the word to come again.
            await until(opened, f"session {number} is opened")
        assert (await client.initialize()).status == 503


async def test_what_a_worker_without_room_has_another_open_counts_for_its_clients_address() -> None:
    flags = ("--max-sessions", "4", "--max-sessions-per-address", "1", "--forwarded-allow", "127.0.0.1")
    async with node(*flags) as served_node, AsyncExitStack() as stack:
        connection = await HttpConnection.open(served_node.url)
        stack.callback(connection.close)

        async def asked(address: str, content: bytes, session: str | None = None) -> Response:
            """On one connection: a worker has it all the time."""
            headers = {"content-type": "application/json", "accept": BOTH, "x-forwarded-for": address}
            await connection.request("POST", "/mcp", headers | ({} if session is None else {SESSION: session}), content)
            response = await connection.response()
            assert connection.reusable
            return response

        for number in range(2):
            full = (await asked(f"192.0.2.{number}", INITIALIZE)).header(SESSION)
            # A session that was used makes no room for another.
            assert (await asked(f"192.0.2.{number}", PING, full)).status == 200
        opened: list[str] = []

        async def by_the_other() -> bool:
            answer = await asked("192.0.2.9", INITIALIZE)
            opened.append(answer.header(SESSION))
            return answer.status == 200

        # Until a worker has heard of the other it is 503, with the word to come again.
        await until(by_the_other, "the other worker opens it")
        assert opened[-1].partition(".")[0] != full.partition(".")[0]
        assert (await asked("192.0.2.9", INITIALIZE)).status == 429
        assert (await asked("192.0.2.8", INITIALIZE)).status == 200


async def test_sessions_of_one_address_are_counted_for_the_whole_node() -> None:
    flags = ("--max-sessions-per-address", "4", "--forwarded-allow", "127.0.0.1")
    async with node(*flags) as served_node:

        async def opened(address: str) -> Response:
            """On a connection of its own, which any worker may accept."""
            headers = {"content-type": "application/json", "accept": BOTH, "x-forwarded-for": address}
            return await fetch(served_node.url, "POST", headers, INITIALIZE)

        def owner(response: Response) -> str:
            return response.header("mcp-session-id").partition(".")[0]

        owners: list[str] = []

        async def on_both() -> bool:
            """Four sessions of which each worker has some. Otherwise they end, and the next four begin: soon, not at once."""
            sessions = [each for each in [await opened("192.0.2.1") for _ in range(4)] if each.status == 200]
            owners[:] = [owner(each) for each in sessions]
            if len(owners) == 4 and len({*owners}) == 2:
                return True
            for each in sessions:
                headers = {"mcp-session-id": each.header("mcp-session-id")}
                assert (await fetch(served_node.url, "DELETE", headers)).status == 204
            return False

        await until(on_both, "each worker has a session of the address", pause=0)
        for _ in range(6):
            assert (await opened("192.0.2.1")).status == 429
        assert (await opened("192.0.2.2")).status == 200

        # What a worker had counts no more when it has died.
        (died,) = {each["pid"] for each in served_node.events("worker ready") if each["worker"] == owners[0]}
        os.kill(died, signal.SIGKILL)
        await served_node.run.says('"worker died"')
        await served_node.all_ready()
        statuses = [(await opened("192.0.2.1")).status for _ in range(5)]
        freed = owners.count(owners[0])
        assert statuses == [200] * freed + [429] * (5 - freed)
