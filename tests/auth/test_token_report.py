"""What a person is told about a token."""

from __future__ import annotations

import pytest

from tests.auth.issuer import ISSUER, KEYS_URL, NOW, RESOURCE, Issuer, handmade, rsa_key, running, token, verifier
from trio_mcp.auth import Principal
from trio_mcp.auth.bearer_auth import BearerAuth
from trio_mcp.auth.fetching import Response
from trio_mcp.auth.token_report import TokenReport, report_on


async def report(text: str) -> TokenReport:
    auth = BearerAuth(verifier(), resource=RESOURCE, required_scopes=["mcp:read"], now=lambda: float(NOW))
    found = await report_on(auth, text, now=float(NOW))
    assert not any(part in line for part in text.split(".") if len(part) > 8 for line in found.lines)
    return found


async def test_a_token_that_is_accepted() -> None:
    found = await report(token(email="HIDDEN"))
    assert found == TokenReport(
        True,
        "",
        (
            "accepted: user 'ann', client 'desktop', scopes mcp:read",
            f"this server: {RESOURCE}",
            "every request needs: mcp:read",
            "signed with RS256, key 'k1', typ 'at+jwt'",
            f"iss: {ISSUER}",
            f"aud: {RESOURCE}",
            "scope: mcp:read",
            "client_id: desktop",
            "exp: 2027-01-15 08:05:00 UTC, in 300 s",
            "iat: 2027-01-15 08:00:00 UTC, in 0 s",
            f"in log lines it is principal {Principal('ann', ISSUER, client_id='desktop').log_name}",
        ),
    )


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        (token(aud=["a", "b"]), "audience", "aud: a b"),
        (token(exp=NOW - 40), "expired", "exp: 2027-01-15 07:59:20 UTC, 40 s ago"),
        (token(exp="soon"), "claims", "exp: soon is no time"),
        (token(scope="other"), "scope", "refused with 403: This server needs mcp:read (scope)"),
        (token(rsa_key("evil")), "signature", "refused with 401: The signature of the token is wrong (signature)"),
        (token(sub=None, scope=""), "scope", "every request needs: mcp:read"),
        (token(iss="x\x1b[31m"), "issuer", "iss: x\\x1b[31m"),
        ("opaque", "malformed_token", "the token is opaque: only its issuer can read it"),
        (handmade({"alg": "none"}, {}), "algorithm", "signed with none, key None, typ None"),
    ],
)
async def test_what_decided_is_told(text: str, reason: str, line: str) -> None:
    found = await report(text)
    assert (found.accepted, found.reason) == (False, reason)
    assert line in found.lines


async def test_keys_that_cannot_be_had_are_told_as_such(autojump_clock: object) -> None:
    issuer = Issuer()
    issuer.answers[KEYS_URL] = Response(500)
    subject = verifier(issuer)
    async with running(subject):
        found = await report_on(BearerAuth(subject, resource=RESOURCE), token(), now=float(NOW))
    assert found.reason == "cannot_tell"
    assert found.lines[0].startswith("cannot be judged now, clients get 503:")


async def test_a_long_token_is_described_as_well() -> None:
    auth = BearerAuth(verifier(max_token=64_000), resource=RESOURCE, max_token=64_000, now=lambda: float(NOW))
    found = await report_on(auth, token(padding="x" * 20_000), now=float(NOW))
    assert found.accepted
    assert f"iss: {ISSUER}" in found.lines
