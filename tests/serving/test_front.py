"""An address that cannot be had is told in words."""

import os
from pathlib import Path

import pytest
import trio

from trio_mcp import MCPServer
from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.front import CannotListen, listen
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
        ("fd://987654", "must open that descriptor"),
    ],
)
async def test_what_is_wrong_with_an_address_is_said_with_the_next_step(bind: str, words: str) -> None:
    with pytest.raises(CannotListen, match=words):
        await listen([bind])


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
    for settings in (load(bind="nonsense"), load(port=0, admin_bind="9464")):
        with pytest.raises(McpError, match="is not host:port"):
            launch(MCPServer("x"), "http", settings)
