"""The shell line that starts Redis in the containers, run as they run it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.deploy.shipped import one, parsed
from tests.rig.waiting import PATIENCE, until

pytestmark = [pytest.mark.sockets, pytest.mark.processes]

PASSWORD = "pass-word_1$HOME"


def of_compose(folder: Path) -> list[str]:
    """The image's entrypoint replaces itself with its first argument: here that stands alone."""
    shell, flag, script, name, *arguments = parsed("compose.yaml")["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("docker-entrypoint.sh ", "")
    return [shell, flag, script, name, *arguments]


def of_kubernetes(folder: Path) -> list[str]:
    (redis,) = one("StatefulSet", "mcp-redis")["spec"]["template"]["spec"]["containers"]
    (folder / "redis-password").write_text(PASSWORD)
    shell, flag, script, name = redis["command"]
    return [shell, flag, script.replace("/run/secrets/redis", str(folder)), name, *redis["args"]]


@pytest.mark.parametrize("command_in", [of_compose, of_kubernetes])
async def test_redis_has_the_password_and_takes_the_place_of_the_shell(
    tmp_path: Path, command_in: Callable[[Path], list[str]]
) -> None:
    """A shell that stayed would be process 1 of the container, which no SIGTERM ends: Redis would be killed at the end of the grace."""
    socket = tmp_path / "s"
    command = [*command_in(tmp_path), "--port", "0", "--unixsocket", str(socket)]
    environment = {
        "REDISCLI_AUTH": PASSWORD,
        "PATH": str(Path(shutil.which("redis-server") or "").parent) + ":/bin:/usr/bin",
    }
    process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment)
    try:

        async def answers(*words: str) -> bytes:
            try:
                stream = await trio.open_unix_socket(str(socket))
            except OSError:
                return b""
            async with stream:
                await stream.send_all(b" ".join(word.encode() for word in words) + b"\r\n")
                return bytes(await stream.receive_some(100))

        async def is_up() -> bool:
            return await answers("AUTH", PASSWORD) == b"+OK\r\n"

        await until(is_up, "Redis takes its password")
        assert (await answers("PING")).startswith(b"-NOAUTH")
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0, "Redis itself has ended in order"
        assert not socket.exists()
    finally:
        process.kill()
