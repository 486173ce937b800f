"""Reading challenges: ours, those of other servers, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.auth.challenge import challenge
from trio_mcp.auth.challenge_reader import BearerChallenge, read_challenge

METADATA = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([""], None),
        (["Basic realm=x"], None),
        (["Bearer"], BearerChallenge()),
        (["bearer"], BearerChallenge()),
        (["Bearer error=invalid_token"], BearerChallenge("invalid_token")),
        (['Bearer error="invalid_token" , scope = "a b a"'], BearerChallenge("invalid_token", scopes=("a", "b"))),
        (['Bearer realm="a, Basic b", ERROR="x"'], BearerChallenge("x")),
        (['Bearer error_description="say \\"a\\", \\\\b"'], BearerChallenge(description='say "a", \\b')),
        (['Basic realm="x", Bearer scope="a"'], BearerChallenge(scopes=("a",))),
        (["Negotiate YWJj==, Bearer scope=a"], BearerChallenge(scopes=("a",))),
        (["Basic realm=x", "Bearer scope=a"], BearerChallenge(scopes=("a",))),
        (["Bearer scope=a, Bearer scope=b"], BearerChallenge(scopes=("a",))),
        (['Bearer scope="a", scope="b"'], BearerChallenge(scopes=("a",))),
        ([f"Bearer resource_metadata={METADATA}"], BearerChallenge()),
        (['Bearer scope="a'], BearerChallenge()),
        (["\u00e9 Bearer"], None),
    ],
)
def test_the_first_bearer_challenge_counts(headers: list[str], found: BearerChallenge | None) -> None:
    assert read_challenge(headers) == found


VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)


@given(VISIBLE, VISIBLE, st.lists(VISIBLE, unique=True), VISIBLE)
def test_what_we_write_is_read_as_it_was(error: str, description: str, scopes: list[str], url: str) -> None:
    written = challenge(error=error, description=description, scopes=scopes, resource_metadata=url).decode()
    assert read_challenge([written]) == BearerChallenge(error, description, tuple(scopes), url)


@given(st.text())
def test_nothing_breaks_it(header: str) -> None:
    read_challenge([header, f"Bearer {header}"])


@pytest.mark.parametrize(
    "header", ["a" * 100_000, "Bearer " + 'a="' * 50_000, "Bearer" + " " * 100_000 + "x", "," * 100_000]
)
def test_a_long_header_is_read_in_a_bounded_part(header: str) -> None:
    read_challenge([header])
