"""The `WWW-Authenticate` header, byte by byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.auth.challenge import challenge, refusal_headers, unavailable_headers
from trio_mcp.auth.reasons import Refusal

METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


def header(reason: Refusal, description: str = "", scopes: tuple[str, ...] = ("mcp:read",)) -> str:
    (name, value), *others = refusal_headers(reason, scopes=scopes, resource_metadata=METADATA, description=description)
    assert name == b"www-authenticate"
    assert not others
    return value.decode()


@pytest.mark.requirement("auth-1")
def test_without_credentials_there_is_no_error() -> None:
    assert header(Refusal.NO_TOKEN) == f'Bearer scope="mcp:read", resource_metadata="{METADATA}"'


def test_a_token_that_is_not_good_is_an_invalid_token() -> None:
    assert header(Refusal.EXPIRED) == (
        'Bearer error="invalid_token", error_description="The token has expired", scope="mcp:read", '
        f'resource_metadata="{METADATA}"'
    )


@pytest.mark.requirement("auth-36")
def test_a_lack_of_scope_names_all_that_are_needed() -> None:
    assert header(Refusal.SCOPE, "delete_file needs mcp:write", ("mcp:read", "mcp:write")) == (
        'Bearer error="insufficient_scope", error_description="delete_file needs mcp:write", '
        f'scope="mcp:read mcp:write", resource_metadata="{METADATA}"'
    )


@pytest.mark.requirement("auth-4", "auth-5")
def test_a_malformed_request_is_told_what_is_wrong_with_it() -> None:
    assert header(Refusal.REPEATED_HEADER) == (
        'Bearer error="invalid_request", error_description="Authorization comes more than once"'
    )


def test_what_is_empty_is_left_out() -> None:
    assert challenge() == b"Bearer"
    assert refusal_headers(Refusal.NO_TOKEN, scopes=(), resource_metadata="") == ((b"www-authenticate", b"Bearer"),)


def test_a_403_that_no_scope_changes_has_no_challenge() -> None:
    assert refusal_headers(Refusal.FORBIDDEN, scopes=("a",), resource_metadata=METADATA) == ()


def test_a_503_has_no_challenge() -> None:
    assert unavailable_headers() == ((b"retry-after", b"5"),)


@given(st.text(), st.text(), st.text())
def test_no_text_ends_a_value_or_the_header(error: str, description: str, url: str) -> None:
    value = challenge(error=error, description=description, resource_metadata=url).decode("ascii")
    parameter = r'[a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]*"'
    assert re.fullmatch(rf"Bearer(?: {parameter}(?:, {parameter})*)?", value)


def test_quotes_become_apostrophes_and_the_rest_question_marks() -> None:
    assert challenge(description='"a" needs b\\c\r\nX: \u00e9') == b"Bearer error_description=\"'a' needs b?c??X: ?\""
