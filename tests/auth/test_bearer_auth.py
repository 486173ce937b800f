"""From the headers of a request to the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from mcp.server.auth.provider import AccessToken as SdkAccessToken

from tests.auth.issuer import ISSUER, NOW, RESOURCE, Issuer, pem, rsa_key, token, verifier
from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.checks import require_roles, require_scopes, requirements
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.judgement import Allowed, Judgement, Refused, Unavailable
from trio_mcp.auth.jwt_verifier import JWTVerifier
from trio_mcp.auth.multi_auth import MultiAuth
from trio_mcp.auth.principal import CannotTell, Principal
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.static_tokens import StaticTokenVerifier
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.auth.verifier import Verdict, Verifier

METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"
TAIL = f'scope="mcp:read", resource_metadata="{METADATA}"'


def auth(subject: Any = None, **options: Any) -> BearerAuth:
    """The server of the table in the specification: it needs `mcp:read` for everything."""
    given = {"resource": RESOURCE, "required_scopes": ["mcp:read"], "now": lambda: float(NOW)}
    return BearerAuth(subject or verifier(), **{**given, **options})


@pytest.mark.requirement("auth-80")
async def test_a_token_that_was_accepted_is_known_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, text = auth(), token()
    first = await subject.judge([f"Bearer {text}"])
    others = (
        [f"Bearer {text[:-1]}"],
        [f"Bearer  {text}"],
        [f"Bearer {text}"] * 2,
        [f"Bearer {text} "],
        [f"bearer {text}"],
    )
    read = [subject.judge_now([*values]) for values in others]

    def unread(*_: object, **__: object) -> str:
        raise AssertionError("a known token is not read again")

    monkeypatch.setattr("trio_mcp.auth.bearer_auth.read_bearer", unread)
    assert subject.judge_now([f"Bearer {text}"]) == first
    for values in others:
        with pytest.raises(AssertionError, match="not read again"):
            subject.judge_now([*values])
    assert [each if each is None else reason(each) for each in read] == [
        None,
        None,
        Refusal.REPEATED_HEADER,
        None,
        None,
    ]


class Sdk:
    """A verifier as one writes it for the official Python SDK."""

    def __init__(self, answer: Callable[[str], SdkAccessToken | None]) -> None:
        self._answer = answer

    async def verify_token(self, token: str) -> SdkAccessToken | None:
        """The port of the official Python SDK."""
        return self._answer(token)


def sdk_auth(**changes: Any) -> BearerAuth:
    described = {"token": "t", "client_id": "c", "scopes": ["mcp:read"], "subject": "u", **changes}
    return auth(Sdk(lambda token: SdkAccessToken(**described)), authorization_servers=[ISSUER])


def reason(judgement: Judgement) -> Refusal | None:
    assert not isinstance(judgement, Unavailable)
    return judgement.reason if isinstance(judgement, Refused) else None


@pytest.mark.requirement("auth-3", "auth-7")
async def test_a_good_token_is_allowed_with_its_principal() -> None:
    text = token()
    for scheme in ("Bearer", "bearer", "BEARER "):
        judgement = await auth().judge([f"{scheme} {text}"])
        assert isinstance(judgement, Allowed)
        assert judgement.principal == Principal("ann", ISSUER, client_id="desktop")
        assert judgement.principal.claims["scope"] == "mcp:read"
        assert judgement.token.token == text


@pytest.mark.requirement("auth-1", "auth-2", "auth-4", "auth-5", "auth-35", "auth-39")
@pytest.mark.parametrize(
    ("headers", "status", "challenge"),
    [
        ([], 401, f"Bearer {TAIL}"),
        (["Basic YTpi"], 401, f"Bearer {TAIL}"),
        (["Bearer"], 401, f"Bearer {TAIL}"),
        (
            ["Bearer a b"],
            400,
            'Bearer error="invalid_request", error_description="Authorization is not a bearer token"',
        ),
        (
            ["Bearer a", "Bearer a"],
            400,
            'Bearer error="invalid_request", error_description="Authorization comes more than once"',
        ),
        (
            ["Bearer x"],
            401,
            f'Bearer error="invalid_token", error_description="The token cannot be read", {TAIL}',
        ),
        (
            [f"Bearer {token(exp=NOW - 60)}"],
            401,
            f'Bearer error="invalid_token", error_description="The token has expired", {TAIL}',
        ),
        (
            [f"Bearer {token(aud='https://other.example.com')}"],
            401,
            f'Bearer error="invalid_token", error_description="The token is for another audience", {TAIL}',
        ),
        (
            [f"Bearer {token(scope='mcp:readX MCP:READ')}"],
            403,
            f'Bearer error="insufficient_scope", error_description="This server needs mcp:read", {TAIL}',
        ),
    ],
)
async def test_a_refusal_has_its_status_and_challenge(headers: list[str], status: int, challenge: str) -> None:
    judgement = await auth().judge(headers)
    assert isinstance(judgement, Refused)
    assert judgement.status == status
    assert judgement.headers == ((b"www-authenticate", challenge.encode()),)


@pytest.mark.requirement("auth-59")
async def test_what_is_logged_of_a_refusal_holds_no_part_of_the_token() -> None:
    for text in (token(kid="k9", exp=NOW - 60), token(rsa_key("evil")), token(scope="")):
        judgement = await auth().judge([f"Bearer {text}"])
        assert isinstance(judgement, Refused)
        assert judgement.log_fields
        assert not any(part in repr(judgement) for part in text.split("."))
        assert "ann" not in repr(judgement)


@pytest.mark.requirement("auth-59")
async def test_an_allowed_request_shows_no_token_either() -> None:
    text = token(email="HIDDEN")
    shown = repr(await auth().judge([f"Bearer {text}"]))
    assert not any(part in shown for part in text.split("."))
    assert "HIDDEN" not in repr(await auth().verifier.verify_token(text))


@pytest.mark.requirement("auth-28", "auth-68")
async def test_what_cannot_be_told_is_a_503_without_a_challenge() -> None:
    def away(_: str) -> SdkAccessToken | None:
        raise CannotTell("the database is down")

    judgement = await auth(Sdk(away), authorization_servers=[ISSUER]).judge(["Bearer t"])
    assert judgement == Unavailable("the database is down")
    assert judgement.headers == ((b"retry-after", b"5"),)


@pytest.mark.requirement("auth-74")
async def test_a_fault_of_a_verifier_is_its_caller_s_to_report() -> None:
    def fault(_: str) -> SdkAccessToken | None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await auth(Sdk(fault), authorization_servers=[ISSUER]).judge(["Bearer t"])


class OldToken:
    """As a release of the official Python SDK before `subject` has it."""

    client_id = "c"
    scopes = ("mcp:read",)
    expires_at = None

    def __init__(self, claims: dict[str, Any]) -> None:
        self.claims = claims


def without_subject(**claims: Any) -> list[Any]:
    """Tokens of several releases, whose subject is only among the claims."""
    return [
        OldToken(claims),
        SdkAccessToken(token="t", client_id="c", scopes=["mcp:read"], claims=claims),
        AccessToken("c", ["mcp:read"], claims=claims),
    ]


@pytest.mark.parametrize("form", range(3))
async def test_users_that_only_the_claims_name_are_not_one_principal(form: int) -> None:
    async def who(**claims: Any) -> Judgement:
        found = without_subject(**claims)[form]
        return await auth(Sdk(lambda token: found), authorization_servers=[ISSUER]).judge(["Bearer t"])

    alice = await who(sub="alice")
    assert isinstance(alice, Allowed)
    assert alice.principal == Principal("alice", client_id="c")
    assert alice.token.subject == "alice"
    for nobody in ({}, {"sub": ""}, {"sub": 1}):
        assert reason(await who(**nobody)) is (Refusal.IDENTITY if form == 0 else None)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"resource": RESOURCE + "/"}, None),
        ({"resource": "https://other.example.com"}, Refusal.AUDIENCE),
        ({"expires_at": NOW - 29}, None),
        ({"expires_at": NOW - 31}, Refusal.EXPIRED),
        ({"subject": ""}, Refusal.IDENTITY),
        ({"subject": None}, None),
        ({"subject": None, "client_id": ""}, Refusal.IDENTITY),
        ({"scopes": []}, Refusal.SCOPE),
    ],
)
async def test_tokens_of_other_verifiers_are_judged_by_their_fields(
    changes: dict[str, Any], why: Refusal | None
) -> None:
    assert reason(await sdk_auth(**changes).judge(["Bearer t"])) is why


async def test_a_verifier_of_the_official_sdk_fits() -> None:
    judgement = await sdk_auth(claims={"iss": ISSUER}).judge(["Bearer sent"])
    assert judgement == Allowed(
        AccessToken("c", ["mcp:read"], "sent", subject="u", claims={"iss": ISSUER}),
        Principal("u", ISSUER, client_id="c"),
    )
    refusing = auth(Sdk(lambda token: None), authorization_servers=[ISSUER])
    assert reason(await refusing.judge(["Bearer t"])) is Refusal.NOT_ACCEPTED


WRITE = requirements(require_scopes("mcp:write"))


@pytest.mark.requirement("auth-36", "auth-40", "auth-42", "auth-45")
def test_a_lack_of_component_scopes_is_one_challenge_for_the_whole_request() -> None:
    reader = AccessToken("c", ["mcp:read"], subject="u")
    refused = auth().refusal_for([WRITE], reader, "delete_file")
    assert refused is not None
    assert (refused.status, refused.data) == (403, {"error": "insufficient_scope"})
    assert refused.headers[0][1].decode() == (
        'Bearer error="insufficient_scope", error_description="delete_file needs mcp:write", '
        f'scope="mcp:read mcp:write", resource_metadata="{METADATA}"'
    )
    batch = auth().refusal_for([requirements(None), WRITE, requirements(require_scopes("a"))], reader, "The batch")
    assert batch is not None
    assert b'scope="mcp:read mcp:write a"' in batch.headers[0][1]


@pytest.mark.requirement("auth-38", "auth-41", "auth-76")
def test_who_has_the_scopes_by_itself_or_by_hierarchy_is_served() -> None:
    subject = auth(scope_implies={"mcp:admin": ["mcp:write"], "mcp:write": ["mcp:read"]})
    for scopes in (["mcp:read", "mcp:write"], ["mcp:write"], ["mcp:admin"]):
        allowed = AccessToken("c", scopes, subject="u")
        assert subject.refusal_for([WRITE], allowed, "delete_file") is None
        assert isinstance(subject.admit(allowed), Allowed)
    assert subject.refusal_for([WRITE], None, "delete_file") is None


def test_a_caller_without_a_role_gets_a_403_without_a_challenge() -> None:
    refused = auth().refusal_for([requirements(require_roles("hr"))], AccessToken("c", ["mcp:read"]), "record")
    assert refused is not None
    assert (refused.status, refused.headers, refused.data) == (403, (), {})


async def test_the_challenge_may_name_other_scopes_than_tokens_have() -> None:
    entra = auth(challenge_scopes=["api://files/mcp:read"], scopes_supported=["api://files/.default"])
    judgement = await entra.judge([])
    assert isinstance(judgement, Refused)
    assert b'scope="api://files/mcp:read"' in judgement.headers[0][1]
    assert entra.metadata is not None
    assert json.loads(entra.metadata.document)["scopes_supported"] == ["api://files/.default"]


@pytest.mark.requirement("auth-62")
def test_the_metadata_has_what_is_configured() -> None:
    subject = auth(
        resource="https://MCP.example.com/mcp/", resource_name="Files", resource_documentation="https://d.example"
    )
    assert subject.metadata is not None
    assert json.loads(subject.metadata.document) == {
        "resource": "https://MCP.example.com/mcp/",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp:read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Files",
        "resource_documentation": "https://d.example",
    }


async def test_the_resource_may_come_later() -> None:
    subject = auth(verifier(audience=None), resource=None)
    before = subject.metadata
    subject.bind("http://127.0.0.1:8000/mcp")
    assert subject.resource == "http://127.0.0.1:8000/mcp"
    assert before is None
    assert subject.metadata is not None
    assert reason(await subject.judge([f"Bearer {token(aud=subject.resource)}"])) is None
    subject.bind("http://127.0.0.1:9000/mcp")
    assert subject.resource == "http://127.0.0.1:8000/mcp"


async def test_tokens_from_the_configuration_need_no_authorization_server() -> None:
    subject = auth(StaticTokenVerifier({"ci": AccessToken("ci", ["mcp:read"])}))
    assert subject.metadata is None
    judgement = await subject.judge([])
    assert isinstance(judgement, Refused)
    assert judgement.headers == ((b"www-authenticate", b'Bearer scope="mcp:read"'),)
    assert isinstance(await subject.judge(["Bearer ci"]), Allowed)


async def test_from_an_issuer_alone() -> None:
    subject = BearerAuth.from_issuer(ISSUER, resource=RESOURCE, required_scopes=["mcp:read"])
    assert subject.authorization_servers == (ISSUER,)
    assert not subject.ready
    several = BearerAuth.from_issuer([ISSUER, "https://b.example"], resource=RESOURCE, audience=iter(["a", "b"]))
    assert several.authorization_servers == (ISSUER, "https://b.example")


@pytest.mark.requirement("auth-49", "auth-51")
def test_streams_end_after_their_token_spread_over_ten_seconds() -> None:
    opened = AccessToken("c", expires_at=NOW)
    ends = [auth().stream_ends_at(opened, number / 1000) for number in range(1000)]
    assert ends[0] == NOW + 30
    assert ends[-1] == pytest.approx(NOW + 40, abs=0.02)
    assert auth().stream_ends_at(AccessToken("c"), 0.5) is None
    assert auth(stream_until_expiry=False).stream_ends_at(opened, 0.5) is None


async def test_the_document_of_the_issuer_is_shown_on_request_alone() -> None:
    issuer = Issuer()
    subject = verifier(issuer, jwks_uri=None)
    await subject._keys._fetch_keys()  # type: ignore[attr-defined]
    assert auth(subject).legacy_document is None
    assert json.loads(auth(subject, legacy_metadata=True).legacy_document or b"")["issuer"] == ISSUER
    assert auth(Sdk(lambda _: None), authorization_servers=[ISSUER], legacy_metadata=True).legacy_document is None


async def test_a_verifier_of_a_user_is_always_ready() -> None:
    subject = auth(Sdk(lambda _: None), authorization_servers=[ISSUER])
    assert subject.ready
    await subject.run()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: auth(resource="http://mcp.example.com/mcp"), "resource must begin with https"),
        (lambda: auth(resource="/mcp"), "resource must be an absolute URL"),
        (lambda: auth(resource=None).bind(None), "--auth-resource"),
        (lambda: auth(required_scopes="mcp:read"), "required_scopes is a list"),
        (lambda: auth(required_scopes=["a b"]), "required_scopes: 'a b' is not a scope"),
        (lambda: auth(required_scopes=["offline_access"]), "offline_access"),
        (lambda: auth(challenge_scopes=['a"']), "challenge_scopes"),
        (lambda: auth(scopes_supported=["offline_access"]), "scopes_supported: leave out offline_access"),
        (lambda: auth(scope_implies={"a": ["a"]}), "scope_implies: 'a' includes itself"),
        (
            lambda: auth(authorization_servers=["http://login.example.com"]),
            "authorization_servers must begin with https",
        ),
        (lambda: auth(Sdk(lambda _: None)), "set authorization_servers"),
        (lambda: BearerAuth.from_issuer([]), "issuer is empty"),
        (lambda: BearerAuth.from_issuer(""), "issuer must be an absolute URL"),
        (lambda: BearerAuth.from_issuer(ISSUER, audience=[]), "audience is empty"),
    ],
)
def test_what_cannot_work_does_not_start_and_says_what_to_set(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=complaint):
        make()


async def test_a_token_that_was_verified_before_is_judged_without_waiting_and_alike() -> None:
    subject = BearerAuth(verifier(), resource=RESOURCE, now=lambda: float(NOW))
    header = [f"Bearer {token()}"]
    assert subject.judge_now(header) is None
    first = await subject.judge(header)
    assert isinstance(first, Allowed)
    assert subject.judge_now(header) == first
    refused = subject.judge_now(["Basic YTpi"])
    assert isinstance(refused, Refused)
    assert refused == await subject.judge(["Basic YTpi"])


@pytest.mark.parametrize("base", [JWTVerifier, StaticTokenVerifier])
async def test_a_class_that_judges_by_more_than_its_base_is_asked_each_time(base: Any) -> None:
    revoked: set[str] = set()

    class Revoking(base):  # type: ignore[misc]
        async def judge(self, token: str) -> Verdict:
            return TokenRefused(Refusal.NOT_ACCEPTED) if token in revoked else await super().judge(token)

    good = token()
    by_key = {"issuer": ISSUER, "audience": RESOURCE, "public_key": pem(rsa_key("k1")), "now": lambda: float(NOW)}
    own: Any = Revoking(**by_key) if base is JWTVerifier else Revoking({good: AccessToken("ci")})
    for subject in (
        auth(own, required_scopes=[], authorization_servers=[ISSUER]),
        auth(MultiAuth(own), required_scopes=[], authorization_servers=[ISSUER]),
    ):
        revoked.clear()
        for _ in range(3):
            allowed = await subject.judge([f"Bearer {good}"])
            assert isinstance(allowed, Allowed)
            assert subject.judge_now([f"Bearer {good}"]) is None
            assert subject.known(allowed) is None
        revoked.add(good)
        assert isinstance(await subject.judge([f"Bearer {good}"]), Refused)


def test_a_verifier_of_ours_is_not_asked_by_the_port_of_the_official_sdk() -> None:
    with pytest.raises(TypeError, match="override judge"):

        class Silent(JWTVerifier):
            async def verify_token(self, token: str) -> AccessToken | None:
                return None


async def test_of_several_verifiers_only_one_that_need_not_wait_judges_at_once() -> None:
    static = StaticTokenVerifier({"fixed": AccessToken("ci")})

    class Away(Verifier):
        async def judge(self, token: str) -> Verdict:
            raise CannotTell("away")

        def judge_now(self, token: str) -> Verdict | None:
            raise CannotTell("away")

    subject = MultiAuth(Away(), static, verifier())
    assert subject.judge_now("fixed") == AccessToken("ci", token="fixed", claims={"iss": "urn:trio-mcp:static"})
    assert subject.judge_now("unknown") is None
    with pytest.raises(CannotTell):
        await subject.judge("unknown")
    assert subject.judge_now(token()) is None
    assert isinstance(await subject.judge(token()), AccessToken)
    assert isinstance(subject.judge_now(token()), AccessToken)
