"""Tokens from the configuration."""

from __future__ import annotations

import hmac
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trio_mcp.auth.errors import AuthConfigurationError
from trio_mcp.auth.reasons import Refusal, TokenRefused
from trio_mcp.auth.static_tokens import StaticTokenVerifier, read_token_file
from trio_mcp.auth.tokens import AccessToken

CI = AccessToken(client_id="ci", subject="ci", scopes=["mcp:read"])
SECRET = "c0ffee-c0ffee-c0ffee"


@pytest.mark.requirement("auth-71")
@pytest.mark.parametrize("token", [SECRET[:-1], SECRET + "x", SECRET[:-1] + "x", "", SECRET.upper(), "\ud800"])
async def test_only_the_whole_token_passes(token: str) -> None:
    subject = StaticTokenVerifier({SECRET: CI, "other": AccessToken(client_id="other")})
    ours = {"iss": "urn:trio-mcp:static"}
    assert await subject.judge(SECRET) == replace(CI, token=SECRET, claims=ours)
    assert await subject.judge("other") == AccessToken(client_id="other", token="other", claims=ours)
    assert await subject.judge(token) == TokenRefused(Refusal.NOT_ACCEPTED)


async def test_a_description_may_name_its_issuer() -> None:
    named = replace(CI, claims={"iss": "https://login.example.com", "email": "a@b"})
    assert await StaticTokenVerifier({SECRET: named}).judge(SECRET) == replace(named, token=SECRET)


@pytest.mark.requirement("auth-71")
async def test_all_are_compared_in_constant_time_by_their_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    subject = StaticTokenVerifier({SECRET: CI, "other": CI, "third": CI})
    await subject.judge(SECRET)
    assert len(compared) == 3
    assert {len(side) for pair in compared for side in pair} == {32}
    assert SECRET not in str(vars(subject))


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        ({"": CI}, "a static token is empty"),
        ({"a b": CI}, "a static token"),
        ({"x" * 20_000: CI}, "too long"),
        ({"t": AccessToken(client_id="")}, "stands for somebody"),
        ({"t": AccessToken(client_id="c", subject="")}, "stands for somebody"),
        ({"t": AccessToken(client_id="c", scopes=["a b"])}, "not a scope"),
    ],
)
def test_a_token_that_cannot_work_does_not_start(tokens: dict[str, AccessToken], complaint: str) -> None:
    with pytest.raises(AuthConfigurationError, match=complaint):
        StaticTokenVerifier(tokens)


def file_of(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


async def test_a_file_has_a_token_a_line(tmp_path: Path) -> None:
    subject = read_token_file(file_of(tmp_path, f"# for CI\n{SECRET} ci mcp:read mcp:write # both\n\nother bot\n"))
    found: Any = await subject.judge(SECRET)
    assert (found.client_id, found.scopes, found.subject) == ("ci", ("mcp:read", "mcp:write"), None)
    assert isinstance(await subject.judge("other"), AccessToken)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(AuthConfigurationError, match="chmod 600"):
        read_token_file(file_of(tmp_path, f"{SECRET} ci\n", mode))


def test_an_error_names_the_line_and_does_not_quote_it(tmp_path: Path) -> None:
    with pytest.raises(AuthConfigurationError, match=r"tokens:2 needs a token and a client id") as caught:
        read_token_file(file_of(tmp_path, f"# one\n{SECRET}\n"))
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(AuthConfigurationError, match=f"^there is no file {tmp_path}/missing$"):
        read_token_file(tmp_path / "missing")


def test_a_relative_name_that_is_not_there_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AuthConfigurationError, match=f"^there is no file missing in {tmp_path}$"):
        read_token_file(Path("missing"))


@pytest.mark.parametrize("text", ["", "\n# nobody yet\n"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(AuthConfigurationError, match="has no token: write a line `token client scopes`"):
        read_token_file(file_of(tmp_path, text))
