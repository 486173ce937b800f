"""What nodes of the first form (commit 6cce482) wrote is read here, and what is written here is no trouble to them.

The classes below are copies of what that commit had, as it read and wrote: they are not to follow later changes.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.cluster.parts import KEYS, snapshot
from trio_mcp.auth.principal import Principal
from trio_mcp.cluster.record import (
    Identity,
    Message,
    NodeCard,
    OwnershipChange,
    Record,
    Tombstone,
    end_message,
    moved_message,
    read,
    read_record,
)
from trio_mcp.cluster.redis.store import _command
from trio_mcp.cluster.store.port import ClaimRecord


class OldRecord(msgspec.Struct, frozen=True, kw_only=True):
    v: int
    node: str
    boot: str
    epoch: int
    url: str = ""
    principal: str | None = None
    version: str = ""
    info: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    initialized: bool = False
    log_level: str = "info"
    subscriptions: tuple[str, ...] = ()
    restorable: bool = False
    released: bool = False
    created: int = 0


class OldStone(msgspec.Struct, frozen=True):
    reason: str
    principal: str
    boot: str
    epoch: int


class OldCard(msgspec.Struct, frozen=True):
    boot: str
    url: str
    state: str
    sessions: int
    started: int
    key: str = ""


class OldMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    boot: str
    n: int = 0
    changes: list[tuple[str, str]] = []
    end: str = ""


FIRST_DIGEST_OF_ANN = "5c1fd9322071981551347ca3c2e2c089"
OLD_RECORD = OldRecord(
    v=1,
    node="node1",
    boot="b0",
    epoch=2,
    url="http://node1:8000",
    principal="d" * 32,
    version="2025-11-25",
    info={"name": "directory_harness"},
    initialized=True,
    subscriptions=("demo://oslo",),
    restorable=True,
    released=True,
    created=7,
)


def of_the_old_form(found: msgspec.Struct, old: msgspec.Struct) -> dict[str, Any]:
    """What is found in the members that the old form had; later ones are left at what they are where nothing says so."""
    return {name: getattr(found, name) for name in old.__struct_fields__}


def test_an_old_record_is_read_whole() -> None:
    record = read_record(msgspec.json.encode(OLD_RECORD))
    assert record is not None
    assert record.readable
    assert of_the_old_form(record, OLD_RECORD) == msgspec.structs.asdict(OLD_RECORD)


def test_an_old_tombstone_is_read() -> None:
    old = OldStone("deleted", "d" * 32, "b0", 2)
    stone = read(msgspec.json.encode(old), Tombstone)
    assert stone is not None
    assert of_the_old_form(stone, old) == msgspec.structs.asdict(old)


@pytest.mark.parametrize("key", ["", "0123abcd"])
def test_an_old_card_is_read(key: str) -> None:
    old = OldCard("b0", "http://node1:8000", "ready", 3, 1_764_300_000_000, key)
    card = read(msgspec.json.encode(old), NodeCard)
    assert card is not None
    assert of_the_old_form(card, old) == msgspec.structs.asdict(old)


@pytest.mark.parametrize(
    "old",
    [OldMessage("b0", 4, [("list", "tools"), ("uri", "demo://oslo")]), OldMessage("", end="node1.abc")],
)
def test_an_old_message_is_heard(old: OldMessage) -> None:
    message = read(msgspec.json.encode(old), Message)
    assert message is not None
    assert (message.boot, message.n, message.changes, message.end) == (old.boot, old.n, old.changes, old.end)
    assert message.moved == []


def test_an_old_node_takes_up_a_session_from_a_record_of_ours() -> None:
    """It reads the whole of a record of form 1, and knows the principal by that form's digest: here of "ann"."""
    mine = Record.of(snapshot(), Identity("node1", "b1", "http://node1:8000"), restorable=True, released=True)
    old = msgspec.json.decode(msgspec.json.encode(mine), type=OldRecord)
    assert (old.node, old.boot, old.epoch, old.url) == ("node1", "b1", 0, "http://node1:8000")
    assert (old.v, old.principal, old.released) == (1, FIRST_DIGEST_OF_ANN, True)
    assert of_the_old_form(mine, old) == msgspec.structs.asdict(old)


def test_an_old_node_finds_the_owner_in_a_record_that_names_a_client() -> None:
    mine = Record.of(
        snapshot(who=Principal("ann", client_id="c1")), Identity("node1", "b1", "http://node1:8000"), restorable=True
    )
    old = msgspec.json.decode(msgspec.json.encode(mine), type=OldRecord)
    assert old.v == 2, "or it would compare the digest, and call a living session unknown"
    assert (old.node, old.boot, old.epoch, old.url) == ("node1", "b1", 0, "http://node1:8000")


def test_an_old_node_reads_a_card_of_ours() -> None:
    card = NodeCard("b1", "http://node1:8000", "ready", 3, 1_764_300_000_000, "0123abcd")
    assert msgspec.json.decode(msgspec.json.encode(card), type=OldCard).url == "http://node1:8000"


def test_what_an_old_node_hears_of_a_move_neither_ends_a_session_nor_changes_anything() -> None:
    old = msgspec.json.decode(moved_message([OwnershipChange("node1.abc", "b2", 3)]), type=OldMessage)
    assert old == OldMessage("")
    assert msgspec.json.decode(end_message("node1.abc"), type=OldMessage).end == "node1.abc"


def test_a_claim_of_an_old_record_compares_what_is_in_it() -> None:
    record = read_record(msgspec.json.encode(OLD_RECORD))
    assert record is not None
    mine = Record.of(snapshot(epoch=3), Identity("node2", "b2", "http://node2:8000"), restorable=True)
    words = _command(KEYS, ClaimRecord("node1.abc", record, mine))
    assert words[6:8] == ("b0", 2)
