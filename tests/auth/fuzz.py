"""Made-up tokens, headers, key sets and introspection answers: each is accepted by right or refused, and nothing breaks.

    python -m tests.auth.fuzz --cases 100000 --seed 1

Cases are made from good ones by changing JSON values, members, bytes and segments. Signed tokens are signed anew after the
change, so that their claims are reached. A run with the same seed makes the same cases.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from tests.auth.issuer import (
    ISSUER,
    KEYS_URL,
    NOW,
    RESOURCE,
    Issuer,
    claims,
    handmade,
    jwk,
    key,
    rsa_key,
    running,
    verifier,
)
from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.claim_rules import ClaimRules
from trio_mcp.auth.discovery import read_issuer_metadata
from trio_mcp.auth.errors import AuthConfigurationError, FetchError
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.introspection import read_introspection
from trio_mcp.auth.judgement import Allowed, Refused
from trio_mcp.auth.keys import read_key_set
from trio_mcp.auth.reasons import TokenRefused
from trio_mcp.auth.resource import matching_audience
from trio_mcp.auth.tokens import AccessToken

__all__ = ["Fuzz", "run"]

RULES = ClaimRules(ISSUER, (RESOURCE,), issuer_optional=True, expiry_optional=True)
SIGNER = key("fuzz", "Ed25519")
HEADER = {"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"}

STRANGE: Sequence[Any] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", " ", "\0", "\ud800",
    "none", "RS256", "HS256", "EdDSA", "k1", "at+jwt", "9999999999", "A" * 300, "../../etc/passwd", "é", "a b", '"', "\r\nX: y",
    ISSUER, RESOURCE, RESOURCE + "/", "AQAB", "sig", "enc", "RSA", "oct", "OKP", "P-256", "https://evil.example/keys",
    [], {}, [[]], [None], [1, "a"], {"a": {"b": []}}, [RESOURCE, "x"], ["verify"], {"jkt": "x"}, NOW, NOW + 100, NOW - 100,
)  # fmt: skip
NAMES = ("alg", "kid", "typ", "jku", "x5u", "jwk", "x5c", "crit", "b64", "zip", "iss", "aud", "sub", "exp", "nbf", "iat", "scope",
         "scp", "client_id", "azp", "cnf", "active", "kty", "n", "e", "x", "y", "crv", "d", "k", "use", "key_ops", "keys",
         "issuer", "jwks_uri")  # fmt: skip
TEXT = 'A_-.=+/ ,"\\{}[]:\0\n\u00e9\ud8001e'


class Fuzz:
    """Makes cases and checks what becomes of them. `counts` says how many of each outcome there were."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.issuer = Issuer(jwk(SIGNER, "k1"), jwk(rsa_key("k1"), "k2"), jwk(key("e", "P-256"), "k3"))
        self.auth = BearerAuth(verifier(self.issuer), resource=RESOURCE, now=lambda: float(NOW))

    async def cases(self, count: int) -> None:
        """Make and check so many cases. Raises whatever a case breaks, with the case in a note."""
        kinds: list[Callable[[], Any]] = [
            self._header,
            self._token,
            self._token,
            self._key_set,
            self._introspection,
            self._metadata,
        ]
        async with running(self.auth.verifier):  # type: ignore[arg-type]
            for _ in range(count):
                await self._random.choice(kinds)()
        assert set(self.issuer.asked) == {KEYS_URL}

    async def _header(self) -> None:
        values = [self._torn(f"Bearer {self._signed(claims())}") for _ in range(self._random.choice([1, 1, 1, 0, 2]))]
        await self._judged(values, claims())

    async def _token(self) -> None:
        described = claims()
        if self._random.random() < 0.7:
            described = self._changed(described)
        text = self._signed(described)
        if self._random.random() < 0.3:
            text = self._torn(text)
        await self._judged([f"Bearer {text}"], described)

    async def _judged(self, values: list[str], described: Any) -> None:
        with note(values):
            judgement = await self.auth.judge(values)
            match judgement:
                case Refused():
                    assert judgement.status in (400, 401)
                    assert judgement.headers[0][1].decode("ascii").isprintable()
                    self.counts[judgement.reason.value] += 1
                case Allowed(token):
                    self.counts["allowed"] += 1
                    check(token, required=True)
                    # Whatever was done to the text, nothing passes that was not signed.
                    assert dict(token.claims or {}) == described
                case _:
                    raise AssertionError("nobody is away here")

    async def _key_set(self) -> None:
        document = {"keys": [jwk(SIGNER, "k1"), jwk(rsa_key("k1"), "k2"), jwk(key("e", "P-256"), "k3")]}
        body = self._body(document)
        with note(body):
            try:
                found = read_key_set(body)
            except FetchError:
                self.counts["no key set"] += 1
                return
            assert all(each.family in ("RSA", "P-256", "P-384", "P-521", "Ed") for each in found.keys)
            self.counts["key set"] += 1

    async def _introspection(self) -> None:
        body = self._body({"active": True, **claims()})
        response = Response(self._random.choice([200, 200, 200, 200, 500, 401]), body)
        with note(response):
            try:
                verdict = read_introspection(response, "opaque", RULES, float(NOW))
            except FetchError:
                self.counts["no introspection"] += 1
                return
            if isinstance(verdict, TokenRefused):
                self.counts[f"introspection: {verdict.reason.value}"] += 1
            else:
                check(verdict, required=False)
                assert (verdict.claims or {})["active"] is True
                self.counts["introspection: active"] += 1

    async def _metadata(self) -> None:
        body = self._body({"issuer": ISSUER, "jwks_uri": KEYS_URL})
        with note(body):
            try:
                found = read_issuer_metadata(Response(200, body), ISSUER)
            except (FetchError, AuthConfigurationError):
                self.counts["no metadata"] += 1
                return
            assert found.jwks_uri.startswith("https://")
            self.counts["metadata"] += 1

    def _signed(self, described: Any) -> str:
        header: Any = HEADER if self._random.random() < 0.7 else self._changed(HEADER)
        return handmade(header, described, SIGNER.sign)

    def _body(self, document: Any) -> bytes:
        text = json.dumps(self._changed(document))
        if self._random.random() < 0.2:
            text = self._torn(text)
        return text.encode(errors="surrogatepass")

    def _changed(self, value: Any) -> Any:
        """The JSON value with one to three changes somewhere in it."""
        changed = json.loads(json.dumps(value))
        for _ in range(self._random.randint(1, 3)):
            changed = self._changed_once(changed)
        return changed

    def _changed_once(self, value: Any) -> Any:
        pick = self._random
        if isinstance(value, dict) and value and pick.random() < 0.95:
            name = pick.choice([*value])
            match pick.randint(0, 3):
                case 0:
                    return {key: kept for key, kept in value.items() if key != name}
                case 1:
                    return {**value, pick.choice(NAMES): pick.choice(STRANGE)}
                case _:
                    return {**value, name: self._changed_once(value[name])}
        if isinstance(value, list) and value and pick.random() < 0.95:
            place = pick.randrange(len(value))
            return [*value[:place], self._changed_once(value[place]), *value[place + pick.randint(0, 1) :]]
        if isinstance(value, str) and pick.random() < 0.3:
            return self._torn(value)
        return pick.choice(STRANGE)

    def _torn(self, text: str) -> str:
        """The text with some of it changed, cut out, doubled or put elsewhere."""
        pick = self._random
        for _ in range(pick.randint(1, 3)):
            start = pick.randint(0, len(text))
            end = min(len(text), start + pick.choice([0, 1, 1, 2, 8, 64]))
            middle = pick.choice(["", pick.choice(TEXT), text[start:end] * 2, text[start:end][::-1]])
            text = text[:start] + middle + text[end:]
        return text


@contextmanager
def note(case: object) -> Iterator[None]:
    """Add the case to whatever it breaks."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the case: {case!r}")
        raise


def check(token: AccessToken, *, required: bool) -> None:
    """Whether a token was accepted by right."""
    accepted = token.claims or {}
    assert accepted.get("iss") == ISSUER or (not required and accepted.get("iss") is None)
    assert matching_audience(accepted.get("aud"), [RESOURCE])
    assert token.subject or (token.subject is None and token.client_id)
    assert accepted.get("cnf") is None
    expiry = accepted.get("exp")
    if required or expiry is not None:
        assert type(expiry) in (int, float)
        assert expiry > NOW - 30  # type: ignore[operator]
    assert all(isinstance(scope, str) for scope in token.scopes)


def run(cases: int, seed: int) -> Counter[str]:
    """Run so many cases and return how many of each outcome there were."""
    fuzz = Fuzz(seed)
    trio.run(fuzz.cases, cases)
    return fuzz.counts


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for outcome, count in run(options.cases, options.seed).most_common():
        sys.stdout.write(f"{count:>8}  {outcome}\n")


if __name__ == "__main__":
    main()
