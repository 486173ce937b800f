"""An authorization server in memory: keys made in the test process, tokens signed with them, and a `fetch` that answers for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trio_mcp.auth.fetching import Response
from trio_mcp.auth.jwt_verifier import JWTVerifier
from trio_mcp.auth.verifier import Verifier

__all__ = [
    "ISSUER",
    "KEYS_URL",
    "NOW",
    "RESOURCE",
    "Issuer",
    "claims",
    "handmade",
    "hs256",
    "jwk",
    "key",
    "pem",
    "rsa_key",
    "running",
    "segment",
    "token",
    "verifier",
]

ISSUER = "https://login.example.com"
RESOURCE = "https://mcp.example.com/mcp"
KEYS_URL = "https://login.example.com/keys"
NOW = 1_800_000_000
"""What the clock of the verifier says."""

Answer = Response | Exception | None
"""What the issuer does for a URL: answer, break off, or (None) say nothing at all."""


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of that name."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def key(name: str, kind: str) -> Any:
    """A private key of that name, of a kind such as `P-256` or `Ed25519`."""
    match kind:
        case "RSA":
            return rsa_key(name)
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
            return ec.generate_private_key(curves[kind])


def jwk(private: Any, kid: str | None, **members: Any) -> dict[str, Any]:
    """The public half as an entry of a key set."""
    public = private.public_key()
    match public:
        case rsa.RSAPublicKey():
            entry = jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)
        case ec.EllipticCurvePublicKey():
            entry = jwt.algorithms.ECAlgorithm.to_jwk(public, as_dict=True)
        case _:
            entry = jwt.algorithms.OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**entry, **({} if kid is None else {"kid": kid}), **members}


def pem(private: Any) -> bytes:
    """The public half in PEM form."""
    encoded: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token. A change to None takes the claim out."""
    good = {
        "iss": ISSUER,
        "aud": RESOURCE,
        "sub": "ann",
        "client_id": "desktop",
        "scope": "mcp:read",
        "iat": NOW,
        "exp": NOW + 300,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(
    private: Any = None,
    *,
    kid: str | None = "k1",
    alg: str = "RS256",
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A token that is properly signed: by the key k1, where no other is given."""
    payload = json.dumps(claims(**changes)).encode()
    fields = {"typ": "at+jwt", **({} if kid is None else {"kid": kid}), **(header or {})}
    return jwt.PyJWS().encode(payload, private or rsa_key("k1"), algorithm=alg, headers=fields)


def handmade(header: Any, payload: Any, signature: bytes | Callable[[bytes], bytes] = b"") -> str:
    """A token from any header and payload, with any signature; a function computes it from the text before it."""
    start = f"{segment(header)}.{segment(payload)}"
    signed = signature(start.encode()) if callable(signature) else signature
    return f"{start}.{segment(signed)}"


def segment(content: Any) -> str:
    """Bytes as they are, anything else as JSON, in base64url without padding."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    """Signs with a shared secret, whatever it is: PyJWT would refuse some."""
    return lambda text: hmac.digest(secret, text, hashlib.sha256)


class Issuer:
    """Answers requests by URL, and remembers them. `answers` may be changed at any time."""

    def __init__(self, *entries: dict[str, Any], url: str = ISSUER) -> None:
        self.url = url
        self.asked: list[str] = []
        """The URLs of all requests so far."""
        self.answers: dict[str, Answer] = {}
        self.hung = 0
        """Requests that wait at this moment for an answer that never comes."""
        self.publish(*(entries or [jwk(rsa_key("k1"), "k1")]))
        self.describe()

    def publish(self, *entries: object, headers: dict[str, str] | None = None) -> None:
        """Change the key set."""
        self.answers[f"{self.url}/keys"] = Response(200, json.dumps({"keys": entries}).encode(), headers or {})

    def describe(self, **changes: Any) -> None:
        """Change the metadata."""
        document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **changes}
        self.answers[f"{self.url}/.well-known/oauth-authorization-server"] = Response(
            200, json.dumps(document).encode()
        )

    async def fetch(self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
        """The port `Fetch`."""
        self.asked.append(url)
        answer = self.answers.get(url, Response(404))
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await trio.lowlevel.checkpoint()
            return answer
        self.hung += 1
        try:
            await trio.sleep_forever()
        finally:
            self.hung -= 1


def verifier(issuer: Issuer | None = None, /, **options: Any) -> JWTVerifier:
    """A verifier for tokens of the issuer, whose clock stands at `NOW`. Without an issuer it knows the key k1."""
    given = {"issuer": ISSUER, "audience": RESOURCE, "now": lambda: float(NOW), **options}
    if issuer is None:
        return JWTVerifier(**{"public_key": pem(rsa_key("k1")), **given})
    return JWTVerifier(**{"jwks_uri": f"{issuer.url}/keys", "fetch": issuer.fetch, **given})


@asynccontextmanager
async def running(subject: Verifier) -> AsyncIterator[None]:
    """Run the tasks of a verifier for the length of the block."""
    async with trio.open_nursery() as nursery:
        await nursery.start(subject.run)
        yield
        nursery.cancel_scope.cancel()
