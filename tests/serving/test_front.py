"""An address that cannot be had is told in words."""

import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from trio_mcp import MCPServer
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.cannot_listen import LONGEST_PATH, CannotListen
from trio_mcp.serving.front import listen
from trio_mcp.serving.launch import launch
from trio_mcp.serving.settings import load

pytestmark = pytest.mark.sockets


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("nonsense", "'nonsense' is not host:port"),
        ("no.such.host.invalid:8000", "this name resolves to no address"),
        ("192.0.2.1:8000", "This machine has no such address"),
        ("unix:/no/such/folder/x.sock", "The folder of a Unix socket must exist"),
        ("unix:/dev/null/x.sock", "not a directory. The folder of a Unix socket must exist"),
        ("unix:", "names no path, as unix:/run/mcp.sock does"),
        (
            f"unix:/tmp/{'x' * LONGEST_PATH}",
            f"has {LONGEST_PATH} bytes at most, and this one has {LONGEST_PATH + 5}. Choose a shorter one",
        ),
        ("fd://987654", "must open that descriptor"),
    ],
)
async def test_what_is_wrong_with_an_address_is_said_with_the_next_step(bind: str, words: str) -> None:
    with pytest.raises(CannotListen, match=words):
        await listen([bind])


async def test_for_the_admin_listener_it_is_the_admins_flag_that_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotListen, match=r"choose another with --port$"):
            await listen([bind])
        with pytest.raises(CannotListen, match=r"choose another with --admin-bind$"):
            await listen([bind], admin=True)


def _plain_file(path: Path) -> None:
    path.write_text("something of value")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (_plain_file, "a plain file"),
        (Path.mkdir, "a folder"),
        (lambda path: path.symlink_to("/no/such/file"), "a symbolic link"),
        (os.mkfifo, "a named pipe"),
    ],
)
async def test_what_is_at_the_path_of_a_unix_socket_and_is_none_stays_and_is_named(
    make: Callable[[Path], object], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.sock"
    make(path)
    words = re.escape(f"{path}: {what} is there, and no socket. Remove it, or choose another path")
    with pytest.raises(CannotListen, match=words):
        await listen([f"unix:{path}"])
    assert os.listdir(tmp_path) == ["x.sock"]


async def test_a_second_server_at_the_path_of_a_unix_socket_is_told_that_one_listens_there(tmp_path: Path) -> None:
    bind = f"unix:{tmp_path / 'x.sock'}"
    (first,) = await listen([bind])
    async with first:
        with pytest.raises(CannotListen, match=r"in use\. Stop the process that listens there, or choose another path"):
            await listen([bind])


def test_the_longest_path_has_room_for_no_byte_more() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "x" * (LONGEST_PATH - len(folder) - 1))
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
        with socket.socket(socket.AF_UNIX) as bound, pytest.raises(OSError, match="too long"):
            bound.bind(f"{path}x")


async def test_nothing_is_left_open_when_one_address_of_several_cannot_be_had(tmp_path: Path) -> None:
    first = f"unix:{tmp_path / 'first.sock'}"
    with pytest.raises(CannotListen):
        await listen([first, "nonsense"])
    with pytest.raises(OSError, match="refused"):
        await trio.open_unix_socket(str(tmp_path / "first.sock"))


async def test_a_descriptor_that_is_no_socket_is_said_to_be_none() -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(CannotListen, match="must open a listening socket"):
        await listen([f"fd://{descriptor}"])
    os.close(descriptor)


def test_the_error_comes_out_of_the_launch_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_mcp.serving.launch.configure", lambda *_, **__: None)
    for settings in (load(bind="unix:/no/such/x"), load(port=0, admin_bind="unix:/no/such/x")):
        with pytest.raises(McpError, match="The folder of a Unix socket must exist"):
            launch(MCPServer("x"), "http", settings)
