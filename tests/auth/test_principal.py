"""Who is the same as whom."""

from __future__ import annotations

import pytest

from trio_mcp.auth.principal import ANONYMOUS, Principal


def test_two_principals_are_the_same_when_issuer_and_subject_are_whatever_they_claim() -> None:
    one, other = Principal("ann", "https://idp", {"scope": "a"}), Principal("ann", "https://idp", {"scope": "b"})
    assert one == other
    assert hash(one) == hash(other)
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "other",
    [Principal("bob", "https://idp"), Principal("ann"), Principal("ann", "https://other"), ANONYMOUS],
)
def test_another_subject_or_issuer_is_another_principal(other: Principal) -> None:
    ann = Principal("ann", "https://idp")
    assert ann != other
    assert ann.digest != other.digest


def test_the_digest_tells_where_the_issuer_ends() -> None:
    assert Principal("b", "a").digest != Principal("ab").digest
    assert len(Principal("b", "a").digest) == 32
