"""A token that comes with the same head as before is not judged from the start again; whatever may have changed is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.auth.issuer import ISSUER, NOW, RESOURCE, key, pem, token
from tests.transports.listener.harness import RawClient, answers, serving
from tests.transports.test_direct import modern
from trio_mcp import CannotTell, Context, MCPServer
from trio_mcp.auth import AccessToken, BearerAuth, JWTVerifier, StaticTokenVerifier
from trio_mcp.auth.claim_rules import LEEWAY_SECONDS
from trio_mcp.auth.verifier import Verdict, Verifier


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Counting(Verifier):
    """Hands everything to another verifier, and counts what it was asked."""

    def __init__(self, inner: Verifier) -> None:
        self.inner = inner
        self.judged = 0
        self.stands = True
        self.failure: Exception | None = None
        self.issuers = inner.issuers

    def bind(self, resource: str) -> None:
        self.inner.bind(resource)

    async def judge(self, token: str) -> Verdict:
        self.judged += 1
        return await self.inner.judge(token)

    def standing(self, token: str) -> Any:
        stands = self.inner.standing(token)
        return None if stands is None else lambda: self._stands(stands)

    def _stands(self, stands: Any) -> bool:
        if self.failure is not None:
            raise self.failure
        return bool(stands()) and self.stands


def by_key(clock: Clock, name: str = "first") -> JWTVerifier:
    """Verifies tokens that the key of that name has signed."""
    return JWTVerifier(issuer=ISSUER, audience=RESOURCE, public_key=pem(key(name, "P-256")), now=clock)


def signed(**changes: Any) -> str:
    return token(key("first", "P-256"), alg="ES256", **changes)


def sent_with(bearer: str, pad: str = "") -> bytes:
    return modern("look", {"pad": pad}, authorization=f"Bearer {bearer}")


@asynccontextmanager
async def guarded(verifier: Verifier, clock: Clock) -> AsyncIterator[tuple[RawClient, Any, list[AccessToken]]]:
    """A connection to a server whose tool `look` notes the token of its call, and then writes into its claims."""
    mcp = MCPServer("t")
    seen: list[AccessToken] = []

    @mcp.tool
    async def look(ctx: Context, pad: str = "") -> str:
        assert ctx.token is not None
        assert ctx.token.claims is not None
        assert dict(ctx.principal.claims) == dict(ctx.token.claims)
        assert "role" not in ctx.token.claims
        seen.append(ctx.token)
        claims: Any = ctx.token.claims
        claims["role"] = "admin"
        return ctx.principal.subject

    auth = BearerAuth(
        verifier, resource=RESOURCE, authorization_servers=[ISSUER], required_scopes=["mcp:read"], now=clock
    )
    app = mcp.http_app(auth=auth)
    async with app.running(), serving(app, direct=app) as ours:
        yield ours.connect(), app, seen


async def status(client: RawClient, sent: bytes) -> int:
    await client.say(sent)
    (answer,) = answers(await client.hear(), closed=False)
    assert b'"isError":true' not in answer.body
    return answer.status


async def test_a_token_is_judged_until_its_head_has_come_twice() -> None:
    clock = Clock()
    verifier = Counting(by_key(clock))
    async with guarded(verifier, clock) as (client, app, seen):
        known, other = signed(sub="ann"), signed(sub="ben")
        assert [await status(client, sent_with(known)) for _ in range(4)] == [200] * 4
        assert verifier.judged == 2
        # The length of a body says nothing about its sender.
        assert await status(client, sent_with(known, pad="x")) == 200
        assert verifier.judged == 2
        assert await status(client, sent_with(other, pad="x")) == 200
        assert await status(client, sent_with(known, pad="x")) == 200
        assert verifier.judged == 4
    assert [each.subject for each in seen] == ["ann"] * 5 + ["ben", "ann"]
    page = app.service.metrics.render()[0].decode()
    assert 'trio_mcp_auth_total{outcome="allowed",reason=""} 7.0' in page


async def test_a_known_token_expires() -> None:
    clock = Clock()
    async with guarded(by_key(clock), clock) as (client, _, _):
        sent = sent_with(signed(exp=NOW + 60))
        assert [await status(client, sent) for _ in range(3)] == [200] * 3
        clock.now = NOW + 60 + LEEWAY_SECONDS - 1
        assert await status(client, sent) == 200
        clock.now += 1
        assert await status(client, sent) == 401


@pytest.mark.parametrize("failure", [None, CannotTell("no keys")], ids=["not taken", "cannot tell"])
async def test_a_known_token_that_does_not_stand_is_judged_again(failure: Exception | None) -> None:
    clock = Clock()
    verifier = Counting(by_key(clock))
    async with guarded(verifier, clock) as (client, _, _):
        sent = sent_with(signed())
        assert [await status(client, sent) for _ in range(3)] == [200] * 3
        before = verifier.judged
        verifier.stands, verifier.failure = False, failure
        assert await status(client, sent) == 200
        assert verifier.judged == before + 1


async def test_a_known_token_whose_key_was_withdrawn_is_refused() -> None:
    clock = Clock()
    verifier = by_key(clock)
    async with guarded(verifier, clock) as (client, _, _):
        sent = sent_with(signed())
        assert [await status(client, sent) for _ in range(3)] == [200] * 3
        verifier._keys = by_key(clock, "second")._keys
        assert await status(client, sent) == 401


async def test_a_fixed_token_is_known_as_well() -> None:
    clock = Clock()
    verifier = Counting(StaticTokenVerifier({"s" * 40: AccessToken("ann", ("mcp:read",))}))
    async with guarded(verifier, clock) as (client, _, _):
        assert [await status(client, sent_with("s" * 40)) for _ in range(4)] == [200] * 4
    assert verifier.judged == 2
