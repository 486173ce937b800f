"""What records and tombstones of other releases mean here."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import trio_mcp.cluster
from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.peer.outcomes import Misdirected, read_misdirection
from trio_mcp.cluster.peer.probe import Livez
from trio_mcp.cluster.record import Identity, Message, NodeCard, Record, Tombstone, read, read_record

FORM_1 = (
    b'{"v":1,"node":"node1","boot":"0123456789abcdef","epoch":0,"url":"http://127.0.0.1:8000",'
    b'"principal":"1255dacaa637f70cb606763d3035c7ef","version":"2025-11-25","info":{"name":"test","version":"1"},'
    b'"capabilities":{"roots":{}},"initialized":true,"log_level":"info","subscriptions":["demo://oslo"],'
    b'"restorable":true,"released":false,"created":1764300000}'
)
"""As a node of the first form wrote it, for a session of Alice's."""
STONE_OF_FORM_1 = (
    b'{"reason":"expired","principal":"1255dacaa637f70cb606763d3035c7ef","boot":"0123456789abcdef","epoch":0}'
)

ALICE = Principal("alice", claims={"scope": "read"})
OTHERS = [Principal("bob"), Principal("alice", "https://idp"), Principal("alice", client_id="c1"), Principal("")]


def form_1() -> Record:
    record = read_record(FORM_1)
    assert record is not None
    return record


def test_a_record_of_form_1_is_read_whole() -> None:
    record = form_1()
    assert record.readable
    snapshot = record.snapshot("node1.abc", ALICE)
    assert (snapshot.epoch, snapshot.version, snapshot.subscriptions) == (1, "2025-11-25", ("demo://oslo",))


def test_a_record_of_form_1_is_its_principals() -> None:
    assert form_1().may_be_of(ALICE)


@pytest.mark.parametrize("other", OTHERS)
def test_a_record_of_form_1_is_nobody_elses(other: Principal) -> None:
    assert not form_1().may_be_of(other)


def test_why_a_session_of_form_1_ended_is_its_principals_business() -> None:
    stone = read(STONE_OF_FORM_1, Tombstone)
    assert stone is not None
    assert stone.said_to(ALICE) == "expired"
    assert {stone.said_to(other) for other in OTHERS} == {"unknown"}


@pytest.mark.parametrize(
    ("who", "form"), [(ALICE, 1), (Principal(""), 1), (Principal("alice", client_id="c1"), 2), (Principal("a\0b"), 2)]
)
def test_a_record_is_of_the_first_form_that_names_its_principal_alone(who: Principal, form: int) -> None:
    """Nodes of the release before take up sessions of form 1, and relay for those of form 2."""
    mine = Record.of(form_1().snapshot("node1.abc", who), Identity("node1", "b1"), restorable=True)
    assert (mine.v, mine.principal) == (form, who.recorded_as)
    assert mine.readable
    assert mine.may_be_of(who)


def test_a_record_of_form_2_is_its_principals_and_nobody_elses() -> None:
    record = read_record(msgspec.json.encode(msgspec.structs.replace(form_1(), v=2, principal=ALICE.digest)))
    assert record is not None
    assert record.readable
    assert record.may_be_of(ALICE)
    assert not any(record.may_be_of(other) for other in OTHERS)


def test_a_record_of_a_later_form_may_be_anybodys() -> None:
    record = read_record(FORM_1.replace(b'"v":1', b'"v":3'))
    assert record is not None
    assert not record.readable
    assert record.owner.node == "node1"
    assert all(record.may_be_of(who) for who in [ALICE, *OTHERS])


DEEP = [b"[" * 60_000, b'{"zz":' * 60_000, b'{"zz":' + b"[" * 60_000 + b"]" * 60_000 + b"}"]


@pytest.mark.parametrize("raw", DEEP)
@pytest.mark.parametrize("kind", [Record, Tombstone, NodeCard, Message, Livez])
def test_what_is_nested_deeply_is_nothing(kind: type[msgspec.Struct], raw: bytes) -> None:
    assert read(raw, kind) is None


@pytest.mark.parametrize("raw", DEEP)
def test_a_record_or_a_421_that_is_nested_deeply_names_no_owner(raw: bytes) -> None:
    assert read_record(raw) is None
    assert read_misdirection(b"node2.bb", raw) == Misdirected("node2", "bb", None)


def test_the_cluster_decodes_json_in_one_place() -> None:
    files = Path(trio_mcp.cluster.__file__).parent.rglob("*.py")
    assert [file.name for file in files if "msgspec.json.decode" in file.read_text()] == ["record.py"]
