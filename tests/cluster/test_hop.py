"""The signed hop header: it holds for one request, from one node, for half a minute."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.cluster.hop import VALID_MS, Hops
from trio_mcp.transports.http.exchange import request_target

HOPS = Hops([b"the secret"], node="node-1", boot="0123456789abcdef")
METHOD, PATH, SESSION = "POST", b"/mcp?a=b", "node-2.abcDEF_-012"

texts = st.text(st.characters(codec="latin-1", exclude_characters="\n"))
paths = st.binary(min_size=1).filter(lambda path: b"\n" not in path)


@given(st.sampled_from(["GET", "POST", "DELETE"]), paths, texts)
def test_what_one_node_signs_any_other_with_the_secret_verifies(method: str, path: bytes, session: str) -> None:
    other = Hops([b"the secret"], node="node-2", boot="fedcba9876543210")
    assert other.verify(HOPS.sign(method, path, session), method, path, session) == "node-1"


def test_it_tells_node_boot_and_time_in_the_open() -> None:
    node, boot, ms, signature = HOPS.sign(METHOD, PATH, SESSION).split(b".")
    assert (node, boot) == (b"node-1", b"0123456789abcdef")
    assert abs(int(ms) / 1000 - time.time()) < 10
    assert len(signature) == 32


@given(st.integers(0, 1_000), st.integers(0, 255))
def test_any_altered_byte_of_the_value_breaks_it(at: int, other: int) -> None:
    value = HOPS.sign(METHOD, PATH, SESSION)
    at %= len(value)
    altered = value[:at] + bytes([other]) + value[at + 1 :]
    assert (HOPS.verify(altered, METHOD, PATH, SESSION) is None) == (altered != value)


@given(paths, st.integers(0, 1_000), st.integers(0, 255))
def test_any_altered_byte_of_the_path_breaks_it(path: bytes, at: int, other: int) -> None:
    at %= len(path)
    altered = path[:at] + bytes([other]) + path[at + 1 :]
    value = HOPS.sign(METHOD, path, SESSION)
    assert (HOPS.verify(value, METHOD, altered, SESSION) is None) == (altered != path)


@given(texts, texts)
def test_it_holds_for_no_other_session(session: str, other: str) -> None:
    value = HOPS.sign(METHOD, PATH, session)
    assert (HOPS.verify(value, METHOD, PATH, other) is None) == (other != session)


@given(texts)
def test_it_holds_for_no_other_method(other: str) -> None:
    value = HOPS.sign(METHOD, PATH, SESSION)
    assert (HOPS.verify(value, other, PATH, SESSION) is None) == (other != METHOD)


def test_what_moves_from_one_part_to_the_next_breaks_it() -> None:
    value = HOPS.sign("POST", b"/mcp", "a.b")
    for method, path, session in [("POS", b"T/mcp", "a.b"), ("POST", b"/mc", "pa.b"), ("POST", b"/mcpa", ".b")]:
        assert HOPS.verify(value, method, path, session) is None


@given(st.binary() | st.from_regex(rb"[a-z]{1,3}\.[a-z]{1,3}\.[0-9]{1,16}\.[0-9a-f]{32}", fullmatch=True))
def test_anything_else_is_not_ours_and_nothing_worse(value: bytes) -> None:
    assert HOPS.verify(value, METHOD, PATH, SESSION) is None


def test_another_secret_does_not_verify() -> None:
    assert Hops([b"another"], node="n", boot="b").verify(HOPS.sign("GET", b"/", ""), "GET", b"/", "") is None


def test_while_secrets_are_rolled_the_newest_signs_and_any_verifies() -> None:
    old, both, new = (Hops(ring, node="n", boot="b") for ring in ([b"old"], [b"new", b"old"], [b"new"]))
    by_old, by_both = old.sign("GET", b"/", ""), both.sign("GET", b"/", "")
    assert both.verify(by_old, "GET", b"/", "") == "n"
    assert new.verify(by_both, "GET", b"/", "") == "n"
    assert old.verify(by_both, "GET", b"/", "") is None


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_an_address_is_told_beside_one_hop_header_alone(address: str) -> None:
    hop = HOPS.sign(METHOD, PATH, SESSION)
    told, other = HOPS.sign_client(hop, address), Hops([b"new", b"the secret"], node="n", boot="b")
    assert other.client(told, hop) == address
    assert other.client(told, HOPS.sign(METHOD, PATH, "other")) is None
    assert Hops([b"another"], node="n", boot="b").client(told, hop) is None
    assert other.client(told.replace(b"1", b"2", 1), hop) is None
    assert other.client(told[:-1], hop) is None
    assert other.client(b"", hop) is None


@pytest.mark.parametrize("address", ["", "1", "a b", "a\r\nb", "ä" * 3 + "\n", "1" * 65])
def test_what_is_no_address_is_not_told(address: str) -> None:
    assert HOPS.sign_client(HOPS.sign(METHOD, PATH, SESSION), address) == b""


@pytest.mark.parametrize("direction", [1, -1], ids=["signed in the past", "signed in the future"])
def test_it_holds_for_half_a_minute_of_clock_difference_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, direction: int
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    value = HOPS.sign("GET", b"/", "")
    monkeypatch.setattr(time, "time", lambda: now + direction * (VALID_MS / 1000 - 1))
    assert HOPS.verify(value, "GET", b"/", "") == "node-1"
    monkeypatch.setattr(time, "time", lambda: now + direction * (VALID_MS / 1000 + 1))
    assert HOPS.verify(value, "GET", b"/", "") is None


def test_without_a_secret_there_is_nothing_to_sign_with() -> None:
    with pytest.raises(ValueError, match="secret"):
        Hops([], node="n", boot="b")


def test_the_target_is_the_path_as_it_came_with_its_query() -> None:
    scope = {"raw_path": b"/a%20b", "path": "/a b", "query_string": b"x=%20"}
    assert request_target(scope) == b"/a%20b?x=%20"
    assert request_target({"path": "/a b", "query_string": b""}) == b"/a%20b"


def test_who_knows_the_secret_proves_its_boot_at_its_address_and_nobody_else() -> None:
    boot, url = "0123456789abcdef", "http://node-1:8000"
    proof = HOPS.prove(b"challenge", url)
    assert HOPS.proves(proof, b"challenge", boot, url)
    assert Hops([b"new", b"the secret"], node="n", boot="b").proves(proof, b"challenge", boot, url)
    assert not HOPS.proves(proof, b"another challenge", boot, url)
    assert not HOPS.proves(proof, b"challenge", "fedcba9876543210", url)
    assert not HOPS.proves(proof, b"challenge", boot, "http://stranger:8000")
    assert not Hops([b"another"], node="n", boot="b").proves(proof, b"challenge", boot, url)
    assert not HOPS.proves("\u00e9", b"challenge", boot, url)


def test_a_key_is_known_by_its_name_to_who_has_it() -> None:
    old, both, new = (Hops(ring, node="n", boot="b") for ring in ([b"old"], [b"new", b"old"], [b"new"]))
    assert both.key == new.key != old.key
    assert both.knows(old.key)
    assert both.knows(new.key)
    assert not old.knows(new.key)
    assert not new.knows(old.key)
    assert old.knows(""), "an older release does not say"
    assert b"old".hex() not in old.key
