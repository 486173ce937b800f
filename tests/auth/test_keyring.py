"""Sealing: what comes back is what went out, or an error."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.auth.keyring import BrokenSeal, Keyring

RING = Keyring([b"new", b"old"])


@given(st.binary(), st.binary())
def test_what_is_sealed_opens_again_for_the_same_use(plain: bytes, use: bytes) -> None:
    sealed = RING.seal(plain, use)
    assert RING.open(sealed, use, max_age=60) == plain
    assert sealed.isascii()
    assert not set(sealed) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_the_same_text_is_never_sealed_the_same_way_twice_and_does_not_show() -> None:
    first, second = RING.seal(b"plain text", b""), RING.seal(b"plain text", b"")
    assert first != second
    assert len(first) > len("plain text")


@given(st.integers(0, 1_000), st.sampled_from("AB_-xyz0"))
def test_one_altered_character_breaks_the_seal(at: int, other: str) -> None:
    sealed = RING.seal(b"some state", b"use")
    at %= len(sealed)
    altered = sealed[:at] + other + sealed[at + 1 :]
    if altered != sealed:
        with pytest.raises(BrokenSeal):
            RING.open(altered, b"use", max_age=60)


@given(st.text() | st.text("ABCabc019-_=\n ", max_size=100))
def test_any_other_text_is_a_broken_seal_and_nothing_worse(text: str) -> None:
    with pytest.raises(BrokenSeal):
        RING.open(text, b"", max_age=60)


@pytest.mark.parametrize("cut", [1, 4, 20, 36])
def test_a_cut_seal_is_broken(cut: int) -> None:
    with pytest.raises(BrokenSeal):
        RING.open(RING.seal(b"some state", b"")[:-cut], b"", max_age=60)


def test_another_use_breaks_the_seal() -> None:
    with pytest.raises(BrokenSeal, match="another request"):
        RING.open(RING.seal(b"x", b"cursor tools/list"), b"cursor prompts/list", max_age=60)


def test_only_the_spelling_we_issue_is_ours() -> None:
    for text in (b"", b"1", b"12"):
        sealed = RING.seal(text, b"")
        for other in (sealed + "=", sealed + "==", sealed + "\n", " " + sealed, sealed.replace("-", "+") + "+"):
            with pytest.raises(BrokenSeal, match="not something this server issued"):
                RING.open(other, b"", max_age=60)


def test_base64_with_stray_bits_at_its_end_is_not_ours() -> None:
    sealed = next(s for s in (RING.seal(b"x", b"") for _ in range(1_000)) if s[-1] == "A")
    with pytest.raises(BrokenSeal, match="not something this server issued"):
        RING.open(sealed[:-1] + "B", b"", max_age=60)


def test_a_seal_is_good_for_its_age_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, now = RING.seal(b"x", b""), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 59)
    assert RING.open(sealed, b"", max_age=60) == b"x"
    monkeypatch.setattr(time, "time", lambda: now + 62)
    with pytest.raises(BrokenSeal, match="older than 60 s"):
        RING.open(sealed, b"", max_age=60)


def test_a_clock_that_is_behind_is_no_reason_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, now = RING.seal(b"x", b""), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 30)
    assert RING.open(sealed, b"", max_age=60) == b"x"


def test_after_a_rotation_the_old_key_still_opens_and_the_new_one_seals() -> None:
    before, between, after = Keyring([b"old"]), Keyring([b"new", b"old"]), Keyring([b"new"])
    assert between.open(before.seal(b"x", b""), b"", max_age=60) == b"x"
    sealed = between.seal(b"x", b"")
    assert after.open(sealed, b"", max_age=60) == b"x"
    with pytest.raises(BrokenSeal):
        before.open(sealed, b"", max_age=60)


def test_nodes_with_the_same_secret_read_each_other_and_nobody_else_does() -> None:
    sealed = Keyring([b"shared"]).seal(b"x", b"")
    assert Keyring([b"shared"]).open(sealed, b"", max_age=60) == b"x"
    with pytest.raises(BrokenSeal):
        Keyring([b"other"]).open(sealed, b"", max_age=60)


def test_without_a_secret_each_process_has_its_own_key() -> None:
    one, other = Keyring(), Keyring()
    sealed = one.seal(b"x", b"")
    assert one.open(sealed, b"", max_age=60) == b"x"
    with pytest.raises(BrokenSeal):
        other.open(sealed, b"", max_age=60)
