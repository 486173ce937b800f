"""The writes that compare: each is one Lua script, so that of two nodes that want the same thing one gets it.

Whose a record is: the `boot` and `epoch` in it; whose a card is, the `boot`. A value that is neither is nobody's.
A tombstone of a later life stands: one with a higher `epoch`.

A claim, a record that replaces one of an earlier life, and an end that another process than the owner writes, is told to all nodes by the script that does it: on the bus,
and in the stream of moves for whoever misses it there.
"""

from __future__ import annotations

import msgspec

from trio_mcp.cluster.bus_message import moved_message
from trio_mcp.cluster.record import SESSION_SECONDS, TOMBSTONE_SECONDS, Keys, OwnershipChange, Record, Tombstone
from trio_mcp.cluster.redis.link import Command

__all__ = ["beat", "claim", "end", "leave", "open_record", "own", "put_back"]

_READ = """
local raw = redis.call('GET', KEYS[1])
local known, held = false, nil
if raw then
  known, held = pcall(cjson.decode, raw)
  known = known and type(held) == 'table' and type(held.boot) == 'string'
end
"""

_READ_RECORD = (
    _READ
    + """
known = known and type(held.node) == 'string' and type(held.epoch) == 'number' and type(held.v) == 'number'
"""
)

_READ_STONE = """
local raw_stone = redis.pcall('GET', KEYS[2])
local buried, stone = pcall(cjson.decode, raw_stone)
buried = buried and type(stone) == 'table' and type(stone.boot) == 'string' and type(stone.epoch) == 'number'
"""

MAX_MOVES = 20_000
"""Kept in the stream: far more than nodes claim between two beats of a third. Who is left behind by more checks all records."""

# What is done stands even if it cannot be told: then by the next check of all records.
_TELL = (
    """
redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', '"""
    + str(MAX_MOVES)
    + """', '*', 'm', ARGV[5])
redis.pcall('PUBLISH', ARGV[6], ARGV[5])
return 1
"""
)

_OWN = (
    # While our record stands there is no tombstone of this life or a later one: `_END` puts it in the record's place.
    # The record of an earlier life comes from a Redis that lost ours: who wrote it there first may still have a copy.
    _READ_RECORD
    + """
local epoch = tonumber(ARGV[2])
local earlier = known and held.epoch < epoch
if known then
  if held.epoch > epoch or held.epoch == epoch and held.boot ~= ARGV[1] then return raw end
else
"""
    + _READ_STONE
    + """
  if buried and (stone.epoch > epoch or stone.epoch == epoch and stone.boot == ARGV[1]) then return raw_stone end
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
if not earlier then return 1 end
"""
    + _TELL
)

_PUT_BACK = (
    _READ_RECORD
    + _READ_STONE
    + """
local epoch = tonumber(ARGV[2])
if known then return raw end
if buried and (stone.epoch > epoch or stone.epoch == epoch and stone.boot == ARGV[1]) then return raw_stone end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return 1
"""
)

_CLAIM = (
    _READ_RECORD
    + """
if not known or held.boot ~= ARGV[1] or held.epoch ~= tonumber(ARGV[2]) then return raw or 0 end
if ARGV[7] == '1' and held.released ~= true then return raw end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
"""
    + _TELL
)

_END = (
    _READ_RECORD
    + _READ_STONE
    + """
if known and (held.boot ~= ARGV[1] or held.epoch ~= tonumber(ARGV[2])) then return 0 end
redis.call('DEL', KEYS[1])
if not buried or stone.epoch <= tonumber(ARGV[2]) then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4]) end
if ARGV[5] == '' then return 1 end
"""
    + _TELL
)

_BEAT = (
    _READ
    + """
known = known and type(held.started) == 'number'
if known and held.boot ~= ARGV[1] and held.boot ~= ARGV[5] and held.started <= tonumber(ARGV[2]) then return raw end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return (known and held.boot == ARGV[1]) and 1 or 0
"""
)

_LEAVE = (
    _READ
    + """
if known and held.boot == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)


def open_record(keys: Keys, session_id: str, record: Record) -> Command:
    """The one write of a session's opening: nobody else can know its id yet."""
    return ("SET", keys.session(session_id), msgspec.json.encode(record), "EX", SESSION_SECONDS)


def own(keys: Keys, session_id: str, record: Record) -> Command:
    """Write the record unless it is another's or the session has ended, in this life or a later one: 1, or what says so.

    That of an earlier life is replaced, and its owner told.
    """
    where = keys.session(session_id), keys.closed(session_id), keys.moves
    written = msgspec.json.encode(record), SESSION_SECONDS
    told = moved_message([OwnershipChange(session_id, record.boot, record.epoch)]), keys.bus
    return ("EVAL", _OWN, 3, *where, record.boot, record.epoch, *written, *told)


def put_back(keys: Keys, session_id: str, record: Record) -> Command:
    """Write a record that is missing, unless the session has ended: 1, or what is there."""
    where = keys.session(session_id), keys.closed(session_id)
    return ("EVAL", _PUT_BACK, 2, *where, record.boot, record.epoch, msgspec.json.encode(record), SESSION_SECONDS)


def claim(keys: Keys, session_id: str, seen: Record, record: Record) -> Command:
    """Take over the record that was seen: 1, or what is there instead, 0 for nothing. One seen released must still be."""
    where = keys.session(session_id), keys.closed(session_id), keys.moves
    written = msgspec.json.encode(record), SESSION_SECONDS
    told = moved_message([OwnershipChange(session_id, record.boot, record.epoch)]), keys.bus
    return ("EVAL", _CLAIM, 3, *where, seen.boot, seen.epoch, *written, *told, int(seen.released))


def end(keys: Keys, session_id: str, stone: Tombstone, *, by: str) -> Command:
    """Put the tombstone in the record's place, for an hour: 1, or 0 and nothing is changed when the record is of another life.

    `by` is the boot of who writes it: all are told of an end by another than the tombstone's, or by "".
    """
    where = keys.session(session_id), keys.closed(session_id), keys.moves
    written = msgspec.json.encode(stone), TOMBSTONE_SECONDS
    told = (
        b"" if by == stone.boot else moved_message([OwnershipChange(session_id, stone.boot, stone.epoch, ended=True)])
    )
    return ("EVAL", _END, 3, *where, stone.boot, stone.epoch, *written, told, keys.bus)


def beat(keys: Keys, node: str, boot: str, started: int, card: bytes, seconds: int, *, instead_of: str) -> Command:
    """Show our card: 1 when it stood, 0 when it had to be put up anew, or the card of an earlier process with our id.

    `instead_of` is the boot of such a process that is gone.
    """
    return ("EVAL", _BEAT, 1, keys.node(node), boot, started, card, seconds, instead_of)


def leave(keys: Keys, node: str, boot: str) -> Command:
    """Take our card down: 1 when it was ours."""
    return ("EVAL", _LEAVE, 1, keys.node(node), boot)
