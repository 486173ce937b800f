"""Who is the same as whom, and under which digests."""

from __future__ import annotations

from itertools import combinations

import pytest

from trio_mcp.auth.principal import ANONYMOUS, Principal, form_of

OLD = {
    ANONYMOUS: "6e340b9cffb37a989ca544e6bb780a2c",
    Principal("ann"): "5c1fd9322071981551347ca3c2e2c089",
    Principal("ann", "https://idp"): "9fe902ec6a3fbb986e7d0e989e5eac92",
}
"""What records of form 1 hold."""


def test_claims_make_nobody_another_principal() -> None:
    one, other = Principal("ann", "https://idp", {"scope": "a"}), Principal("ann", "https://idp", {"scope": "b"})
    assert one == other
    assert hash(one) == hash(other)
    assert one.digest == other.digest
    assert one.identity.claims == {}
    assert one.identity == one


DISTINCT = [
    ANONYMOUS,
    Principal("ann"),
    Principal("bob"),
    Principal("ann", "https://idp"),
    Principal("bob", "https://idp"),
    Principal("ann", "https://other"),
    Principal("ann", "https://idp", client_id="c1"),
    Principal("ann", "https://idp", client_id="c2"),
    Principal("", "https://idp", client_id="ann"),
    Principal("", "https://idp", client_id="c1"),
    Principal("c1", "https://idp"),
    Principal("b", "a"),
    Principal("ab"),
    Principal("", "ab"),
    Principal("b\0c", "a"),
    Principal("c", "a\0b"),
    Principal('b","c', "a"),
    Principal("c", 'a","b'),
    Principal("\ud800"),
]


@pytest.mark.parametrize(("one", "other"), list(combinations(DISTINCT, 2)))
def test_issuer_client_and_subject_make_a_principal(one: Principal, other: Principal) -> None:
    assert one != other
    assert one.digest != other.digest
    assert not set(one.known_as) & set(other.known_as)


def test_a_digest_says_its_version() -> None:
    digest = Principal("b", "a").digest
    assert digest.startswith("02")
    assert len(digest) == 34


def test_log_lines_have_a_part_of_the_digest_and_no_name() -> None:
    principal = Principal("ann@example.com", "https://login", client_id="desktop")
    assert principal.log_name == principal.digest[2:10]
    assert ANONYMOUS.log_name is None
    assert Principal("", client_id="c").log_name is not None


@pytest.mark.parametrize(("principal", "old"), list(OLD.items()))
def test_a_digest_of_form_1_is_known_again(principal: Principal, old: str) -> None:
    assert principal.known_as == (principal.digest, old)
    assert principal.digest != old
    assert principal.recorded_as == old
    assert form_of(old) == 1


@pytest.mark.parametrize(
    "principal",
    [Principal("ann", client_id="c1"), Principal("b\0c", "a"), Principal("c", "a\0b")],
    ids=["it names no client", "NUL in the subject", "NUL in the issuer"],
)
def test_a_digest_of_form_1_that_may_be_anothers_proves_nothing(principal: Principal) -> None:
    assert principal.known_as == (principal.digest,)
    assert principal.recorded_as == principal.digest
    assert form_of(principal.digest) == 2
