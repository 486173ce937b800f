"""The keys of an issuer over time, by a virtual clock: outages, rotation, floods of unknown keys."""

from __future__ import annotations

import json
import logging
from collections import Counter

import pytest
import trio
import trio.testing

from tests.auth.issuer import ISSUER, KEYS_URL, Issuer, jwk, rsa_key, running, token, verifier
from trio_mcp.auth.errors import AuthConfigurationError, FetchError
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.jwt_verifier import JWTVerifier
from trio_mcp.auth.keys import KeyMiss
from trio_mcp.auth.principal import CannotTell
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.tokens import AccessToken

HOUR = 3600


async def verdict(subject: JWTVerifier, text: str) -> object:
    """`ok`, the reason of a refusal, or CannotTell."""
    try:
        found = await subject.judge(text)
    except CannotTell:
        return CannotTell
    return found.reason if isinstance(found, TokenRefused) else "ok"


@pytest.mark.requirement("auth-28")
@pytest.mark.parametrize(
    "answer",
    [
        Response(200, b"<html>"),
        Response(200, b"[]"),
        Response(200, b" " * 300 * 1024),
        Response(301, b"", {"location": "https://elsewhere.example/keys"}),
        Response(500),
        Response(404),
        FetchError("no route"),
        OSError("refused"),
        ValueError("what an HTTP library raises"),
        None,
    ],
)
async def test_without_keys_the_node_is_not_ready_and_nothing_is_refused(
    answer: Response | Exception | None, autojump_clock: object
) -> None:
    issuer = Issuer()
    good = issuer.answers[KEYS_URL]
    issuer.answers[KEYS_URL] = answer
    subject = verifier(issuer)
    async with running(subject):
        ready_before = subject.ready
        assert await verdict(subject, token()) is CannotTell
        assert set(issuer.asked) == {KEYS_URL}
        issuer.answers[KEYS_URL] = good
        await trio.sleep(31)
        assert (ready_before, subject.ready) == (False, True)
        assert await verdict(subject, token()) == "ok"


async def test_an_issuer_that_is_away_at_the_start_is_asked_less_and_less_often(autojump_clock: object) -> None:
    issuer = Issuer()
    issuer.answers[KEYS_URL] = Response(500)
    async with running(verifier(issuer)):
        await trio.sleep(60.5)
        # At 0, 1, 3, 7, 15, 31 s.
        assert len(issuer.asked) == 6


@pytest.mark.requirement("auth-29")
async def test_an_outage_leaves_tokens_under_known_keys_good_for_four_hours(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        issuer.answers[KEYS_URL] = OSError("down")
        assert await verdict(subject, token(rsa_key("k2"), kid="k2")) is CannotTell
        assert await verdict(subject, token()) == "ok"
        await trio.sleep(4 * HOUR - 1)
        assert subject.ready
        assert await verdict(subject, token()) == "ok"
        assert await verdict(subject, token(jti="not seen before")) == "ok"
        await trio.sleep(2)
        assert subject.ready
        assert await verdict(subject, token()) is CannotTell
        assert await verdict(subject, token(jti="not seen before either")) is CannotTell
        issuer.publish(jwk(rsa_key("k1"), "k1"))
        await trio.sleep(31)
        assert await verdict(subject, token()) == "ok"


@pytest.mark.requirement("auth-30")
async def test_an_issuer_that_hangs_delays_nobody_whose_key_is_known(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        issuer.answers[KEYS_URL] = None
        answers: Counter[object] = Counter()

        async def ask() -> None:
            answers[await verdict(subject, token(rsa_key("k2"), kid="k2"))] += 1

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert issuer.hung == 1
            assert await verdict(subject, token()) == "ok"
            assert trio.current_time() == began
        assert trio.current_time() - began <= 5
        assert answers == {CannotTell: 1000}
        assert len(issuer.asked) == 2


@pytest.mark.requirement("auth-31")
async def test_the_first_token_under_a_new_key_passes_and_a_hundred_at_once_cause_one_fetch(
    autojump_clock: object,
) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        issuer.publish(jwk(rsa_key("k1"), "k1"), jwk(rsa_key("k2"), "k2"))
        answers: Counter[object] = Counter()

        async def ask(number: int) -> None:
            answers[await verdict(subject, token(rsa_key("k2"), kid="k2", jti=str(number)))] += 1

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert answers == {"ok": 100}
        assert len(issuer.asked) == 2


@pytest.mark.requirement("auth-32")
async def test_a_key_that_was_withdrawn_is_refused_for_tokens_that_were_verified_before_too(
    autojump_clock: object,
) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        text = token()
        assert await verdict(subject, text) == "ok"
        issuer.publish(jwk(rsa_key("k2"), "k2"))
        await trio.sleep(601)
        assert await verdict(subject, text) is Refusal.UNKNOWN_KEY
        assert await verdict(subject, token(rsa_key("k2"), kid="k2")) == "ok"


@pytest.mark.requirement("auth-32")
async def test_another_key_under_the_same_name_is_another_key(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        text = token()
        assert await verdict(subject, text) == "ok"
        issuer.publish(jwk(rsa_key("k2"), "k1"))
        await trio.sleep(601)
        assert await verdict(subject, text) is Refusal.SIGNATURE


@pytest.mark.requirement("auth-13", "auth-33")
async def test_a_flood_of_unknown_keys_causes_six_fetches_a_minute(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    evil, good = token(kid="x"), token()
    async with running(subject):
        await trio.sleep(1)
        for number in range(10_000):
            await trio.sleep(0.006)
            if number % 100 == 0:
                assert await verdict(subject, good) == "ok"
            found = await subject._keys.find(f"x{number}", "RS256")
            assert found is KeyMiss.UNKNOWN
        assert await verdict(subject, evil) is Refusal.UNKNOWN_KEY
        assert len(issuer.asked) <= 1 + 6


async def test_in_the_pause_the_answer_is_that_of_the_last_fetch(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        issuer.answers[KEYS_URL] = Response(500)
        unknown = token(kid="x")
        assert await verdict(subject, unknown) is CannotTell
        issuer.publish(jwk(rsa_key("k1"), "k1"))
        # The fetch after a failure comes by itself; the answer changes with it.
        await trio.sleep(2)
        asked = len(issuer.asked)
        assert await verdict(subject, unknown) is Refusal.UNKNOWN_KEY
        assert len(issuer.asked) == asked


async def test_a_client_that_leaves_while_its_key_is_fetched_stops_nothing(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    async with running(subject):
        issuer.answers[KEYS_URL] = None
        with trio.move_on_after(1):
            await subject.judge(token(rsa_key("k2"), kid="k2"))
        assert issuer.hung == 1
        issuer.publish(jwk(rsa_key("k2"), "k2"))
        await trio.sleep(10)
        assert await verdict(subject, token(rsa_key("k2"), kid="k2")) == "ok"


async def test_the_issuer_says_how_long_its_keys_are_good(autojump_clock: object) -> None:
    issuer = Issuer()
    issuer.publish(jwk(rsa_key("k1"), "k1"), headers={"cache-control": "max-age=120"})
    async with running(verifier(issuer)):
        await trio.sleep(121)
        assert len(issuer.asked) == 2


@pytest.mark.requirement("auth-34")
async def test_metadata_of_another_issuer_stops_the_start_and_both_are_named(autojump_clock: object) -> None:
    issuer = Issuer()
    issuer.describe(issuer="https://evil.example")
    with pytest.raises(AuthConfigurationError, match=f"'{ISSUER}'.*'https://evil.example'"):
        await verifier(issuer, jwks_uri=None).run()


@pytest.mark.requirement("auth-34")
@pytest.mark.parametrize("uri", ["http://login.example.com/keys", "http://127.0.0.1/keys"])
async def test_keys_without_tls_of_an_issuer_with_tls_stop_the_start(uri: str, autojump_clock: object) -> None:
    issuer = Issuer()
    issuer.describe(jwks_uri=uri)
    with pytest.raises(AuthConfigurationError, match=f"{ISSUER}.*{uri}"):
        await verifier(issuer, jwks_uri=None).run()


async def test_metadata_that_goes_wrong_later_stops_nothing(
    caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    issuer = Issuer()
    subject = verifier(issuer, jwks_uri=None)
    async with running(subject):
        issuer.answers[KEYS_URL] = Response(410)
        issuer.describe(issuer="https://evil.example")
        await trio.sleep(700)
        assert await verdict(subject, token()) == "ok"
        assert "evil.example" in " ".join(str(record.__dict__) for record in caplog.records)
        issuer.describe(jwks_uri=f"{ISSUER}/moved")
        issuer.answers[f"{ISSUER}/moved"] = Response(200, json.dumps({"keys": [jwk(rsa_key("k2"), "k2")]}).encode())
        await trio.sleep(40)
        assert await verdict(subject, token(rsa_key("k2"), kid="k2")) == "ok"


@pytest.mark.requirement("auth-27")
async def test_the_same_fault_is_logged_once(caplog: pytest.LogCaptureFixture, autojump_clock: object) -> None:
    issuer = Issuer()
    issuer.publish(jwk(rsa_key("k1"), "k1"), {"kty": "OKP", "crv": "X25519", "x": "A" * 43, "kid": "x"})
    subject = verifier(issuer)
    with caplog.at_level(logging.INFO, "trio_mcp.auth"):
        async with running(subject):
            await trio.sleep(5 * HOUR)
            assert await verdict(subject, token()) == "ok"
            assert [record.getMessage() for record in caplog.records] == ["some keys of the issuer cannot be used"]
            issuer.publish(jwk(rsa_key("k1"), "k1"))
            await trio.sleep(HOUR)
    assert [record.getMessage() for record in caplog.records][1:] == ["the keys of the issuer are good again"]


async def test_the_age_of_the_keys_can_be_told(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer)
    assert subject.statistics() == {ISSUER: {"age_seconds": None, "succeeded": 0, "failed": 0}}
    async with running(subject):
        await trio.sleep(7)
        assert subject.statistics() == {ISSUER: {"age_seconds": 7, "succeeded": 1, "failed": 0}}
    assert verifier().statistics() == {}


async def test_the_document_of_the_issuer_can_be_shown_to_old_clients(autojump_clock: object) -> None:
    issuer = Issuer()
    subject = verifier(issuer, jwks_uri=None)
    async with running(subject):
        assert json.loads(subject.issuer_document or b"")["issuer"] == ISSUER
        assert isinstance(await subject.judge(token()), AccessToken)
    assert verifier().issuer_document is None
