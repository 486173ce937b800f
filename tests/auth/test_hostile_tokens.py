"""Signed tokens that must not pass, and those that must: form, header, key and signature."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.issuer import (
    ISSUER,
    KEYS_URL,
    NOW,
    RESOURCE,
    Issuer,
    claims,
    handmade,
    hs256,
    jwk,
    key,
    pem,
    rsa_key,
    running,
    segment,
    token,
    verifier,
)
from trio_mcp.auth.bearer import MAX_TOKEN_BYTES
from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.jwt_verifier import ASYMMETRIC, JWTVerifier
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.tokens import AccessToken
from trio_mcp.auth.verifier import Verdict

K1 = rsa_key("k1")
EVIL = rsa_key("evil")
HEADER = {"alg": "RS256", "kid": "k1", "typ": "at+jwt"}


def reason(verdict: Verdict) -> Refusal | None:
    """Why a token is refused; None for one that is accepted."""
    return verdict.reason if isinstance(verdict, TokenRefused) else None


async def judged(text: str, **options: Any) -> Refusal | None:
    """What a verifier says that fetched the key set of an issuer with the key k1, and asked no other place."""
    issuer = Issuer()
    subject = verifier(issuer, **options)
    async with running(subject):
        found = reason(await subject.judge(text))
    assert set(issuer.asked) == {KEYS_URL}
    return found


def der(private: Any) -> bytes:
    """The public half in DER form."""
    encoded: bytes = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def with_other_byte(text: str, number: int, old: bytes = b"", new: bytes = b"") -> str:
    """The token with one byte of one of its three parts changed: `old` to `new`, else the first."""
    parts = text.split(".")
    raw = base64.urlsafe_b64decode(parts[number] + "==")
    assert not old or raw.count(old) == 1
    parts[number] = segment(raw.replace(old, new) if old else bytes([raw[0] ^ 1]) + raw[1:])
    return ".".join(parts)


def signed_by(private: Any, header: dict[str, Any], payload: Any = None) -> str:
    """A token with exactly that header, signed by an RSA key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    def sign(text: bytes) -> bytes:
        signature: bytes = private.sign(text, padding.PKCS1v15(), hashes.SHA256())
        return signature

    return handmade(header, claims() if payload is None else payload, sign)


@pytest.mark.requirement("auth-7")
async def test_a_good_token_says_who_asks_and_what_for() -> None:
    subject = verifier()
    text = token(email="ann@example.com")
    assert await subject.judge(text) == AccessToken(
        client_id="desktop",
        scopes=["mcp:read"],
        token=text,
        expires_at=NOW + 300,
        resource=RESOURCE,
        subject="ann",
        claims=claims(email="ann@example.com"),
    )
    assert (await subject.verify_token(text)) is not None
    assert (await subject.verify_token(text + "A")) is None


@pytest.mark.requirement("auth-8", "auth-9", "auth-10", "auth-11", "auth-13", "auth-15", "auth-22", "auth-25")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        # Row 8: no signature.
        (handmade({**HEADER, "alg": "none"}, claims()), Refusal.ALGORITHM),
        (handmade({**HEADER, "alg": "None"}, claims()), Refusal.ALGORITHM),
        (handmade({**HEADER, "alg": "nOnE"}, claims()), Refusal.ALGORITHM),
        (handmade({**HEADER, "alg": ""}, claims()), Refusal.ALGORITHM),
        (handmade(HEADER, claims()), Refusal.SIGNATURE),
        (handmade({"alg": "RS256 ", "kid": "k1"}, claims()), Refusal.ALGORITHM),
        (handmade({"alg": ["RS256"], "kid": "k1"}, claims()), Refusal.MALFORMED),
        (handmade({"kid": "k1"}, claims()), Refusal.MALFORMED),
        # Row 9: the public key as a shared secret.
        (handmade({**HEADER, "alg": "HS256"}, claims(), hs256(pem(K1))), Refusal.ALGORITHM),
        (handmade({**HEADER, "alg": "HS256"}, claims(), hs256(json.dumps(jwk(K1, "k1")).encode())), Refusal.ALGORITHM),
        (handmade({**HEADER, "alg": "HS256"}, claims(), hs256(der(K1))), Refusal.ALGORITHM),
        (handmade({**HEADER, "alg": "HS256"}, claims(), hs256(b"")), Refusal.ALGORITHM),
        # Row 10: another key under the same name; a changed token.
        (token(EVIL), Refusal.SIGNATURE),
        (token()[:-8] + "AAAAAAAA", Refusal.SIGNATURE),
        (with_other_byte(token(), 1, b"ann", b"anm"), Refusal.SIGNATURE),
        (with_other_byte(token(), 2), Refusal.SIGNATURE),
        (".".join([token().split(".")[0], segment(claims(sub="eve")), token().split(".")[2]]), Refusal.SIGNATURE),
        (token(K1, alg="RS512").replace(segment({"alg": "RS512"}), "")[1:], Refusal.MALFORMED),
        # Row 11: the attacker's key in the header.
        (token(EVIL, header={"jku": "https://evil.example/keys"}), Refusal.SIGNATURE),
        (token(EVIL, header={"x5u": "https://evil.example/cert"}), Refusal.SIGNATURE),
        (token(EVIL, header={"jwk": jwk(EVIL, "k1")}), Refusal.SIGNATURE),
        (token(EVIL, header={"x5c": ["MIIB"]}), Refusal.SIGNATURE),
        (token(EVIL, kid=None, header={"jwk": jwk(EVIL, None)}), Refusal.SIGNATURE),
        # Row 13: names of keys that are none.
        (token(kid="../../etc/passwd"), Refusal.UNKNOWN_KEY),
        (token(kid="k1' OR 1=1"), Refusal.UNKNOWN_KEY),
        (token(kid="k1\0"), Refusal.UNKNOWN_KEY),
        (token(kid="K1"), Refusal.UNKNOWN_KEY),
        (token(kid=""), Refusal.UNKNOWN_KEY),
        (token(kid="k" * 10_000), Refusal.UNKNOWN_KEY),
        (signed_by(K1, {**HEADER, "kid": ["k1"]}), Refusal.MALFORMED),
        (signed_by(K1, {**HEADER, "kid": 1}), Refusal.MALFORMED),
        (signed_by(K1, {**HEADER, "kid": {"k1": 1}}), Refusal.MALFORMED),
        # Row 15: what changes how a token is read.
        (signed_by(K1, {**HEADER, "crit": ["x"], "x": 1}), Refusal.UNSUPPORTED),
        (signed_by(K1, {**HEADER, "crit": []}), Refusal.UNSUPPORTED),
        (signed_by(K1, {**HEADER, "b64": False, "crit": ["b64"]}), Refusal.UNSUPPORTED),
        (signed_by(K1, {**HEADER, "b64": False}), Refusal.UNSUPPORTED),
        (signed_by(K1, {**HEADER, "b64": 0}), Refusal.UNSUPPORTED),
        (signed_by(K1, {**HEADER, "zip": "DEF"}), Refusal.UNSUPPORTED),
        ("a.b.c.d.e", Refusal.UNSUPPORTED),
        # Row 22: tokens for other purposes.
        (token(header={"typ": "oauth-id-jag+jwt"}), Refusal.TYPE),
        (token(header={"typ": "dpop+jwt"}), Refusal.TYPE),
        (token(header={"typ": "logout+jwt"}), Refusal.TYPE),
        (token(header={"typ": "secevent+jwt"}), Refusal.TYPE),
        (token(header={"typ": "application/secevent+jwt"}), Refusal.TYPE),
        (signed_by(K1, {**HEADER, "typ": 1}), Refusal.MALFORMED),
        # Row 25: what costs much to read.
        ("a." * 8192 + "a", Refusal.TOO_LONG),
        ("a" * (MAX_TOKEN_BYTES + 1), Refusal.TOO_LONG),
        (handmade(b"[" * 11_000, claims()), Refusal.MALFORMED),
        (signed_by(K1, HEADER, b'{"a":' * 1800 + b"1" + b"}" * 1800), Refusal.MALFORMED),
        # Forms that are none.
        ("", Refusal.MALFORMED),
        (".", Refusal.MALFORMED),
        ("..", Refusal.MALFORMED),
        ("a.b", Refusal.MALFORMED),
        ("a.b.c", Refusal.MALFORMED),
        ("a.b.c.d", Refusal.MALFORMED),
        (token() + "=", Refusal.MALFORMED),
        (token() + "\n", Refusal.MALFORMED),
        (token().replace(".", "=.", 1), Refusal.MALFORMED),
        (handmade("text", claims()), Refusal.MALFORMED),
        (handmade(b"\xff\xfe", claims()), Refusal.MALFORMED),
        (signed_by(K1, HEADER, b"[]"), Refusal.MALFORMED),
        (signed_by(K1, HEADER, b""), Refusal.MALFORMED),
        (signed_by(K1, HEADER, b'{"exp": NaN}'), Refusal.MALFORMED),
        (signed_by(K1, HEADER, b'{"exp": 1' + b"0" * 5000 + b"}"), Refusal.MALFORMED),
    ],
)
async def test_a_hostile_token_is_refused_and_nobody_is_asked_about_it(
    text: str, why: Refusal, autojump_clock: object
) -> None:
    assert await judged(text) is why


@pytest.mark.requirement("auth-12")
@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"jwk": jwk(EVIL, "k1")},
        {"x5c": ["MIIB"]},
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": "application/at+jwt"},
        {"typ": "AT+JWT"},
        {"typ": None},
        {"b64": True},
    ],
)
async def test_such_a_header_on_a_token_that_is_properly_signed_does_no_harm(header: dict[str, Any]) -> None:
    full = {name: value for name, value in {**HEADER, **header}.items() if value is not None}
    assert await judged(signed_by(K1, full)) is None


@pytest.mark.requirement("auth-14")
@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([jwk(K1, "k1")], None),
        ([jwk(K1, None)], None),
        ([jwk(K1, "k1"), jwk(EVIL, "k2")], Refusal.UNKNOWN_KEY),
        ([jwk(K1, "k1"), jwk(key("e", "P-256"), "k2")], None),
        ([jwk(K1, "k1", alg="RS512")], Refusal.UNKNOWN_KEY),
    ],
)
async def test_a_token_that_names_no_key_passes_if_only_one_fits(
    entries: list[dict[str, Any]], why: Refusal | None, autojump_clock: object
) -> None:
    issuer = Issuer(*entries)
    subject = verifier(issuer)
    async with running(subject):
        assert reason(await subject.judge(token(kid=None))) is why


@pytest.mark.requirement("auth-26")
@pytest.mark.parametrize(
    "entry",
    [
        jwk(rsa_key("weak", 1024), "k2"),
        jwk(rsa_key("k2"), "k2", use="enc"),
        jwk(rsa_key("k2"), "k2", key_ops=["encrypt"]),
        jwk(rsa_key("k2"), "k2", alg="RSA-OAEP"),
        {"kty": "oct", "k": segment(b"s" * 32), "kid": "k2", "alg": "HS256"},
        {"kty": "oct", "k": segment(b"s" * 32), "kid": "k2"},
    ],
)
async def test_keys_that_are_weak_or_for_other_uses_verify_nothing(
    entry: dict[str, Any], autojump_clock: object
) -> None:
    issuer = Issuer(jwk(K1, "k1"), entry)
    subject = verifier(issuer)
    signer = rsa_key("weak", 1024) if len(entry.get("n", "")) == 171 else rsa_key("k2")
    secret = handmade({"alg": "HS256", "kid": "k2"}, claims(), hs256(b"s" * 32))
    async with running(subject):
        assert reason(await subject.judge(signed_by(signer, {**HEADER, "kid": "k2"}))) is Refusal.UNKNOWN_KEY
        assert reason(await subject.judge(secret)) is Refusal.ALGORITHM
        assert reason(await subject.judge(token())) is None


KINDS = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


@pytest.mark.parametrize("alg", ASYMMETRIC)
@pytest.mark.parametrize("named", [True, False])
async def test_every_algorithm_verifies_and_only_with_its_own_kind_of_key(
    alg: str, named: bool, autojump_clock: object
) -> None:
    private = key("k2", KINDS.get(alg, "RSA"))
    issuer = Issuer(jwk(private, "k2", **({"alg": alg} if named else {})))
    subject = verifier(issuer)
    wrong = "ES384" if alg != "ES384" else "ES256"
    async with running(subject):
        assert reason(await subject.judge(token(private, kid="k2", alg=alg))) is None
        other = token(key("other", KINDS[wrong]), kid="k2", alg=wrong)
        assert reason(await subject.judge(other)) is Refusal.ALGORITHM


async def test_the_algorithm_of_a_key_is_the_only_one_it_verifies(autojump_clock: object) -> None:
    issuer = Issuer(jwk(K1, "k1", alg="PS256"))
    subject = verifier(issuer)
    async with running(subject):
        assert reason(await subject.judge(token(alg="RS256"))) is Refusal.ALGORITHM
        assert reason(await subject.judge(token(alg="PS256"))) is None


async def test_algorithms_can_be_narrowed() -> None:
    assert await judged(token(alg="RS256"), algorithms=["ES256"]) is Refusal.ALGORITHM
    assert await judged(token(alg="RS256"), algorithms=["ES256", "RS256"]) is None


@pytest.mark.requirement("auth-22")
async def test_a_type_can_be_required() -> None:
    assert await judged(token(header={"typ": "JWT"}), require_type="at+jwt") is Refusal.TYPE
    assert await judged(signed_by(K1, {"alg": "RS256", "kid": "k1"}), require_type="at+jwt") is Refusal.TYPE
    assert await judged(token(header={"typ": "AT+JWT"}), require_type="at+jwt") is None


async def test_a_shared_secret_verifies_its_own_tokens_alone() -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    subject = verifier(public_key=None, secret=secret)
    good = handmade({"alg": "HS256", "kid": "any"}, claims(), hs256(secret))
    assert reason(await subject.judge(good)) is None
    assert reason(await subject.judge(handmade({"alg": "HS256"}, claims(), hs256(b"x" * 32)))) is Refusal.SIGNATURE
    assert reason(await subject.judge(token())) is Refusal.ALGORITHM


@pytest.mark.requirement("auth-23", "auth-16", "auth-18", "auth-19", "auth-21", "auth-24")
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "desktop", "nonce": "n"}, Refusal.AUDIENCE),  # an ID token
        ({"aud": None}, Refusal.AUDIENCE),
        ({"iss": ISSUER + "/"}, Refusal.ISSUER),
        ({"exp": NOW - 31}, Refusal.EXPIRED),
        ({"sub": ""}, Refusal.IDENTITY),
        ({"cnf": {"jkt": "x"}}, Refusal.SENDER_CONSTRAINED),
    ],
)
async def test_claims_of_a_token_that_is_properly_signed_are_judged(changes: dict[str, Any], why: Refusal) -> None:
    assert await judged(token(**changes)) is why


@pytest.mark.requirement("auth-80")
async def test_a_verified_token_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = verifier()
    text = token()
    first = await subject.judge(text)

    def fail(*_: object) -> bool:
        raise AssertionError("the signature is checked again")

    monkeypatch.setattr("trio_mcp.auth.jwt_verifier.signature_is_good", fail)
    again = await subject.judge(text)
    assert again == first
    assert isinstance(again, AccessToken)
    assert again.token == text
    assert isinstance(again.claims, dict)
    # What a handler does to the claims of one request is not seen by the next.
    again.claims["scope"] = "mcp:admin"
    assert await subject.judge(text) == first
    assert text not in str(vars(subject._verified))


@pytest.mark.requirement("auth-19")
async def test_a_verified_token_still_expires() -> None:
    clock = [float(NOW)]
    subject = verifier(now=lambda: clock[0])
    text = token()
    assert reason(await subject.judge(text)) is None
    for later, why in ((329.9, None), (330, Refusal.EXPIRED), (331, Refusal.EXPIRED), (400, Refusal.EXPIRED)):
        clock[0] = NOW + later
        assert reason(await subject.judge(text)) is why


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"issuer": "http://login.example.com"}, "issuer must begin with https"),
        ({"issuer": "login"}, "issuer must be an absolute URL, beginning with https://, not 'login'"),
        ({"audience": ""}, "audience is empty"),
        ({"jwks_uri": KEYS_URL}, "give one of"),
        ({"public_key": None, "jwks_uri": "http://login.example.com/keys"}, "jwks_uri must begin with https"),
        ({"algorithms": ["HS256"]}, "HS256 needs secret="),
        ({"algorithms": ["none"]}, "'none' is not accepted"),
        ({"algorithms": []}, "algorithms is a list"),
        ({"public_key": None, "secret": b"short"}, "secret: .* 32 bytes"),
        ({"public_key": None, "secret": b"x" * 32, "algorithms": ["RS256"]}, "'RS256' is not accepted"),
        ({"public_key": "x"}, "public_key: not a public key in PEM form"),
        ({"public_key": [pem(K1), pem(EVIL)]}, "public_key: two keys fit"),
        ({"public_key": pem(rsa_key("weak", 1024))}, "1024 bits"),
    ],
)
def test_what_contradicts_itself_does_not_start(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=complaint):
        verifier(**options)


async def test_keys_for_different_algorithms_may_stand_side_by_side() -> None:
    elliptic = key("e", "P-256")
    subject = verifier(public_key=[pem(K1), pem(elliptic)])
    assert reason(await subject.judge(token())) is None
    assert reason(await subject.judge(token(elliptic, alg="ES256"))) is None
    assert reason(await subject.judge(token(key("x", "P-384"), alg="ES384"))) is Refusal.ALGORITHM
    assert subject.ready
    assert JWTVerifier.signed_only
