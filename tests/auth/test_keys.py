"""Key sets: what of them can be used."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.issuer import jwk, key, pem, rsa_key, token
from trio_mcp.auth.errors import FetchError
from trio_mcp.auth.jws import Jws, read_jws
from trio_mcp.auth.keys import MAX_KEY_SET_BYTES, MAX_KEYS, KeyMiss, KeySet, read_key_set
from trio_mcp.auth.signatures import KeyUnusable, VerificationKey, key_from_jwk, key_from_pem, signature_is_good

K1 = jwk(rsa_key("k1"), "k1")
EC = jwk(key("e", "P-256"), "e")


def key_set(*entries: object) -> KeySet:
    return read_key_set(json.dumps({"keys": entries}).encode())


@pytest.mark.requirement("auth-27")
def test_entries_that_cannot_be_used_are_left_out_with_a_sentence_each() -> None:
    found = key_set(K1, "text", {**K1, "n": "!!", "kid": "broken"}, {"kty": "OKP", "crv": "X25519", "x": "A" * 43})
    assert [each.kid for each in found.keys] == ["k1"]
    assert len(found.complaints) == 3
    assert found.complaints[1].startswith("key 'broken':")


@pytest.mark.requirement("auth-27")
def test_keys_beyond_the_fiftieth_are_left_out() -> None:
    found = key_set(K1, *({**K1, "kid": f"x{number}"} for number in range(MAX_KEYS)))
    assert len(found.keys) == MAX_KEYS
    assert found.complaints == (f"{MAX_KEYS + 1} keys: those after the first {MAX_KEYS} are left out",)


@pytest.mark.requirement("auth-28")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": []}',
        b'{"keys": [1]}',
        b"\xff",
        b'{"keys": ' + b"[" * 100_000,
        b" " * 300 * 1024,
    ],
)
def test_what_is_no_key_set_is_an_error(body: bytes) -> None:
    with pytest.raises(FetchError, match="key set"):
        read_key_set(body)


@pytest.mark.requirement("auth-26")
@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {**K1, "kty": "oct"},
        {**K1, "kty": None},
        {**K1, "kty": ["RSA"]},
        {**K1, "kid": 1},
        {**K1, "alg": 1},
        {**K1, "alg": "none"},
        {**K1, "alg": "HS256"},
        {**K1, "alg": "RSA-OAEP"},
        {**K1, "alg": "ES256"},
        {**K1, "use": "enc"},
        {**K1, "use": None},
        {**K1, "key_ops": ["encrypt"]},
        {**K1, "key_ops": "verify"},
        {**K1, "d": "AQAB"},
        {**K1, "k": "AQAB"},
        {**K1, "n": None},
        {**K1, "n": 5},
        {**K1, "n": ""},
        {**K1, "n": "A" * 100_000},
        {**K1, "e": "AQ"},
        {**K1, "e": "A" * 20},
        {**K1, "n": "\u00e9"},
        jwk(rsa_key("weak", 1024), "k2"),
        {**EC, "x": EC["y"]},
        {**EC, "crv": "P-384"},
        {**EC, "crv": "secp256k1"},
        {**EC, "crv": []},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
    ],
)
def test_a_key_that_is_weak_or_broken_or_for_something_else_is_not_used(entry: object) -> None:
    with pytest.raises(KeyUnusable):
        key_from_jwk(entry)


def test_a_key_may_say_what_it_is_for() -> None:
    found = key_from_jwk({**K1, "use": "sig", "key_ops": ["verify"], "alg": "PS256"})
    assert (found.kid, found.algorithm, found.family) == ("k1", "PS256", "RSA")
    assert found.fits("PS256")
    assert not found.fits("RS256")
    assert not found.fits("ES256")
    assert not found.fits("none")


def test_equal_material_under_the_same_name_is_the_same_key() -> None:
    assert key_from_jwk(K1) == key_from_jwk({**K1, "x5c": ["any"]})
    assert key_from_jwk(K1) != key_from_jwk({**K1, "kid": "other"})
    assert key_from_jwk(K1) != key_from_jwk(jwk(rsa_key("k2"), "k1"))
    assert "0x" not in repr(key_from_jwk(K1))


@pytest.mark.parametrize(
    ("entries", "kid", "algorithm", "choice"),
    [
        ([K1, EC], "k1", "RS256", "k1"),
        ([K1, EC], "e", "ES256", "e"),
        ([K1, EC], "e", "RS256", KeyMiss.ALGORITHM),
        ([K1, EC], "x", "RS256", KeyMiss.UNKNOWN),
        ([K1, EC], None, "RS256", "k1"),
        ([K1, EC], None, "EdDSA", KeyMiss.UNKNOWN),
        ([K1, {**K1, "kid": "k2"}], None, "RS256", KeyMiss.AMBIGUOUS),
        ([K1, {**K1, "kid": "k2", "alg": "RS512"}], None, "RS256", "k1"),
        ([EC, {**K1, "kid": "e"}], "e", "RS256", "e"),
        ([{**K1, "kid": None}], "k1", "RS256", KeyMiss.UNKNOWN),
    ],
)
def test_the_key_for_a_token(entries: list[Any], kid: str | None, algorithm: str, choice: object) -> None:
    found = key_set(*entries).choose(kid, algorithm)
    assert (found.kid if isinstance(found, VerificationKey) else found) == choice


def test_a_key_set_that_is_too_long_is_not_read_at_all() -> None:
    body = json.dumps({"keys": [K1]}).encode()
    assert read_key_set(body + b" " * (MAX_KEY_SET_BYTES - len(body))).keys
    with pytest.raises(FetchError, match="longer than 256 KiB"):
        read_key_set(body + b" " * (MAX_KEY_SET_BYTES - len(body) + 1))


def test_a_signature_is_good_only_by_the_algorithm_of_its_key() -> None:
    jws = read_jws(token())
    assert isinstance(jws, Jws)
    assert signature_is_good(jws, key_from_jwk(K1))
    assert not signature_is_good(replace(jws, algorithm="RS512"), key_from_jwk(K1))
    assert not signature_is_good(jws, key_from_jwk({**K1, "alg": "PS256"}))
    assert not signature_is_good(jws, key_from_jwk(EC))
    assert not signature_is_good(jws, key_from_jwk(jwk(rsa_key("k2"), "k1")))
    assert not signature_is_good(replace(jws, signature=b""), key_from_jwk(K1))
    assert not signature_is_good(replace(jws, signed=jws.signed + b"A"), key_from_jwk(K1))


def test_a_pem_file_holds_a_key_that_signs() -> None:
    exchange = x25519.X25519PrivateKey.generate().public_key()
    pem_text = exchange.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyUnusable, match="not signed with"):
        key_from_pem(pem_text)
    assert key_from_pem(pem(key("ed", "Ed25519")).decode()).fits("EdDSA")
