"""Asking the authorization server about tokens."""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio
import trio.testing

from tests.auth.issuer import ISSUER, NOW, RESOURCE, claims
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.introspection import IntrospectionVerifier
from trio_mcp.auth.multi_auth import MultiAuth
from trio_mcp.auth.principal import CannotTell
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.static_tokens import StaticTokenVerifier
from trio_mcp.auth.tokens import AccessToken, principal_of
from trio_mcp.auth.verifier import sent_by

URL = f"{ISSUER}/introspect"
ACTIVE = {"active": True, **claims()}


class Endpoint:
    """An introspection endpoint in memory."""

    def __init__(self, answer: Response | Exception | dict[str, Any] | None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str], dict[str, list[str]]]] = []
        """Method, headers and form of all questions so far."""
        self.begun = trio.Event()

    async def fetch(self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
        """The port `Fetch`."""
        assert url == URL
        self.asked.append((method, dict(headers), parse_qs(body.decode())))
        self.begun.set()
        if self.answer is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        return Response(200, json.dumps(self.answer).encode()) if isinstance(self.answer, dict) else self.answer

    def verifier(self, **options: Any) -> IntrospectionVerifier:
        """Asks here; its clock stands at `NOW`."""
        given = {"client_id": "rs", "client_secret": "s3cret", "audience": RESOURCE, "issuer": ISSUER}
        return IntrospectionVerifier(URL, **{**given, "fetch": self.fetch, "now": lambda: float(NOW), **options})


async def verdict(subject: IntrospectionVerifier, token: str = "opaque") -> object:
    """`ok`, the reason of a refusal, or CannotTell."""
    try:
        found = await subject.judge(token)
    except CannotTell:
        return CannotTell
    return found.reason if isinstance(found, TokenRefused) else "ok"


@pytest.mark.requirement("auth-67")
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ACTIVE, "ok"),
        ({**ACTIVE, "iss": None}, "ok"),
        ({**ACTIVE, "sub": None}, "ok"),
        ({"active": True, "aud": RESOURCE, "client_id": "m2m"}, "ok"),
        ({"active": False}, Refusal.INACTIVE),
        ({**ACTIVE, "active": False}, Refusal.INACTIVE),
        ({**ACTIVE, "active": "true"}, Refusal.INACTIVE),
        ({**ACTIVE, "active": 1}, Refusal.INACTIVE),
        ({**ACTIVE, "active": None}, Refusal.INACTIVE),
        ({**ACTIVE, "aud": "https://other.example.com"}, Refusal.AUDIENCE),
        ({**ACTIVE, "aud": None}, Refusal.AUDIENCE),
        ({**ACTIVE, "iss": "https://other.example.com"}, Refusal.ISSUER),
        ({**ACTIVE, "exp": NOW - 31}, Refusal.EXPIRED),
        ({**ACTIVE, "nbf": NOW + 31}, Refusal.NOT_YET_VALID),
        ({**ACTIVE, "cnf": {"jkt": "x"}}, Refusal.SENDER_CONSTRAINED),
        ({**ACTIVE, "sub": ""}, Refusal.IDENTITY),
        ({"active": True, "aud": RESOURCE}, Refusal.IDENTITY),
    ],
)
async def test_an_answer_decides(answer: dict[str, Any], outcome: object) -> None:
    assert await verdict(Endpoint(answer).verifier()) == outcome


@pytest.mark.requirement("auth-68")
@pytest.mark.parametrize(
    "answer",
    [
        Response(500),
        Response(500, json.dumps(ACTIVE).encode()),
        Response(201, json.dumps(ACTIVE).encode()),
        Response(302, b"", {"location": "https://elsewhere.example"}),
        Response(404),
        Response(200, b"<html>"),
        Response(200, b"[true]"),
        Response(200, b"{}"),
        Response(200, b""),
        Response(200, b" " * 300 * 1024),
        Response(401),
        Response(403),
        OSError("refused"),
        KeyError("what an HTTP library raises"),
        None,
    ],
)
async def test_no_answer_is_no_refusal(answer: Response | Exception | None, autojump_clock: object) -> None:
    endpoint = Endpoint(answer)
    began = trio.current_time()
    assert await verdict(endpoint.verifier()) is CannotTell
    assert trio.current_time() - began <= 5
    endpoint.answer = ACTIVE
    assert await verdict(endpoint.verifier()) == "ok"


@pytest.mark.requirement("auth-68")
async def test_wrong_credentials_of_ours_are_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert await verdict(Endpoint(Response(401)).verifier()) is CannotTell
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "s3cret" not in str(record.__dict__)


async def test_the_question_is_that_of_rfc_7662() -> None:
    endpoint = Endpoint(ACTIVE)
    await endpoint.verifier(client_id="r s", client_secret="a:b").judge("to+ken=")
    ((method, headers, form),) = endpoint.asked
    assert method == "POST"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"r+s:a%3Ab").decode()
    assert form == {"token": ["to+ken="], "token_type_hint": ["access_token"]}


async def test_credentials_may_be_in_the_form() -> None:
    endpoint = Endpoint(ACTIVE)
    await endpoint.verifier(auth_method="client_secret_post").judge("t")
    ((_, headers, form),) = endpoint.asked
    assert "Authorization" not in headers
    assert (form["client_id"], form["client_secret"]) == (["rs"], ["s3cret"])


@pytest.mark.requirement("auth-69")
async def test_a_revoked_token_works_for_thirty_seconds_at_most(autojump_clock: object) -> None:
    endpoint = Endpoint(ACTIVE)
    subject = endpoint.verifier()
    assert await verdict(subject) == "ok"
    endpoint.answer = {"active": False}
    await trio.sleep(29.9)
    assert await verdict(subject) == "ok"
    assert len(endpoint.asked) == 1
    await trio.sleep(0.2)
    assert await verdict(subject) is Refusal.INACTIVE


@pytest.mark.requirement("auth-69")
async def test_without_a_cache_a_revoked_token_is_refused_at_once() -> None:
    endpoint = Endpoint(ACTIVE)
    subject = endpoint.verifier(cache=0)
    assert await verdict(subject) == "ok"
    endpoint.answer = {"active": False}
    assert await verdict(subject) is Refusal.INACTIVE


async def test_a_refusal_counts_for_five_seconds(autojump_clock: object) -> None:
    endpoint = Endpoint({"active": False})
    subject = endpoint.verifier()
    assert await verdict(subject) is Refusal.INACTIVE
    endpoint.answer = ACTIVE
    assert await verdict(subject) is Refusal.INACTIVE
    await trio.sleep(5)
    assert await verdict(subject) == "ok"
    assert len(endpoint.asked) == 2


async def test_a_token_expires_while_its_answer_is_kept() -> None:
    clock = [float(NOW)]
    endpoint = Endpoint(ACTIVE)
    subject = endpoint.verifier(now=lambda: clock[0])
    assert await verdict(subject) == "ok"
    clock[0] = NOW + 331
    assert await verdict(subject) is Refusal.EXPIRED
    assert len(endpoint.asked) == 1


@pytest.mark.requirement("auth-70")
@pytest.mark.parametrize(
    ("answer", "outcome"), [(ACTIVE, "ok"), ({"active": False}, Refusal.INACTIVE), (Response(500), CannotTell)]
)
@pytest.mark.parametrize("cache", [30, 0])
async def test_a_hundred_requests_with_one_token_ask_once(answer: Any, outcome: object, cache: float) -> None:
    endpoint = Endpoint(answer)
    subject = endpoint.verifier(cache=cache)
    answers: Counter[object] = Counter()

    async def ask() -> None:
        answers[await verdict(subject)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
    assert answers == {outcome: 100}
    assert len(endpoint.asked) == 1


async def test_when_the_client_leaves_that_asked_another_one_asks_anew() -> None:
    endpoint = Endpoint(None)
    subject = endpoint.verifier()
    answers = []

    async def ask(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            answers.append(await verdict(subject))

    async with trio.open_nursery() as nursery:
        first = await nursery.start(ask)
        await endpoint.begun.wait()
        await nursery.start(ask)
        await trio.testing.wait_all_tasks_blocked()
        endpoint.answer = ACTIVE
        first.cancel()
    assert answers == ["ok"]
    assert len(endpoint.asked) == 2


async def test_questions_that_wait_for_a_connection_have_a_deadline_too(autojump_clock: object) -> None:
    endpoint = Endpoint(None)
    subject = endpoint.verifier()
    answers: Counter[object] = Counter()

    async def ask(number: int) -> None:
        answers[await verdict(subject, f"token{number}")] += 1

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, number)
    assert answers == {CannotTell: 100}
    assert len(endpoint.asked) == 32
    assert trio.current_time() - began == 5


async def test_one_sender_leaves_room_for_others(autojump_clock: object) -> None:
    endpoint = Endpoint(None)
    subject = endpoint.verifier()
    answers: Counter[object] = Counter()

    async def ask(sender: str, number: int) -> None:
        with sent_by(sender):
            answers[sender, await verdict(subject, f"{sender}{number}")] += 1

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(ask, "192.0.2.1", number)
        await trio.testing.wait_all_tasks_blocked()
        assert len(endpoint.asked) == 8
        endpoint.answer = ACTIVE
        await ask("192.0.2.2", 0)
        assert answers == {("192.0.2.2", "ok"): 1}
        nursery.start_soon(ask, "", 0)
        await trio.testing.wait_all_tasks_blocked()
    assert answers["192.0.2.1", CannotTell] == 1000
    assert subject._senders == {}


@pytest.mark.parametrize(
    ("issuer", "named", "found"),
    [
        (ISSUER, None, ISSUER),
        (ISSUER, ISSUER, ISSUER),
        (None, None, URL),
        (None, "https://any.example", "https://any.example"),
        ([ISSUER, "https://b.example"], None, URL),
        ([ISSUER, "https://b.example"], "https://b.example", "https://b.example"),
        ([ISSUER, "https://b.example"], "https://c.example", Refusal.ISSUER),
        (["https://b.example"], ISSUER, Refusal.ISSUER),
    ],
)
async def test_an_answer_always_has_an_issuer(issuer: Any, named: str | None, found: object) -> None:
    verdict = await Endpoint({**ACTIVE, "iss": named}).verifier(issuer=issuer).judge("opaque")
    assert (verdict.reason if isinstance(verdict, TokenRefused) else verdict.issuer) == found


async def test_a_client_without_an_issuer_is_not_the_fixed_one_of_that_name() -> None:
    fixed = StaticTokenVerifier({"fixed": AccessToken("ci")})
    answer = {"active": True, "aud": RESOURCE, "client_id": "ci"}
    subject = MultiAuth(fixed, Endpoint(answer).verifier(issuer=None))
    verdicts = [await subject.judge(each) for each in ("fixed", "opaque")]
    first, second = [principal_of(each) for each in verdicts if isinstance(each, AccessToken)]
    assert first != second
    assert first is not None
    assert (first.issuer, first.client_id) == ("urn:trio-mcp:static", "ci")


async def test_made_up_tokens_do_not_displace_those_that_are_good() -> None:
    endpoint = Endpoint(ACTIVE)
    subject = endpoint.verifier()
    assert await verdict(subject) == "ok"
    endpoint.answer = {"active": False}
    for number in range(5000):
        await subject.judge(f"made-up-{number}")
    asked = len(endpoint.asked)
    assert await verdict(subject) == "ok"
    assert len(endpoint.asked) == asked


async def test_a_kind_of_token_that_the_server_does_not_introspect_is_refused() -> None:
    endpoint = Endpoint(Response(400, b'{"error":"unsupported_token_type"}'))
    assert await verdict(endpoint.verifier()) is Refusal.NOT_ACCEPTED
    endpoint = Endpoint(Response(400, b'{"error":"invalid_request"}'))
    assert await verdict(endpoint.verifier()) is CannotTell


async def test_an_answer_without_issuer_is_one_of_the_issuer_that_was_asked() -> None:
    endpoint = Endpoint({**ACTIVE, "iss": None})
    found = await endpoint.verifier().judge("opaque")
    assert isinstance(found, AccessToken)
    assert found.issuer == ISSUER


async def test_an_answer_without_audience_is_trusted_only_on_request() -> None:
    endpoint = Endpoint({**ACTIVE, "aud": None})
    assert await verdict(endpoint.verifier(trust_missing_audience=True)) == "ok"
    endpoint.answer = {**ACTIVE, "aud": "other"}
    assert await verdict(endpoint.verifier(trust_missing_audience=True)) is Refusal.AUDIENCE


async def test_the_resource_is_the_audience_where_none_is_given() -> None:
    subject = Endpoint(ACTIVE).verifier(audience=None)
    subject.bind(RESOURCE)
    found = await subject.judge("opaque")
    assert isinstance(found, AccessToken)
    assert (found.resource, found.token) == (RESOURCE, "opaque")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"client_id": ""}, "client_id and client_secret"),
        ({"client_secret": ""}, "client_id and client_secret"),
        ({"audience": []}, "audience is empty"),
        ({"auth_method": "none"}, "auth_method is"),
    ],
)
def test_what_cannot_work_does_not_start(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=complaint):
        Endpoint(ACTIVE).verifier(**options)
