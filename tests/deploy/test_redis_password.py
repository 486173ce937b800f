"""The shipped Redis asks for its password, and has it neither among its arguments nor in a file of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.deploy.shipped import one, parsed
from tests.rig.ports import free_ports
from tests.rig.waiting import PATIENCE, until

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

PASSWORD = "s3cret-_$HOME"


def compose(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that compose gives the container, whose entry point only runs what it is given."""
    entry = folder / "docker-entrypoint.sh"
    entry.write_text('#!/bin/sh\nexec "$@"\n')
    entry.chmod(0o755)
    service = parsed("compose.yaml")["services"]["redis"]
    assert service["environment"] == {"REDISCLI_AUTH": "${REDIS_PASSWORD:?is not set - see .env.example}"}
    # Compose reads `$$` as `$`.
    return [word.replace("$$", "$") for word in service["command"]], {"REDISCLI_AUTH": PASSWORD}


def kubernetes(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command of the pod, with the Secret where it is mounted."""
    (container,) = one("StatefulSet", "mcp-redis")["spec"]["template"]["spec"]["containers"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "password")
    (folder / "redis-password").write_text(PASSWORD)
    assert "env" not in container
    return [word.replace(mount["mountPath"], str(folder)) for word in container["command"] + container["args"]], {}


@asynccontextmanager
async def running(
    command: Sequence[str], environ: dict[str, str], folder: Path
) -> AsyncIterator[tuple[trio.Process, int]]:
    """The process and its port."""
    (port,) = free_ports(1)
    redis = shutil.which("redis-server")
    assert redis is not None, "redis-server is not installed. Install it with: make redis-server"
    env = {"PATH": f"{folder}:{Path(redis).parent}:/usr/bin:/bin"} | environ
    process = await trio.lowlevel.open_process(
        [*command, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)], env=env, stdout=subprocess.DEVNULL
    )
    try:
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()


async def ask(port: int, *lines: str) -> list[bytes]:
    """One answer for each line."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        answers = []
        for line in lines:
            await stream.send_all(line.encode() + b"\r\n")
            answers.append(await stream.receive_some())
        return answers


@pytest.mark.parametrize("shipped", [compose, kubernetes])
async def test_only_who_has_the_password_is_served_and_no_list_of_processes_shows_it(
    tmp_path: Path, shipped: Callable[[Path], tuple[list[str], dict[str, str]]]
) -> None:
    command, environ = shipped(tmp_path)
    async with running(command, environ, tmp_path) as (process, port):

        async def answers() -> bool:
            try:
                return (await ask(port, "PING"))[0].startswith(b"-NOAUTH")
            except OSError:
                return False

        await until(answers, "redis-server asks for its password")
        assert await ask(port, f"AUTH {PASSWORD}", "PING") == [b"+OK\r\n", b"+PONG\r\n"]
        (policy,) = (await ask(port, f"AUTH {PASSWORD}", "CONFIG GET maxmemory-policy"))[1:]
        assert b"noeviction" in policy
        assert PASSWORD.encode() not in await trio.Path(f"/proc/{process.pid}/cmdline").read_bytes()
        # As process 1 of a container a shell would ignore SIGTERM, and Redis would be killed at the end of the grace.
        program = Path(os.readlink(f"/proc/{process.pid}/exe")).name
        assert program.startswith("redis"), f"signals would reach {program}, not Redis"
        process.terminate()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
