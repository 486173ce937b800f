"""The address a node tells its peers."""

from __future__ import annotations

import logging
import socket

import pytest
import trio

from trio_mcp.serving.front import advertised_url
from trio_mcp.serving.settings import load


async def told(served: list[str], **settings: object) -> str:
    return await advertised_url(load(**settings), served)


@pytest.fixture(autouse=True)
def no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_IP", raising=False)


def name_means(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """What the host's own name resolves to; nothing at all without any."""

    async def resolve(host: str, *_: object, **__: object) -> list[object]:
        assert host == socket.gethostname()
        if not addresses:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(trio.socket, "getaddrinfo", resolve)


async def test_what_was_set_is_told_whatever_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.0.0.7")
    assert await told([], advertise_url="http://node1:8000/") == "http://node1:8000"


async def test_a_pod_tells_its_own_address_with_the_port_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.0.0.7")
    assert await told(["http://0.0.0.0:8000/mcp"]) == "http://10.0.0.7:8000"


async def test_an_address_of_ipv6_is_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "fd00::7")
    assert await told(["http://[::]:8000/mcp"]) == "http://[fd00::7]:8000"


async def test_a_certain_address_that_is_served_is_told() -> None:
    assert await told(["http://127.0.0.1:8123/mcp"]) == "http://127.0.0.1:8123"
    assert await told(["http://[::1]:8123/mcp"]) == "http://[::1]:8123"


@pytest.mark.parametrize("bound", ["http://0.0.0.0:8000/mcp", "http://[::]:8000/mcp"])
async def test_who_serves_every_address_tells_the_one_its_name_means(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    name_means(monkeypatch, "172.18.0.5", "172.18.0.6")
    assert await told([bound]) == "http://172.18.0.5:8000"


async def test_what_peers_cannot_speak_is_passed_over() -> None:
    assert (
        await told(["unix:/run/x", "https://0.0.0.0:443/mcp", "http://127.0.0.1:8001/mcp"]) == "http://127.0.0.1:8001"
    )


@pytest.mark.parametrize("served", [[], ["unix:/run/x"], ["https://127.0.0.1:443/mcp"], ["http://0.0.0.0:8000/mcp"]])
async def test_who_has_nothing_to_tell_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, served: list[str]
) -> None:
    name_means(monkeypatch)
    with caplog.at_level(logging.WARNING, "trio_mcp.serving"):
        assert await told(served) == ""
    assert "peers cannot reach this node" in caplog.messages
