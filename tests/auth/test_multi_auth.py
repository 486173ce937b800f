"""Several verifiers at once."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.auth.issuer import ISSUER, NOW, RESOURCE, Issuer, jwk, rsa_key, running, token, verifier
from tests.auth.test_introspection import ACTIVE, Endpoint
from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.judgement import Allowed, Refused
from trio_mcp.auth.multi_auth import MultiAuth
from trio_mcp.auth.principal import CannotTell
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.static_tokens import StaticTokenVerifier
from trio_mcp.auth.tokens import AccessToken

OTHER = "https://other-login.example.com"
STATIC = StaticTokenVerifier({"ci-token": AccessToken(client_id="ci"), "a.b.c": AccessToken(client_id="dots")})


def other_issuer() -> Issuer:
    return Issuer(jwk(rsa_key("other"), "k1"), url=OTHER)


async def verdict(subject: MultiAuth, text: str) -> object:
    """The client that a token is accepted for, the reason of a refusal, or CannotTell."""
    try:
        found = await subject.judge(text)
    except CannotTell:
        return CannotTell
    return found.reason if isinstance(found, TokenRefused) else found.client_id


@pytest.mark.requirement("auth-72")
async def test_each_token_goes_to_who_can_verify_it() -> None:
    endpoint = Endpoint(ACTIVE)
    subject = MultiAuth(verifier(Issuer()), verifier(other_issuer(), issuer=OTHER), endpoint.verifier(), STATIC)
    async with running(subject):
        assert subject.ready
        assert subject.issuers == (ISSUER, OTHER)
        assert await verdict(subject, token()) == "desktop"
        assert await verdict(subject, token(rsa_key("other"), iss=OTHER)) == "desktop"
        assert await verdict(subject, token(rsa_key("other"))) is Refusal.SIGNATURE
        assert await verdict(subject, token(iss=OTHER)) is Refusal.SIGNATURE
        assert endpoint.asked == []
        assert await verdict(subject, "ci-token") == "ci"
        assert await verdict(subject, "a.b.c") == "dots"
        assert endpoint.asked == []
        assert await verdict(subject, "opaque") == "desktop"
        assert len(endpoint.asked) == 1
        assert set(subject.statistics()) == {ISSUER, OTHER}


async def test_a_signed_token_of_nobody_we_know_goes_to_the_others() -> None:
    endpoint = Endpoint(ACTIVE)
    subject = MultiAuth(verifier(), endpoint.verifier())
    assert await verdict(subject, token(iss=OTHER)) == "desktop"
    assert await verdict(MultiAuth(verifier(), STATIC), token(iss=OTHER)) is Refusal.NOT_ACCEPTED
    assert await verdict(MultiAuth(verifier()), token(iss=OTHER)) is Refusal.NOT_ACCEPTED


@pytest.mark.requirement("auth-73")
async def test_an_authorization_server_that_is_away_leaves_the_other_tokens_good() -> None:
    subject = MultiAuth(Endpoint(Response(500)).verifier(), STATIC)
    assert await verdict(subject, "ci-token") == "ci"
    assert await verdict(subject, "unknown") is CannotTell


async def test_a_yes_counts_more_than_an_open_question() -> None:
    subject = MultiAuth(Endpoint(OSError()).verifier(), Endpoint(ACTIVE).verifier())
    assert await verdict(subject, "opaque") == "desktop"


async def test_it_is_ready_when_all_are(autojump_clock: object) -> None:
    other = other_issuer()
    good = other.answers[f"{OTHER}/keys"]
    other.answers[f"{OTHER}/keys"] = Response(500)
    subject = MultiAuth(verifier(Issuer()), verifier(other, issuer=OTHER))
    async with running(subject):
        assert not subject.ready
        assert await verdict(subject, token()) == "desktop"
        other.answers[f"{OTHER}/keys"] = good
        before = trio.current_time()
        await BearerAuth(subject, resource=RESOURCE).wait_ready()
        assert trio.current_time() - before == 1
        assert subject.ready


async def test_one_that_is_configured_wrongly_stops_the_start_by_a_plain_error() -> None:
    other = other_issuer()
    other.describe(issuer="https://evil.example")
    subject = MultiAuth(verifier(Issuer()), verifier(other, issuer=OTHER, jwks_uri=None))
    with pytest.raises(AuthConfigurationError, match=r"evil\.example"):
        async with trio.open_nursery() as nursery:
            try:
                await nursery.start(subject.run)
            except AuthConfigurationError as error:
                fault = error
            else:
                nursery.cancel_scope.cancel()
        raise fault


async def test_the_resource_is_the_audience_of_all_that_have_none() -> None:
    subject = MultiAuth(verifier(audience=None), Endpoint(ACTIVE).verifier(audience=None), STATIC)
    subject.bind(RESOURCE)
    assert await verdict(subject, token()) == "desktop"
    assert await verdict(subject, "opaque") == "desktop"
    assert subject.issuer_document is None


def test_it_needs_a_verifier() -> None:
    with pytest.raises(ValueError, match="needs a verifier"):
        MultiAuth()


async def test_verifiers_of_users_are_asked_too() -> None:
    class Mine:
        async def verify_token(self, token: str) -> Any:
            return AccessToken(client_id="mine") if token == "mine" else None

    subject = MultiAuth(verifier(), Mine())
    assert await verdict(subject, "mine") == "mine"
    assert await verdict(subject, "yours") is Refusal.NOT_ACCEPTED


OTHER_RESOURCE = "https://other.example/mcp"


@pytest.mark.parametrize(
    ("resource", "why"), [(OTHER_RESOURCE, Refusal.AUDIENCE), (RESOURCE + "/", None), (None, None)]
)
async def test_tokens_of_users_verifiers_are_for_this_server(resource: str | None, why: Refusal | None) -> None:
    class Mine:
        async def verify_token(self, token: str) -> Any:
            return AccessToken(client_id="mine", resource=resource)

    for subject in (MultiAuth(Mine(), STATIC), MultiAuth(MultiAuth(STATIC, Mine()))):
        judgement = await BearerAuth(subject, resource=RESOURCE, authorization_servers=[ISSUER]).judge(["Bearer mine"])
        assert (judgement.reason if isinstance(judgement, Refused) else None) is why


@pytest.mark.parametrize("padding", [0, 20_000])
async def test_a_long_token_goes_to_its_verifier_too(padding: int) -> None:
    subject = MultiAuth(verifier(max_token=64_000), verifier(other_issuer(), issuer=OTHER))
    auth = BearerAuth(subject, resource=RESOURCE, max_token=64_000, now=lambda: float(NOW))
    assert isinstance(await auth.judge([f"Bearer {token(padding='x' * padding)}"]), Allowed)
