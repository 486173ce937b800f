"""`initialize`: the offer is checked member by member, the version settled."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp.protocol.errors import InvalidParams
from trio_mcp.protocol.handshake import MAX_OFFER_BYTES, Offer, negotiate, read_offer
from trio_mcp.protocol.versions import LEGACY_VERSIONS, MODERN_VERSIONS

OFFER: dict[str, Any] = {"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "c"}}


def test_an_offer_is_read() -> None:
    assert read_offer(OFFER) == Offer("2025-06-18", {"roots": {}}, {"name": "c"})


@pytest.mark.parametrize("member", OFFER)
@pytest.mark.parametrize("value", [None, 1, []])
def test_a_member_that_is_missing_or_of_the_wrong_type_is_named(member: str, value: object) -> None:
    with pytest.raises(InvalidParams, match=member):
        read_offer({**OFFER, member: value})
    with pytest.raises(InvalidParams, match=member):
        read_offer({name: given for name, given in OFFER.items() if name != member})


@pytest.mark.parametrize("member", ["capabilities", "clientInfo"])
def test_an_offer_too_large_to_be_kept_for_a_session_is_refused(member: str) -> None:
    with pytest.raises(InvalidParams, match="65536 bytes"):
        read_offer({**OFFER, member: {"name": "x" * MAX_OFFER_BYTES}})


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
def test_a_version_with_sessions_that_we_serve_is_taken(version: str) -> None:
    assert negotiate(version) == version


@pytest.mark.parametrize("version", [*MODERN_VERSIONS, "2024-10-07", "2099-01-01", "", "nonsense"])
def test_any_other_is_answered_with_our_latest_one_that_has_sessions(version: str) -> None:
    assert negotiate(version) == "2025-11-25"
