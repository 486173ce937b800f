"""Tokens of a real authorization server, judged by `BearerAuth`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.rig.authorization_server import RESOURCE_SERVER, AuthorizationServer, authorization_server
from trio_mcp.auth import AccessToken, BearerAuth, IntrospectionVerifier, JWTVerifier, MultiAuth, StaticTokenVerifier
from trio_mcp.auth.judgement import Allowed, Judgement, Refused, Unavailable
from trio_mcp.auth.verifier import Verifier

pytestmark = [pytest.mark.sockets, pytest.mark.processes, pytest.mark.slow]

RESOURCE = "http://127.0.0.1:8000/mcp"
OPAQUE = "http://127.0.0.1:8000/opaque"


@pytest.fixture
async def login() -> AsyncIterator[AuthorizationServer]:
    async with authorization_server() as server:
        yield server


@asynccontextmanager
async def running(auth: BearerAuth) -> AsyncIterator[BearerAuth]:
    async with trio.open_nursery() as nursery:
        await nursery.start(auth.run)
        yield auth
        nursery.cancel_scope.cancel()


def introspection(login: AuthorizationServer, **options: object) -> IntrospectionVerifier:
    return IntrospectionVerifier(
        f"{login.issuer}/token/introspection",
        issuer=login.issuer,
        audience=OPAQUE,
        **{"client_id": RESOURCE_SERVER.client_id, "client_secret": RESOURCE_SERVER.client_secret, **options},  # type: ignore[arg-type]
    )


def short(judgement: Judgement) -> str:
    match judgement:
        case Allowed():
            return "allowed"
        case Refused():
            return f"{judgement.status} {judgement.reason.value}"
        case Unavailable():
            return "503"


async def judged(auth: BearerAuth, token: str) -> str:
    return short(await auth.judge([f"Bearer {token}"]))


async def test_what_it_signs_is_verified_by_keys_that_its_metadata_names(login: AuthorizationServer) -> None:
    auth = BearerAuth.from_issuer(login.issuer, resource=RESOURCE, required_scopes=["mcp:read"])
    async with running(auth):
        judgement = await auth.judge([f"Bearer {await login.token(RESOURCE, 'mcp:read', 'mcp:write')}"])
        assert isinstance(judgement, Allowed)
        assert (judgement.principal.issuer, judgement.principal.client_id) == (login.issuer, "machine")
        assert judgement.token.scopes == ("mcp:read", "mcp:write")
        assert await judged(auth, await login.token(RESOURCE + "2", "mcp:read")) == "401 audience"
        assert await judged(auth, await login.token(RESOURCE, "mcp:write")) == "403 scope"
    assert login.asked("/jwks") == 1


async def test_opaque_tokens_are_asked_for_and_revoked_ones_refused(login: AuthorizationServer) -> None:
    auth = BearerAuth(introspection(login, cache=0), resource=OPAQUE)
    token = await login.token(OPAQUE, "mcp:read")
    assert await judged(auth, token) == "allowed"
    await login.revoke(token)
    assert (await judged(auth, token)).startswith("401 ")
    wrong = BearerAuth(introspection(login, client_secret="another"), resource=OPAQUE)
    assert await judged(wrong, token) == "503"


@pytest.mark.requirement("auth-72")
async def test_each_token_goes_to_who_can_verify_it(login: AuthorizationServer) -> None:
    verifiers: list[Verifier] = [
        JWTVerifier(issuer=login.issuer, audience=RESOURCE),
        introspection(login),
        StaticTokenVerifier({"the-token-of-the-builds": AccessToken("ci", ["mcp:read"])}),
    ]
    tokens = [await login.token(RESOURCE, "mcp:read"), await login.token(OPAQUE, "mcp:read"), "the-token-of-the-builds"]
    async with running(BearerAuth(MultiAuth(*verifiers), resource=RESOURCE)) as auth:
        assert [await judged(auth, token) for token in tokens] == ["allowed"] * 3
        assert (await judged(auth, "junk")).startswith("401 ")


@pytest.mark.requirement("auth-31", "auth-32")
async def test_keys_are_rotated_by_a_restart(login: AuthorizationServer) -> None:
    async with running(BearerAuth.from_issuer(login.issuer, resource=RESOURCE)) as auth:
        old = await login.token(RESOURCE, "mcp:read")
        assert await judged(auth, old) == "allowed"
        await login.stop()
        login.keys = ["two", "one"]
        await login.start()
        new = await login.token(RESOURCE, "mcp:read")
        assert [await judged(auth, token) for token in (new, old)] == ["allowed", "allowed"]
        assert login.asked("/jwks") == 2


@pytest.mark.requirement("auth-29")
async def test_while_it_is_away_its_known_keys_count(login: AuthorizationServer) -> None:
    async with running(BearerAuth.from_issuer(login.issuer, resource=RESOURCE)) as auth:
        known = await login.token(RESOURCE, "mcp:read")
        login.keys = ["two"]
        await login.stop()
        await login.start()
        unknown = await login.token(RESOURCE, "mcp:read")
        await login.stop()
        assert [await judged(auth, token) for token in (known, unknown)] == ["allowed", "503"]
