"""`trio-mcp drain`: a real node, asked to stop through its admin listener and followed to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.rig.client import LegacyClient
from tests.rig.ports import free_ports
from tests.rig.waiting import PATIENCE
from tests.serving.process import ServedProcess, served
from trio_mcp.cli import execute
from trio_mcp.cli.drain import Admin, AdminState, follow
from trio_mcp.http_client import Head, HttpClientError, HttpTransport
from trio_mcp.protocol.errors import McpError

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

Printed = pytest.CaptureFixture[str]


async def run(*words: str) -> int:
    """The command in a thread of its own: it brings its own Trio."""
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(execute, words)


@asynccontextmanager
async def node(admin: str) -> AsyncIterator[ServedProcess]:
    async with served("--admin-bind", admin, "--drain-timeout", "3s") as process:
        yield process


async def test_a_node_drains_and_is_followed_until_it_is_gone(capsys: Printed) -> None:
    admin = f"127.0.0.1:{free_ports(1)[0]}"
    async with node(admin) as process:
        client = LegacyClient(f"http://127.0.0.1:{process.port}/mcp", fresh=True)
        assert not (await client.initialize()).error
        listening = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.listen, lambda _: listening.set())
            await listening.wait()
            assert await run("drain", admin) == 0
        with trio.fail_after(PATIENCE):
            assert await process.process.wait() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "draining, 1 session"
    assert lines[-1].startswith(f"{admin} is gone, after ")


async def test_a_unix_socket_named_by_the_environment_is_asked(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = f"unix:{tmp_path}/admin.sock"
    async with node(admin) as process:
        monkeypatch.setenv("TRIO_MCP_ADMIN_BIND", admin)
        assert await run("drain", "--no-wait") == 0
        with trio.fail_after(PATIENCE):
            assert await process.process.wait() == 0
    assert capsys.readouterr().out == f"{admin} drains\n"


class Scripted(Admin):
    """Says what it was told to say, None for a connection that breaks."""

    def __init__(self, *states: AdminState | None) -> None:
        super().__init__("127.0.0.1:1")
        self.states = list(states)

    async def state(self) -> AdminState:
        await trio.lowlevel.checkpoint()
        said = self.states.pop(0)
        if said is None:
            raise HttpClientError("it broke off")
        return said


async def test_the_process_that_follows_a_drained_one_is_not_taken_for_it(
    capsys: Printed, autojump_clock: MockClock
) -> None:
    before, after = AdminState("b1", "draining", 3), AdminState("b2", "ready", 0)
    admin = Scripted(before, None, before, AdminState("b1", "draining", 1), after, after)
    await follow(admin, before)
    assert admin.states == [after]
    assert capsys.readouterr().out.splitlines() == ["draining, 3 sessions", "draining, 1 session"]


async def test_a_listener_that_is_not_the_admins_is_not_taken_for_it(capsys: Printed) -> None:
    admin = f"127.0.0.1:{free_ports(1)[0]}"
    async with node(admin) as process:
        assert await run("drain", f"127.0.0.1:{process.port}") == 1
        assert "is no admin listener of trio-mcp" in capsys.readouterr().err
        assert process.process.poll() is None


async def test_nobody_there_is_told(tmp_path: Path, capsys: Printed) -> None:
    for admin in (f"127.0.0.1:{free_ports(1)[0]}", f"unix:{tmp_path}/nobody"):
        assert await run("drain", admin) == 1
        assert capsys.readouterr().err.startswith("trio-mcp: cannot reach ")


@pytest.mark.parametrize("written", ["127.0.0.1:{}", "http://127.0.0.1:{}", "http://127.0.0.1:{}/"])
async def test_a_node_may_be_named_by_address_or_url(capsys: Printed, written: str) -> None:
    assert await run("drain", written.format(*free_ports(1))) == 1
    assert "connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which node? Name its admin listener"),
        (["nonsense"], "'nonsense' is no admin listener"),
        (["--admin-bind", "fd://3"], "name the address behind it"),
    ],
)
async def test_a_node_that_is_not_named_rightly_is_exit_code_2(capsys: Printed, words: list[str], says: str) -> None:
    assert await run("drain", *words) == 2
    assert says in capsys.readouterr().err


async def test_a_name_that_the_admin_listener_does_not_answer_to_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def misdirected(transport: HttpTransport, method: str, **options: object) -> tuple[Head, bytes]:
        return Head(421, {}), b""

    monkeypatch.setattr("trio_mcp.cli.drain.fetch", misdirected)
    with pytest.raises(McpError, match=r"node1:9464 does not answer to that name.*--admin-hosts"):
        await Admin("node1:9464").drain()
