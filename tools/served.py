"""A server process on a free loopback port, for as long as a block runs."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.rig.ports import free_ports

__all__ = ["EVERYTHING", "FRONTS", "Served", "ServerFailed", "served"]

REPOSITORY = Path(__file__).resolve().parent.parent
EVERYTHING = (
    sys.executable,
    "-m",
    "trio_mcp",
    "serve",
    str(REPOSITORY / "examples" / "everything.py"),
    "--port",
    "{port}",
)
"""Serves every fixture the conformance suite and the clients ask for."""
FRONTS = {"own": EVERYTHING, "hypercorn": (*EVERYTHING, "--server", "hypercorn")}
START_SECONDS = 120.0
STOP_SECONDS = 120.0
"""Longer than the default drain window, so that only a server that never stops is killed."""


class ServerFailed(RuntimeError):
    """The server ended, or never answered; the text holds the end of what it logged."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers; `url` is its MCP endpoint."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@contextmanager
def served(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Start `command`, `{port}` in it and in the values of `environment` filled in, and stop it by SIGTERM at the end; raises `ServerFailed`."""
    (port,) = free_ports(1)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [_filled(part, port) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **{name: _filled(value, port) for name, value in (environment or {}).items()}},
        )
        try:
            if not _answers(process, port):
                raise ServerFailed(f"{' '.join(command)} does not answer on port {port}:\n{_tail(log.fileno())}")
            yield Served(port, process)
        finally:
            _stop(process)


def _filled(text: str, port: int) -> str:
    return text.replace("{port}", str(port))


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/livez")
            connection.getresponse()  # any status will do: other servers have no such path
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        else:
            return True
        finally:
            connection.close()
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(descriptor: int, size: int = 4000) -> str:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    return os.pread(descriptor, size, max(0, end - size)).decode(errors="replace")
