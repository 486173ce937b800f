"""What the drill of the authorization server sends and counts."""

from __future__ import annotations

import socket

import pytest

from tests.auth.issuer import RESOURCE
from tools.issuer_drill import connections_to, unknown_key
from trio_mcp.auth.jws import Jws, json_object, read_jws


def test_each_token_names_another_key_and_would_be_good_under_it() -> None:
    found = [read_jws(unknown_key("https://login.example.com"), max_bytes=4096) for _ in range(20)]
    assert all(isinstance(each, Jws) for each in found)
    assert len({each.kid for each in found if isinstance(each, Jws)}) == 20
    claims = [json_object(each.payload) or {} for each in found if isinstance(each, Jws)]
    assert {(each["iss"], each["aud"]) for each in claims} == {("https://login.example.com", RESOURCE)}


@pytest.mark.sockets
def test_connections_are_counted_by_the_port_that_they_go_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert connections_to(url) == 0
        with socket.create_connection(listener.getsockname()), socket.create_connection(listener.getsockname()):
            assert connections_to(url) == 2
