"""A server's own options and the settings meet."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.auth.issuer import ISSUER
from trio_mcp import MCPServer, Options, Principal
from trio_mcp.auth import BearerAuth, require_scopes
from trio_mcp.auth.auth_options import AuthOptions
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.cluster.peer.client import PeerClient
from trio_mcp.cluster.peer.relaying import Patience
from trio_mcp.serving.auth_settings import AuthSettings
from trio_mcp.serving.composition import build_app, build_cluster, options_of
from trio_mcp.serving.settings import Settings, load
from trio_mcp.serving.settings_report import explain


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


TOKENS = "secret-token-of-the-file ci mcp:read\n"


def token_file(folder: Path) -> str:
    path = folder / "tokens"
    path.write_text(TOKENS)
    path.chmod(0o600)
    return str(path)


def authorization(server: MCPServer, **settings: Any) -> BearerAuth:
    """What a node with these settings has."""
    found = build_app(server, load(**settings)).authorization
    assert found is not None
    return found.auth


def test_every_option_of_authorization_has_a_setting_of_the_same_default() -> None:
    settings = {name.removeprefix("auth_"): info.default for name, info in AuthSettings.model_fields.items()}
    options = {each.name: each.default for each in fields(AuthOptions)}
    assert settings.keys() == options.keys()
    empty: tuple[Any, ...] = ("", None, ())
    differing = {name for name in options if settings[name] != options[name] and settings[name] not in empty}
    assert not differing


def test_one_setting_turns_authorization_on_and_the_resource_is_the_servers_own_url_on_loopback() -> None:
    auth = authorization(MCPServer("x"), auth_issuer="https://login.example.com", port=8765)
    assert auth.resource == "http://127.0.0.1:8765/mcp"
    assert auth.authorization_servers == ("https://login.example.com",)


@pytest.mark.parametrize(
    "where",
    [{"host": "0.0.0.0"}, {"port": 0}, {"bind": "unix:/tmp/x.sock"}, {"bind": "127.0.0.1:8000,0.0.0.0:8001"}],
    ids=["wide", "any port", "a Unix socket", "one of two wide"],
)
def test_elsewhere_the_resource_must_be_set(where: dict[str, Any]) -> None:
    with pytest.raises(AuthConfigurationError, match="--auth-resource"):
        authorization(MCPServer("x"), auth_issuer="https://login.example.com", **where)
    url = "https://MCP.example.com/mcp/"
    assert (
        authorization(MCPServer("x"), auth_issuer="https://login.example.com", auth_resource=url, **where).resource
        == url
    )


def test_nodes_of_a_cluster_have_one_resource() -> None:
    cluster = {"redis_url": "redis://127.0.0.1:1", "secret": "s" * 43}
    with pytest.raises(AuthConfigurationError, match="--auth-resource"):
        authorization(MCPServer("x"), auth_issuer="https://login.example.com", **cluster)


def test_settings_reach_what_they_are_for(tmp_path: Path) -> None:
    auth = authorization(
        MCPServer("x"),
        auth_tokens=token_file(tmp_path),
        auth_required_scopes="mcp:read, mcp:write",
        auth_challenge_scopes="api://x/read",
        auth_streams_expire=False,
    )
    assert auth.required_scopes == ("mcp:read", "mcp:write")
    assert auth.challenge_scopes == ("api://x/read",)
    assert not auth.stream_until_expiry


async def who(request: object) -> Principal | None:
    return None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auth_issuer": "https://login.example.com"}, "TRIO_MCP_AUTH_ISSUER is set, and the server has auth= in code"),
        ({"auth_leeway": "10s"}, "TRIO_MCP_AUTH_LEEWAY is set"),
        ({"auth_resource": "https://other.example.com/mcp"}, "TRIO_MCP_AUTH_RESOURCE is set"),
    ],
)
@pytest.mark.parametrize("own", ["tokens", "function"])
def test_authorization_in_code_and_in_settings_is_refused(settings: dict[str, Any], words: str, own: str) -> None:
    auth = who if own == "function" else BearerAuth.from_issuer(ISSUER, resource="https://mcp.example.com/mcp")
    with pytest.raises(AuthConfigurationError, match=words):
        build_app(MCPServer("x", auth=auth), load(**settings))


def test_code_may_leave_the_url_to_the_settings() -> None:
    url = "https://mcp.example.com/mcp"
    assert authorization(MCPServer("x", auth=BearerAuth.from_issuer(ISSUER)), auth_resource=url).resource == url
    assert (
        authorization(MCPServer("x", auth=BearerAuth.from_issuer(ISSUER, resource=url)), auth_resource=url).resource
        == url
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"auth_required_scopes": "a"}, "TRIO_MCP_AUTH_REQUIRED_SCOPES is set, but nothing verifies tokens"),
        ({"auth_issuer": "http://login.example.com"}, "https://"),
        ({"auth_issuer": ISSUER, "auth_required_scopes": "offline_access"}, "offline_access"),
        ({"auth_issuer": ISSUER, "auth_introspection_url": f"{ISSUER}/i"}, "TRIO_MCP_AUTH_INTROSPECTION_CLIENT_ID"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_what_to_set(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AuthConfigurationError, match=words):
        build_app(MCPServer("x"), load(**settings))


def test_secrets_of_authorization_are_masked() -> None:
    rows = explain(auth_introspection_client_secret="hush-hush", admin_token="hush-hush")
    assert not any("hush-hush" in str(row) for row in rows)


def _served_openly() -> MCPServer:
    mcp = MCPServer("x")
    mcp.http_app()
    return mcp


@pytest.mark.requirement("auth-77")
def test_a_component_that_needs_scopes_is_not_served_without_somebody_who_verifies_tokens() -> None:
    mcp = MCPServer("x")

    @mcp.tool(auth=require_scopes("mcp:write"))
    def delete_file() -> None: ...

    with pytest.raises(ValueError, match="tool 'delete_file' has auth=, but nothing verifies tokens"):
        mcp.http_app()
    with pytest.raises(ValueError, match="tool 'delete_file'"):
        mcp.http_app(auth=who)
    with pytest.raises(ValueError, match="tool 'delete_file'"):
        build_app(mcp, load())
    mcp.http_app(in_memory=True)
    with pytest.raises(ValueError, match="prompt 'late' has auth="):
        _served_openly().prompt("late", auth=require_scopes("mcp:write"))(delete_file)
    assert build_app(mcp, load(auth_issuer=ISSUER)).authorization is not None
