"""Bearer tokens over HTTP: what each request gets before anything is read, looked up or run."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount as StarletteMount

from tests.auth.issuer import ISSUER, NOW, RESOURCE, Issuer, jwk, rsa_key, token, verifier
from tests.transports.http.harness import (
    BOTH,
    HOST,
    JSON,
    LEGACY,
    MODERN,
    Exchange,
    Oracle,
    SessionClient,
    Wire,
    request,
    serving,
)
from trio_mcp import CannotTell, Context, MCPServer
from trio_mcp.auth import AccessToken, BearerAuth, JWTVerifier, get_access_token, require_scopes
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.verifier import SENDER, Verdict, Verifier
from trio_mcp.sessions.node_state import NodeState
from trio_mcp.testing.asgi import asgi_client

METADATA_URL = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
NO_ERROR = f'Bearer scope="mcp:read", resource_metadata="{METADATA_URL}"'
INITIALIZE = request(
    0, "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
)


def bearer(judge: Any = None, **options: Any) -> BearerAuth:
    """The authorization of these tests: for `RESOURCE`, with the scope `mcp:read`, by a clock that stands."""
    given: dict[str, Any] = {
        "resource": RESOURCE,
        "required_scopes": ["mcp:read"],
        "now": lambda: float(NOW),
        **options,
    }
    return BearerAuth(judge or verifier(), **given)


def state(wire: Wire) -> NodeState:
    return wire.app.life.state


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a log line of ours."""
    fields: dict[str, Any] = record.__dict__["mcp_fields"]
    return fields


def sent(*values: str, **more: str) -> dict[str, str]:
    """The headers of a request with that token."""
    return {"authorization": f"Bearer {values[0] if values else token()}", **more}


def who_server(**options: Any) -> MCPServer:
    mcp = MCPServer("test", **options)

    @mcp.tool
    async def who(ctx: Context) -> dict[str, Any]:
        held = get_access_token()
        return {"subject": ctx.principal.subject, "client": ctx.principal.client_id, "scopes": held and [*held.scopes]}

    return mcp


@asynccontextmanager
async def authorized(auth: BearerAuth | None = None, **options: Any) -> AsyncIterator[Wire]:
    async with serving(who_server(auth=auth or bearer()), **options) as wire:
        yield wire


class Asked(Verifier):
    """Says what it is told to."""

    issuers: tuple[str, ...] = (ISSUER,)

    def __init__(self, say: Callable[[str], Verdict]) -> None:
        self._say = say

    async def judge(self, token: str) -> Verdict:
        await trio.lowlevel.checkpoint()
        return self._say(token)


async def refused_unread(wire: Wire, headers: list[tuple[str, str]], *, path: str = "/mcp") -> dict[str, Any]:
    """The response to a POST whose body must not be read: status, headers by name, body."""
    found: dict[str, Any] = {}

    async def receive() -> Any:
        raise AssertionError("the body is read")

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            found.update(status=message["status"], headers=dict(message["headers"]))
        else:
            found["body"] = found.get("body", b"") + message["body"]

    where, _, query = path.partition("?")
    pairs = [("host", HOST), ("content-type", JSON), ("accept", BOTH), ("content-length", "1000"), *headers]
    await wire.app(
        {
            "type": "http",
            "method": "POST",
            "path": where,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        },
        receive,
        send,
    )
    return found


def challenge(found: dict[str, Any]) -> str:
    return str(found["headers"][b"www-authenticate"].decode())


@pytest.mark.requirement("auth-1")
@pytest.mark.parametrize("session", [{}, {"mcp-session-id": "node.unknown"}], ids=["no session", "a session"])
async def test_a_request_without_a_token_gets_a_challenge_and_nothing_is_read(session: dict[str, str]) -> None:
    async with authorized() as wire:
        found = await refused_unread(wire, [*session.items()])
        assert found["status"] == 401
        assert challenge(found) == NO_ERROR
        assert b'"code":-32600' in found["body"]
        assert b"A bearer token is required" in found["body"]
        assert not wire.app.hub.sessions


@pytest.mark.requirement("auth-2")
@pytest.mark.parametrize("value", ["Basic YTpi", "DPoP abc", "Bearer", "Bearer "])
async def test_another_scheme_and_no_token_get_a_challenge_without_error(value: str) -> None:
    async with authorized() as wire:
        found = await refused_unread(wire, [("authorization", value)])
        assert (found["status"], challenge(found)) == (401, NO_ERROR)


@pytest.mark.requirement("auth-3")
@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer  "])
async def test_the_scheme_has_any_case(scheme: str) -> None:
    async with authorized() as wire:
        assert await wire.initialize(headers={"authorization": scheme + token()}).head() == 200


@pytest.mark.requirement("auth-4")
@pytest.mark.parametrize("value", ["Bearer a b", "Bearer a,", "Bearer ${TOKEN}", "Bearer d\xe9j\xe0"])
async def test_a_malformed_header_is_a_400(value: str) -> None:
    async with authorized() as wire:
        found = await refused_unread(wire, [("authorization", value)])
        assert found["status"] == 400
        assert challenge(found).startswith('Bearer error="invalid_request"')


@pytest.mark.requirement("auth-5")
@pytest.mark.parametrize("second", [None, "Bearer other"], ids=["equal", "another"])
async def test_two_authorization_headers_are_a_400(second: str | None) -> None:
    first = f"Bearer {token()}"
    async with authorized() as wire:
        found = await refused_unread(wire, [("authorization", first), ("authorization", second or first)])
        assert found["status"] == 400
        assert (
            challenge(found) == 'Bearer error="invalid_request", error_description="Authorization comes more than once"'
        )


@pytest.mark.requirement("auth-6")
async def test_a_token_in_the_query_is_no_token_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    inside = token()
    async with authorized() as wire:
        found = await refused_unread(wire, [], path=f"/mcp?access_token={inside}")
        assert (found["status"], challenge(found)) == (401, NO_ERROR)
        form = await refused_unread(wire, [("content-type", "application/x-www-form-urlencoded")])
        assert form["status"] == 401
        exchange = wire.start(
            "POST",
            {"accept": BOTH, "content-type": JSON, **sent()},
            INITIALIZE,
            path="/mcp?access_token=other",
            opens=True,
        )
        assert await exchange.head() == 200
    assert inside not in caplog.text
    assert "access_token" not in caplog.text


@pytest.mark.requirement("auth-7")
@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_good_token_is_the_caller_and_reaches_the_handler(version: str) -> None:
    async with authorized() as wire:
        exchange = await who(wire, version, sent())
        assert (await exchange.result())["structuredContent"] == {
            "subject": "ann",
            "client": "desktop",
            "scopes": ["mcp:read"],
        }


async def who(wire: Wire, version: str, headers: dict[str, str]) -> Exchange:
    if version == MODERN:
        return wire.modern(headers=headers).tool("who")
    return (await wire.open(version, headers=headers)).tool("who")


@pytest.mark.parametrize(
    ("given", "description"),
    [
        (token(aud="https://mcp.example.com/mcp2"), "The token is for another audience"),
        (token(exp=NOW - 31), "The token has expired"),
        (token(rsa_key("other")), "The signature of the token is wrong"),
        (token(kid="unknown", iss="https://elsewhere.example.com"), "The token comes from another issuer"),
    ],
    ids=["audience", "expired", "signature", "issuer"],
)
async def test_a_bad_token_is_a_401_with_its_reason_and_nothing_is_read(given: str, description: str) -> None:
    async with authorized() as wire:
        found = await refused_unread(wire, [("authorization", f"Bearer {given}"), ("mcp-session-id", "node.some")])
        assert found["status"] == 401
        assert challenge(found) == (
            f'Bearer error="invalid_token", error_description="{description}", scope="mcp:read", '
            f'resource_metadata="{METADATA_URL}"'
        )
        assert b'"data":{"error":"invalid_token"}' in found["body"]
        assert not wire.app.hub.sessions


@pytest.mark.requirement("auth-35")
async def test_a_token_without_the_scope_of_the_server_is_a_403(caplog: pytest.LogCaptureFixture) -> None:
    async with authorized() as wire:
        found = await refused_unread(wire, [("authorization", f"Bearer {token(scope='other')}")])
        assert found["status"] == 403
        assert 'error="insufficient_scope"' in challenge(found)
        assert 'scope="mcp:read"' in challenge(found)
    (line,) = (record for record in caplog.records if record.message == "request refused")
    told = fields_of(line)
    assert told == {"status": 403, "reason": "scope", "client": "desktop", "principal": told["principal"], "more": None}
    assert len(told["principal"]) == 8


@pytest.mark.requirement("auth-28")
@pytest.mark.parametrize(
    "answer",
    [
        Response(200, b"no json"),
        Response(200, b"[]"),
        Response(200, b'{"keys": [' + b" " * 300_000 + b"]}"),
        Response(301, headers={"location": "https://elsewhere.example.com"}),
        Response(500),
    ],
    ids=["no JSON", "a list", "300 KiB", "301", "500"],
)
async def test_a_node_without_keys_is_not_ready_and_tells_clients_to_come_back(answer: Response) -> None:
    issuer = Issuer()
    issuer.answers[f"{ISSUER}/keys"] = answer
    async with authorized(bearer(verifier(issuer))) as wire:
        assert state(wire) is NodeState.KEYLESS
        assert await wire.start("GET", path="/readyz").head() == 503
        assert await wire.start("GET", path="/livez").head() == 503, "a balancer sends sessions' requests elsewhere"
        assert await wire.start("GET", path=WELL_KNOWN).head() == 200
        exchange = wire.initialize(headers=sent())
        assert await exchange.head() == 503
        assert exchange.headers["retry-after"] == "5"
        assert "www-authenticate" not in exchange.headers


@pytest.mark.requirement("auth-28")
async def test_the_node_is_ready_as_soon_as_there_are_keys(autojump_clock: Any) -> None:
    issuer = Issuer()
    good, issuer.answers[f"{ISSUER}/keys"] = issuer.answers[f"{ISSUER}/keys"], Response(500)
    async with authorized(bearer(verifier(issuer))) as wire:
        assert state(wire) is NodeState.KEYLESS
        issuer.answers[f"{ISSUER}/keys"] = good
        await trio.sleep(60)
        assert state(wire) is NodeState.READY
        assert await wire.initialize(headers=sent()).head() == 200
        issuer.answers[f"{ISSUER}/keys"] = Response(500)
        await trio.sleep(3000)
        assert await wire.start("GET", path="/readyz").head() == 200


@pytest.mark.requirement("auth-74")
async def test_a_fault_of_a_verifier_is_a_500_and_the_node_lives(caplog: pytest.LogCaptureFixture) -> None:
    def say(given: str) -> Verdict:
        if given == "good":
            return AccessToken("c", ["mcp:read"], subject="u")
        if given == "unknown":
            raise CannotTell("the issuer is away")
        raise ValueError("a bug")

    async with authorized(bearer(Asked(say))) as wire:
        exchange = wire.initialize(headers=sent("bad"))
        assert await exchange.head() == 500
        assert (await exchange.error())["code"] == -32603
        assert "www-authenticate" not in exchange.headers
        assert await wire.initialize(headers=sent("unknown")).head() == 503
        assert await wire.initialize(headers=sent("good")).head() == 200
        page = wire.app.service.metrics.render()[0].decode()
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 1
    assert 'trio_mcp_auth_total{outcome="failed",reason="authenticate_failed"} 1.0' in page
    assert 'trio_mcp_auth_total{outcome="unavailable",reason="cannot_authenticate"} 1.0' in page
    assert 'trio_mcp_auth_total{outcome="allowed",reason=""} 1.0' in page
    assert "trio_mcp_auth_seconds_count 3.0" in page


@pytest.mark.requirement("auth-34")
@pytest.mark.parametrize(
    "changes", [{"issuer": "https://evil.example.com"}, {"jwks_uri": "http://login.example.com/keys"}]
)
async def test_an_issuer_that_contradicts_the_configuration_stops_the_start(changes: dict[str, str]) -> None:
    issuer = Issuer()
    issuer.describe(**changes)
    mcp = who_server(auth=bearer(JWTVerifier(issuer=ISSUER, audience=RESOURCE, fetch=issuer.fetch)))
    entered: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        entered.append("lifespan")
        yield

    mcp.lifespan = lifespan  # type: ignore[method-assign]
    with pytest.raises(AuthConfigurationError) as caught:
        async with mcp.http_app().running():
            pytest.fail("it runs")
    assert ISSUER in str(caught.value)
    assert next(iter(changes.values())) in str(caught.value)
    assert entered == []


@pytest.mark.requirement("auth-28")
async def test_an_issuer_that_hangs_does_not_delay_the_start(autojump_clock: Any) -> None:
    issuer = Issuer()
    document = f"{ISSUER}/.well-known/oauth-authorization-server"
    good, issuer.answers[document] = issuer.answers[document], None
    judge = JWTVerifier(issuer=ISSUER, audience=RESOURCE, fetch=issuer.fetch, now=lambda: float(NOW))
    began = trio.current_time()
    async with authorized(bearer(judge)) as wire:
        assert trio.current_time() - began <= 1
        assert (await wire.start("GET", path="/readyz").raw.json())["waits_for"] == ["keys"]
        issuer.answers[document] = good
        await trio.sleep(60)
        assert state(wire) is NodeState.READY
        assert "waits_for" not in await wire.start("GET", path="/readyz").raw.json()


async def test_one_that_contradicts_the_configuration_after_a_while_ends_the_node(autojump_clock: Any) -> None:
    issuer = Issuer()
    issuer.describe(issuer="https://other.example.com")

    async def slow(method: str, url: str, headers: Any, body: bytes) -> Response:
        await trio.sleep(3)
        return await issuer.fetch(method, url, headers, body)

    mcp = who_server(auth=bearer(JWTVerifier(issuer=ISSUER, audience=RESOURCE, fetch=slow)))
    with pytest.raises(AuthConfigurationError, match="https://other"):
        async with mcp.http_app().running():
            await trio.sleep_forever()


WELL_KNOWN_PATHS = [WELL_KNOWN, f"{WELL_KNOWN}/", f"{WELL_KNOWN}/mcp", f"{WELL_KNOWN}/mcp/"]


@pytest.mark.requirement("auth-60")
async def test_the_metadata_has_the_same_bytes_under_every_path() -> None:
    async with authorized() as wire:
        bodies = set()
        for path in WELL_KNOWN_PATHS:
            exchange = wire.start("GET", path=path)
            assert await exchange.head() == 200
            assert exchange.headers["content-type"] == "application/json"
            assert exchange.headers["access-control-allow-origin"] == "*"
            bodies.add(await exchange.raw.body())
            assert await wire.start("HEAD", path=path).raw.body() == b""
        (body,) = bodies
        assert json.loads(body) == {
            "resource": RESOURCE,
            "authorization_servers": [ISSUER],
            "scopes_supported": ["mcp:read"],
            "bearer_methods_supported": ["header"],
        }
        exchange = wire.start("POST", path=WELL_KNOWN)
        assert await exchange.head() == 405
        assert exchange.headers["allow"] == "GET, HEAD, OPTIONS"
        preflight = {"origin": "https://x", "access-control-request-headers": "MCP-Protocol-Version"}
        exchange = wire.start("OPTIONS", preflight, path=WELL_KNOWN)
        assert await exchange.head() == 204
        assert exchange.headers["access-control-allow-origin"] == "*"
        assert await wire.start("GET", path=f"{WELL_KNOWN}/other").head() == 404


@pytest.mark.requirement("auth-61")
async def test_the_metadata_needs_no_token_but_the_right_host_in_every_state_of_the_node() -> None:
    async with authorized() as wire:
        for state in (NodeState.DRAINING, NodeState.LEAVING, NodeState.STOPPING):
            wire.app.life.enter(state)
            assert await wire.start("GET", sent("not-good"), path=WELL_KNOWN).head() == 200
            assert await wire.start("GET", {"host": "evil.example"}, path=WELL_KNOWN).head() == 421


@pytest.mark.requirement("auth-62")
async def test_the_resource_is_what_was_configured_byte_for_byte() -> None:
    url = "https://MCP.example.com/mcp/"
    async with authorized(bearer(resource=url)) as wire:
        assert (await wire.start("GET", path=f"{WELL_KNOWN}/mcp").raw.json())["resource"] == url
        found = await refused_unread(wire, [])
        assert 'resource_metadata="https://MCP.example.com/.well-known/oauth-protected-resource/mcp/"' in challenge(
            found
        )


@pytest.mark.requirement("auth-63")
async def test_what_a_proxy_says_changes_neither_resource_nor_challenge() -> None:
    lies = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        "x-forwarded-port": "666",
        "forwarded": "host=evil.example;proto=http",
    }
    async with authorized(allowed_hosts=None, forwarded_allow=["127.0.0.1"]) as wire:
        assert (await wire.start("GET", lies, path=WELL_KNOWN).raw.json())["resource"] == RESOURCE
        exchange = wire.initialize(headers=lies)
        assert await exchange.head() == 401
        assert exchange.headers["www-authenticate"] == NO_ERROR


@pytest.mark.requirement("auth-65")
async def test_a_preflight_needs_no_token_but_an_allowed_origin() -> None:
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with authorized(allowed_origins=["https://app.example"]) as wire:
        exchange = wire.start("OPTIONS", {"origin": "https://app.example", **ask})
        assert await exchange.head() == 204
        assert exchange.headers["access-control-allow-headers"] == "authorization"
        assert await wire.start("OPTIONS", {"origin": "https://evil.example", **ask}).head() == 403


@pytest.mark.requirement("auth-66")
@pytest.mark.parametrize("headers", [{}, sent(token(scope="other")), sent("a b")], ids=["401", "403", "400"])
async def test_a_page_of_an_allowed_origin_can_read_the_challenge(headers: dict[str, str]) -> None:
    async with authorized(allowed_origins=["https://app.example"]) as wire:
        exchange = wire.initialize(headers={"origin": "https://app.example", **headers})
        assert await exchange.head() in (400, 401, 403)
        assert exchange.headers["access-control-allow-origin"] == "https://app.example"
        assert "WWW-Authenticate" in exchange.headers["access-control-expose-headers"]
        assert exchange.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.requirement("auth-75")
async def test_probes_stay_open() -> None:
    async with authorized() as wire:
        for path in ("/livez", "/readyz", "/healthz"):
            assert await wire.start("GET", path=path).head() == 200


@pytest.mark.parametrize("legacy", [True, False])
async def test_clients_of_2025_03_26_find_the_issuers_metadata_at_the_root(legacy: bool) -> None:
    issuer = Issuer()
    judge = JWTVerifier(issuer=ISSUER, audience=RESOURCE, fetch=issuer.fetch, now=lambda: float(NOW))
    path = "/.well-known/oauth-authorization-server"
    async with authorized(bearer(judge, legacy_metadata=legacy)) as wire:
        exchange = wire.start("GET", path=path)
        assert await exchange.head() == (200 if legacy else 404)
        if legacy:
            assert exchange.headers["access-control-allow-origin"] == "*"
            assert await exchange.raw.json() == {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
            assert await wire.start("POST", path=path).head() == 405


@pytest.mark.parametrize("sync", [True, False])
async def test_a_route_of_the_users_own_can_be_protected(sync: bool) -> None:
    auth = bearer()
    mcp = who_server(auth=auth)
    ran: list[str] = []

    def page(request: Any) -> str:
        held = get_access_token()
        assert held is not None
        ran.append(str(held.subject))
        return f"for {held.subject} at {request.path}"

    async def async_page(request: Any) -> str:
        await trio.lowlevel.checkpoint()
        return page(request)

    mcp.custom_route("/page")(auth.protect(page if sync else async_page))
    mcp.custom_route("/admin")(auth.protect(page if sync else async_page, auth=require_scopes("mcp:admin")))
    async with serving(mcp) as wire:
        exchange = wire.start("GET", sent(), path="/page")
        assert await exchange.raw.body() == b"for ann at /page"
        refused = wire.start("GET", path="/page")
        assert await refused.head() == 401
        assert refused.headers["www-authenticate"] == NO_ERROR
        lacking = wire.start("GET", sent(), path="/admin")
        assert await lacking.head() == 403
        assert 'scope="mcp:read mcp:admin"' in lacking.headers["www-authenticate"]
        assert await lacking.raw.json() == {
            "error": "insufficient_scope",
            "error_description": "This page needs mcp:admin",
        }
        assert await wire.start("GET", sent(token(scope="mcp:read mcp:admin")), path="/admin").head() == 200
    assert ran == ["ann", "ann"]


async def test_a_protected_route_without_keys_is_a_503() -> None:
    issuer = Issuer()
    issuer.answers[f"{ISSUER}/keys"] = Response(500)
    auth = bearer(verifier(issuer))
    mcp = who_server(auth=auth)
    mcp.custom_route("/page")(auth.protect(lambda request: "never"))
    async with serving(mcp) as wire:
        exchange = wire.start("GET", sent(), path="/page")
        assert await exchange.head() == 503
        assert exchange.headers["retry-after"] == "5"
        assert "www-authenticate" not in exchange.headers


@pytest.mark.parametrize(
    ("fault", "status", "counted"),
    [
        (OSError("the database is away"), 503, 'outcome="unavailable",reason="cannot_authenticate"'),
        (trio.TooSlowError(), 503, 'outcome="unavailable",reason="cannot_authenticate"'),
        (CannotTell("later"), 503, 'outcome="unavailable",reason="cannot_authenticate"'),
        (ValueError("a bug"), 500, 'outcome="failed",reason="authenticate_failed"'),
        (None, 401, 'outcome="refused",reason="no_token"'),
    ],
)
async def test_what_a_verifier_raises_for_a_protected_route_is_answered_and_counted_as_on_the_endpoint(
    fault: Exception | None, status: int, counted: str
) -> None:
    class Broken:
        async def verify_token(self, text: str) -> AccessToken:
            assert fault is not None
            raise fault

    auth = bearer(Broken(), authorization_servers=[ISSUER])
    mcp = who_server(auth=auth)
    mcp.custom_route("/page")(auth.protect(lambda request: "never"))
    async with serving(mcp) as wire:
        exchange = wire.start("GET", {} if fault is None else sent(), path="/page")
        assert await exchange.head() == status
        assert ("retry-after" in exchange.headers) is (status == 503)
        assert f"trio_mcp_auth_total{{{counted}}} 1.0" in wire.app.service.metrics.render()[0].decode()


async def test_a_protected_route_has_the_deadline_of_the_endpoint(autojump_clock: Any) -> None:
    class Hanging:
        async def verify_token(self, text: str) -> AccessToken:
            await trio.sleep_forever()

    auth = bearer(Hanging(), authorization_servers=[ISSUER])
    mcp = who_server(auth=auth)
    mcp.custom_route("/page")(auth.protect(lambda request: "never"))
    async with serving(mcp) as wire:
        assert await wire.start("GET", sent(), path="/page").head() == 503
        assert trio.current_time() <= 11


async def test_the_address_that_a_trusted_proxy_names_is_the_sender_of_a_token() -> None:
    seen: list[str] = []

    class Noting(Verifier):
        issuers: tuple[str, ...] = (ISSUER,)

        async def judge(self, text: str) -> Verdict:
            seen.append(SENDER.get())
            return TokenRefused(Refusal.INACTIVE)

    for trusted in (["127.0.0.1"], []):
        async with authorized(bearer(Noting()), forwarded_allow=trusted) as wire:
            assert await wire.initialize(headers=sent(**{"x-forwarded-for": "192.0.2.7"})).head() == 401
    assert seen == ["192.0.2.7", ""]
    assert SENDER.get() == ""


async def test_a_mounted_server_has_its_own_authorization_or_that_of_the_outer_one() -> None:
    own = bearer(resource="https://mcp.example.com/own/mcp", required_scopes=["own"])
    outer = who_server(auth=bearer())
    outer.mount("/own", who_server(auth=own))
    outer.mount("/shared", who_server())
    async with serving(outer) as wire:
        assert (await wire.start("GET", path=WELL_KNOWN).raw.json())["resource"] == RESOURCE
        inner = await wire.start("GET", path=f"{WELL_KNOWN}/own/mcp").raw.json()
        assert inner["resource"] == "https://mcp.example.com/own/mcp"
        found = await refused_unread(wire, [], path="/own/mcp")
        assert 'resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/own/mcp"' in challenge(
            found
        )
        shared = await refused_unread(wire, [], path="/shared/mcp")
        assert challenge(shared) == NO_ERROR
        assert await wire.post(INITIALIZE, sent(), path="/shared/mcp", opens=True).head() == 200


async def test_apps_that_share_an_authorization_fetch_its_keys_once() -> None:
    issuer = Issuer()
    outer = who_server(auth=bearer(verifier(issuer)))
    outer.mount("/shared", who_server())
    async with serving(outer) as wire:
        assert await wire.post(INITIALIZE, sent(), path="/shared/mcp", opens=True).head() == 200
    assert issuer.asked == [f"{ISSUER}/keys"]


@pytest.mark.requirement("auth-64")
async def test_mounted_in_starlette_the_metadata_is_where_the_challenge_says() -> None:
    mcp = who_server(auth=bearer(verifier(audience=None), resource="http://127.0.0.1:8000/a/mcp"))
    app = mcp.http_app()
    outer = Starlette(routes=[*app.well_known_routes(), StarletteMount("/a", app)])
    async with app.running(), asgi_client(outer) as client:
        wire = Wire(app, client)
        exchange = wire.post(INITIALIZE, path="/a/mcp")
        assert await exchange.head() == 401
        url = exchange.headers["www-authenticate"].partition('resource_metadata="')[2].rstrip('"')
        path = urlsplit(url).path
        assert path == f"{WELL_KNOWN}/a/mcp"
        for where in (path, WELL_KNOWN):
            assert (await wire.start("GET", path=where).raw.json())["resource"] == "http://127.0.0.1:8000/a/mcp"
        assert await wire.start("POST", path=path).head() == 405
        assert await wire.start("OPTIONS", path=path).head() == 204
        good = sent(token(aud="http://127.0.0.1:8000/a/mcp"))
        assert await wire.post(INITIALIZE, good, path="/a/mcp", opens=True).head() == 200


@pytest.mark.parametrize("given", ["both", "a class", "a word", "an own verifier"])
def test_what_cannot_judge_is_refused_when_the_server_is_made(given: str) -> None:
    class Own:
        async def verify_token(self, token: str) -> AccessToken | None:
            return None

    wrong: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
        "both": ({"auth": bearer(), "authenticate": lambda request: None}, TypeError, "old name of auth="),
        "a class": ({"auth": Own}, TypeError, "auth= is a BearerAuth"),
        "a word": ({"auth": "secret"}, TypeError, "auth= is a BearerAuth"),
        "an own verifier": ({"auth": Own()}, AuthConfigurationError, "authorization_servers"),
    }
    arguments, kind, words = wrong[given]
    with pytest.raises(kind, match=words):
        MCPServer("test", **arguments)


async def test_a_verifier_of_ours_alone_is_authorization_too() -> None:
    async with serving(who_server(auth=verifier()), resource=RESOURCE) as wire:
        assert await wire.initialize(headers=sent(token())).head() == 200
        assert await wire.initialize().head() == 401


ANN = sent()
OTHERS = {"another user": sent(token(sub="bob")), "another client": sent(token(client_id="phone"))}


async def whole(exchange: Exchange) -> tuple[int, dict[str, str], bytes]:
    return await exchange.head(), exchange.headers, await exchange.raw.body()


REQUESTS: dict[str, Callable[[SessionClient, dict[str, str]], Exchange]] = {
    "POST": lambda client, headers: client.tool("who", id=1, headers=headers),
    "notification": lambda client, headers: client.post(
        {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers
    ),
    "GET": lambda client, headers: client.listen(headers=headers),
    "Last-Event-ID": lambda client, headers: client.listen("0-1", headers=headers),
    "DELETE": lambda client, headers: client.delete(headers=headers),
}


def stranger(wire: Wire, session_id: str) -> SessionClient:
    return SessionClient(wire, LEGACY, session_id, Oracle(LEGACY), {})


@pytest.mark.requirement("auth-43")
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("begin", REQUESTS.values(), ids=REQUESTS)
async def test_to_another_caller_a_session_is_an_id_that_never_was(
    begin: Callable[[SessionClient, dict[str, str]], Exchange], other: dict[str, str]
) -> None:
    async with authorized() as wire:
        session = await wire.open(headers=ANN)
        theirs = await whole(begin(stranger(wire, session.id), other))
        assert theirs == await whole(begin(stranger(wire, f"{session.id[:-4]}AAAA"), other))
        assert theirs[0] == 404
        assert await session.tool("who").result()


@pytest.mark.requirement("auth-44")
@pytest.mark.parametrize("begin", REQUESTS.values(), ids=REQUESTS)
async def test_a_session_id_without_a_token_says_nothing_of_the_session(
    begin: Callable[[SessionClient, dict[str, str]], Exchange],
) -> None:
    async with authorized() as wire:
        session = await wire.open(headers=ANN)
        refused = await whole(begin(stranger(wire, session.id), {}))
        assert refused == await whole(begin(stranger(wire, "node.unknown"), {}))
        assert (refused[0], refused[1]["www-authenticate"]) == (401, NO_ERROR)


@pytest.mark.requirement("auth-46")
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_nobody_else_answers_or_cancels_a_call(other: dict[str, str]) -> None:
    mcp = MCPServer("test", auth=bearer())

    @mcp.tool
    async def ask(ctx: Context) -> str:
        return str((await ctx.elicit("Well?", {"type": "object", "properties": {}})).action)

    async with serving(mcp) as wire:
        session = await wire.open(capabilities={"elicitation": {}}, headers=ANN)
        exchange = session.tool("ask", id=7)
        question = await exchange.message()
        theirs = stranger(wire, session.id)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}}
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        for message in (answer, cancelled):
            assert await theirs.post(message, other).head() == 404
        assert await session.reply(question["id"], {"action": "decline"}) == 202
        assert (await exchange.result())["content"][0]["text"] == "decline"


@pytest.mark.requirement("auth-29")
async def test_while_the_issuer_is_away_sessions_and_streams_go_on(autojump_clock: Any) -> None:
    issuer = Issuer()
    async with authorized(bearer(verifier(issuer))) as wire:
        session = await wire.open(headers=sent(token(exp=NOW + 7200)))
        stream = session.listen()
        assert await stream.head() == 200
        issuer.answers[f"{ISSUER}/keys"] = Response(500)
        await trio.sleep(3600)
        assert (await session.tool("who").result())["structuredContent"]["subject"] == "ann"
        assert await wire.initialize(headers=sent(token(rsa_key("k2"), kid="k2"))).head() == 503
        assert not stream.raw.finished.is_set()
        page = wire.app.service.metrics.render()[0].decode()
        label = f'issuer="{ISSUER}"'
        assert f'trio_mcp_jwks_refresh_total{{{label},outcome="ok"}} 1.0' in page
        assert f"trio_mcp_jwks_age_seconds{{{label}}} " in page
        assert f'trio_mcp_jwks_refresh_total{{{label},outcome="failed"}} 0.0' not in page


@pytest.mark.requirement("auth-31")
@pytest.mark.requirement("auth-32")
async def test_new_keys_are_fetched_once_for_all_and_old_ones_are_refused(autojump_clock: Any) -> None:
    issuer = Issuer()
    async with authorized(bearer(verifier(issuer))) as wire:
        assert await wire.initialize(headers=ANN).head() == 200
        issuer.publish(jwk(rsa_key("k2"), "k2"))
        before = len(issuer.asked)
        new = sent(token(rsa_key("k2"), kid="k2"))
        exchanges = [wire.initialize(headers=new) for _ in range(20)]
        assert {await each.head() for each in exchanges} == {200}
        assert len(issuer.asked) == before + 1
        assert await wire.initialize(headers=ANN).head() == 401


OF_TOKENS = [reason for reason in Refusal if reason.error == "invalid_token"]


@pytest.mark.parametrize("reason", OF_TOKENS, ids=lambda reason: str(reason.value))
async def test_whatever_is_wrong_with_a_token_nothing_is_read_or_opened(
    reason: Refusal, caplog: pytest.LogCaptureFixture
) -> None:
    def say(given: str) -> Verdict:
        return TokenRefused(reason, kid="k9", issuer="https://somewhere.example")

    caplog.set_level(logging.INFO)
    async with authorized(bearer(Asked(say))) as wire:
        found = await refused_unread(wire, [("authorization", "Bearer s3cret.of.somebody")])
        assert found["status"] == 401
        assert challenge(found) == (
            f'Bearer error="invalid_token", error_description="{reason.description}", scope="mcp:read", '
            f'resource_metadata="{METADATA_URL}"'
        )
        assert not wire.app.hub.sessions
        page = wire.app.service.metrics.render()[0].decode()
    assert f'trio_mcp_auth_total{{outcome="refused",reason="{reason.value}"}} 1.0' in page
    assert f'trio_mcp_refused_total{{reason="{reason.value}",status="401"}} 1.0' in page
    (line,) = (fields_of(record) for record in caplog.records if record.message == "request refused")
    assert (line["reason"], line["kid"], line["iss"]) == (reason.value, "k9", "https://somewhere.example")
    assert "s3cret" not in caplog.text
