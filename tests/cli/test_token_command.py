"""`trio-mcp token`: what a configuration makes of a token."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.auth.issuer import ISSUER, RESOURCE, pem, rsa_key, token
from trio_mcp.cli import execute

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """Of a server that verifies with one key."""
    key = tmp_path / "key.pem"
    key.write_bytes(pem(rsa_key("k1")))
    return ["--auth-issuer", ISSUER, "--auth-resource", RESOURCE, "--auth-public-key", str(key)]


def judged(monkeypatch: pytest.MonkeyPatch, text: str, *flags: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return execute(["token", "-", *flags])


def test_a_good_token(monkeypatch: pytest.MonkeyPatch, capsys: Printed, flags: list[str]) -> None:
    good = token(iat=1, exp=2**34)
    assert judged(monkeypatch, good, *flags) == 0
    said = capsys.readouterr().out
    assert said.startswith("accepted: user 'ann', client 'desktop', scopes mcp:read\n")
    assert not any(part in said for part in good.split("."))


def test_a_refused_one_says_what_decided(monkeypatch: pytest.MonkeyPatch, capsys: Printed, flags: list[str]) -> None:
    assert judged(monkeypatch, token(iat=1, exp=2**34, aud="https://other"), *flags) == 1
    said = capsys.readouterr().out
    assert "refused with 401: The token is for another audience (audience)" in said
    assert "aud: https://other" in said


def test_a_fixed_token_is_told_without_an_issuer(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("s3cret ann mcp:read\n")
    tokens.chmod(0o600)
    assert judged(monkeypatch, "s3cret\n", "--auth-tokens", str(tokens)) == 0
    assert capsys.readouterr().out.startswith("accepted: client 'ann', no user; scopes mcp:read\nin log lines")


def test_the_auth_of_a_server_in_code(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed, tmp_path: Path, flags: list[str]
) -> None:
    server = tmp_path / "guarded_by_code.py"
    server.write_text(
        "from pathlib import Path\n"
        "from trio_mcp import MCPServer\n"
        "from trio_mcp.auth import BearerAuth, JWTVerifier\n"
        f"key = JWTVerifier(public_key=Path({flags[-1]!r}).read_bytes(), issuer={ISSUER!r}, audience={RESOURCE!r})\n"
        f"mcp = MCPServer('x', auth=BearerAuth(key, resource={RESOURCE!r}, required_scopes=['mcp:more']))\n"
    )
    assert judged(monkeypatch, token(iat=1, exp=2**34), "--target", str(server)) == 1
    assert "every request needs: mcp:more" in capsys.readouterr().out


def test_without_authorization_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    assert judged(monkeypatch, token()) == 2
    assert "nothing here verifies tokens" in capsys.readouterr().err
