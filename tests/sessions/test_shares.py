"""How many sessions one caller has: counted once each, whichever process has them."""

from __future__ import annotations

import pytest

from trio_mcp import Principal
from trio_mcp.sessions.shares import SessionCounts, Share, Shares, TooManyForCaller

ANN, HOME = Share("principal", "ann", 2), Share("address", "192.0.2.1", 3)


def test_a_session_counts_for_all_that_it_has_or_for_nothing() -> None:
    counts = SessionCounts()
    assert [counts.take(name, [ANN, HOME]) for name in "ab"] == ["", ""]
    assert counts.take("c", [ANN, HOME]) == "principal"
    assert counts.take("d", [HOME]) == ""
    assert counts.take("e", [HOME]) == "address"
    counts.give_back("a")
    counts.give_back("a")
    counts.give_back("never")
    assert counts.take("e", [ANN, HOME]) == ""


def test_one_that_goes_on_elsewhere_counts_once_with_the_address_that_it_had() -> None:
    counts = SessionCounts()
    assert counts.take("a", [ANN, HOME], "one") == ""
    counts.note("a", [ANN], "two")
    # Its first process has let it go, or has ended: it is not its any more.
    counts.give_back("a", "one")
    counts.process_ended("one")
    assert counts.take("b", [ANN, HOME], "two") == ""
    assert counts.take("c", [ANN], "two") == "principal"
    assert counts.take("c", [HOME], "two") == ""
    assert counts.take("d", [HOME], "two") == "address"
    counts.process_ended("two")
    assert counts.take("d", [ANN, HOME], "three") == ""
    assert counts._held == {("principal", "ann"): 1, ("address", "192.0.2.1"): 1}


def test_a_bound_that_new_settings_lower_holds_for_what_comes() -> None:
    counts = SessionCounts()
    assert [counts.take(name, [ANN]) for name in "ab"] == ["", ""]
    counts.give_back("a")
    assert counts.take("c", [Share("principal", "ann", 1)]) == "principal"


async def test_names_of_people_are_not_counted_by() -> None:
    shares = Shares(per_principal=1)
    await shares.take("a", Principal("ann"), None)
    assert "ann" not in repr(shares.counts.__dict__["_counts"].__dict__)
    with pytest.raises(TooManyForCaller):
        await shares.take("b", Principal("ann"), None)
