"""Public keys and signatures: the only module that imports PyJWT, so that it is loaded with authorization alone.

PyJWT 2.15 verifies signatures; what it lets pass and we do not is refused here and in `jws`, `claim_rules`: short RSA keys,
keys for encryption, shared secrets in a key set, private keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from trio_mcp.auth.jws import Jws

__all__ = [
    "KeyUnusable",
    "VerificationKey",
    "key_from_jwk",
    "key_from_pem",
    "key_from_secret",
    "signature_is_good",
]

FAMILIES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "EdDSA": "Ed",
    **dict.fromkeys(("HS256", "HS384", "HS512"), "secret"),
}
"""The family of keys that an algorithm needs (RFC 7518 §3.1, RFC 8037)."""

MIN_RSA_BITS = 2048
"""RFC 7518 §3.3."""
MAX_RSA_BITS = 8192
"""Each doubling makes a verification four times as slow; nobody signs tokens with more."""
MIN_SECRET_BYTES = 32
"""RFC 7518 §3.2: as long as the hash of HS256."""

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

# An algorithm for PyJWT to read a key by, and the members that make the key (RFC 7638 §3.2), with their longest text.
_MATERIAL: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "RSA": ("RS256", {"n": MAX_RSA_BITS // 6 + 2, "e": 11}),
    "EC": ("", {"crv": 16, "x": 128, "y": 128}),
    "OKP": ("EdDSA", {"crv": 16, "x": 128}),
}
_EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class KeyUnusable(ValueError):
    """A key that no signature is verified with; the text says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that signatures are verified with. Equal keys have the same material, algorithm and id."""

    family: str
    """A value of `FAMILIES`."""
    thumbprint: str
    """SHA-256 of the material."""
    kid: str | None
    """Its id in the key set."""
    algorithm: str | None
    """The only algorithm it is for; None where the key set does not say."""
    material: Any = field(repr=False, compare=False)

    def fits(self, algorithm: str) -> bool:
        """Whether tokens signed with `algorithm` can be verified with it."""
        return FAMILIES.get(algorithm) == self.family and self.algorithm in (None, algorithm)


def key_from_jwk(entry: object) -> VerificationKey:
    """The key in an entry of a key set (RFC 7517 §4). Raises KeyUnusable."""
    if not isinstance(entry, dict):
        raise KeyUnusable("not a JSON object")
    kid, algorithm = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        raise KeyUnusable("kid and alg are strings")
    if algorithm is not None and FAMILIES.get(algorithm, "secret") == "secret":
        raise KeyUnusable(f"alg {algorithm[:32]!r} is not used for access tokens")
    _check_purpose(entry)
    family, material = _checked(_loaded(entry))
    if algorithm is not None and FAMILIES[algorithm] != family:
        raise KeyUnusable("alg does not fit the key")
    return VerificationKey(family, _thumbprint(material), kid, algorithm, material)


def key_from_pem(pem: str | bytes) -> VerificationKey:
    """The public key in a PEM text (`BEGIN PUBLIC KEY`). Raises KeyUnusable."""
    try:
        loaded = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable("not a public key in PEM form (-----BEGIN PUBLIC KEY-----)") from error
    family, material = _checked(loaded)
    return VerificationKey(family, _thumbprint(material), None, None, material)


def key_from_secret(secret: bytes) -> VerificationKey:
    """A secret shared with the issuer, for HS256. Raises KeyUnusable when it is shorter than 32 bytes."""
    if len(secret) < MIN_SECRET_BYTES:
        raise KeyUnusable(f"a shared secret has at least {MIN_SECRET_BYTES} bytes, not {len(secret)}")
    return VerificationKey("secret", hashlib.sha256(secret).hexdigest(), None, "HS256", secret)


def signature_is_good(jws: Jws, key: VerificationKey) -> bool:
    """Whether the token is signed with the key, by the algorithm that it names."""
    # The token was read: PyJWT's own reader would take it apart once more, at three times the price of the signature.
    return key.fits(jws.algorithm) and _ALGORITHMS[jws.algorithm].verify(jws.signed, key.material, jws.signature)


_ALGORITHMS = {name: jwt.PyJWS().get_algorithm_by_name(name) for name in FAMILIES}


def _check_purpose(entry: Mapping[str, Any]) -> None:
    if entry.get("use", "sig") != "sig":
        raise KeyUnusable("use is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeyUnusable("key_ops does not contain verify")
    if "d" in entry or "k" in entry:
        raise KeyUnusable("it holds a private key or a shared secret, which must not be published")


def _loaded(entry: Mapping[str, Any]) -> Any:
    kty = entry.get("kty")
    if not isinstance(kty, str) or kty not in _MATERIAL:
        raise KeyUnusable(f"kty {str(kty)[:32]!r} is not supported")
    algorithm, members = _MATERIAL[kty]
    if not all(isinstance(value := entry.get(name), str) and len(value) <= limit for name, limit in members.items()):
        raise KeyUnusable(f"{', '.join(members)} are needed, as strings of a sensible length")
    algorithm = algorithm or _EC_ALGORITHMS.get(entry["crv"], "")
    if not algorithm:
        raise KeyUnusable(f"curve {entry['crv']!r} is not supported")
    try:
        return jwt.PyJWK({"kty": kty, **{name: entry[name] for name in members}}, algorithm).key
    except (jwt.PyJWTError, ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable("its material cannot be read") from error


def _checked(material: Any) -> tuple[str, Any]:
    match material:
        case rsa.RSAPublicKey() if not MIN_RSA_BITS <= material.key_size <= MAX_RSA_BITS:
            raise KeyUnusable(f"an RSA key of {material.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are used")
        case rsa.RSAPublicKey():
            return "RSA", material
        case ec.EllipticCurvePublicKey() if material.curve.name in _CURVES:
            return _CURVES[material.curve.name], material
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return "Ed", material
        case _:
            raise KeyUnusable("a kind of key that access tokens are not signed with")


def _thumbprint(material: Any) -> str:
    return hashlib.sha256(material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
