"""A server's own options and the settings meet."""

from typing import Any

import pytest

from trio_mcp import MCPServer, Options
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.relaying import Patience
from trio_mcp.serving.composition import build_app, build_cluster, options_of
from trio_mcp.serving.settings import Settings, load


def test_what_has_no_setting_stays_as_the_server_has_it() -> None:
    server = MCPServer("x", options=Options(worker_threads=3, cache_ttl=60, max_in_flight=7))
    options = options_of(server, load(max_in_flight=5, max_events=9))
    assert (options.worker_threads, options.cache_ttl) == (3, 60)
    assert (options.max_in_flight, options.streams.events) == (5, 9)


def test_a_setting_that_nobody_gave_leaves_the_servers_own_options_alone() -> None:
    options = Options(page_size=7, request_timeout=8, max_in_flight=9)
    assert options_of(MCPServer("x", options=options), load()) == options


SHARED = (
    *("page_size", "request_timeout", "write_timeout", "max_in_flight", "max_listen_streams"),
    *("max_events", "max_stream_bytes", "max_session_bytes", "event_retention"),
)


def test_settings_and_options_have_the_same_defaults() -> None:
    every = {name: info.default for name, info in Settings.model_fields.items()}
    given = options_of(MCPServer("x"), load(**{name: every[name] for name in SHARED}))
    assert given == Options()


async def test_relays_wait_as_long_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Patience | None] = []

    class Client(PeerClient):
        def __init__(self, *args: Any, patience: Patience | None = None, **others: Any) -> None:
            given.append(patience)
            super().__init__(*args, patience=patience, **others)

    monkeypatch.setattr("trio_mcp.cluster.cluster.PeerClient", Client)
    settings = load(redis_url="redis://127.0.0.1:1", secret="s" * 32, write_timeout=3, keepalive=7)
    cluster = build_cluster(build_app(MCPServer("x"), settings), settings)
    assert cluster is not None
    assert given == [Patience(body=19, write_timeout=3)]
