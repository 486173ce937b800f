"""The writes that compare: each is one Lua script, so that of two nodes that want the same thing one gets it.

Whose a record is: the `boot` and `epoch` in it; whose a card is, the `boot`. A value that is neither is nobody's.
A tombstone of a later life stands: one with a higher `epoch`.
"""

from __future__ import annotations

import msgspec

from trio_mcp.cluster.record import SESSION_SECONDS, TOMBSTONE_SECONDS, Keys, Record, Stone
from trio_mcp.cluster.redis.link import Command

__all__ = ["beat", "claim", "end", "leave", "open_record", "own"]

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

_OWN = (
    # While our record stands there is no tombstone of this life or a later one: `_END` puts it in the record's place.
    _READ_RECORD
    + """
local epoch = tonumber(ARGV[2])
if known then
  if held.boot ~= ARGV[1] or held.epoch ~= epoch then return raw end
else
"""
    + _READ_STONE
    + """
  if buried and (stone.epoch > epoch or stone.epoch == epoch and stone.boot == ARGV[1]) then return raw_stone end
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return 1
"""
)

_CLAIM = (
    _READ_RECORD
    + """
if not known or held.boot ~= ARGV[1] or held.epoch ~= tonumber(ARGV[2]) then return raw or 0 end
if ARGV[5] == '1' and held.released ~= true then return raw end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return 1
"""
)

_END = (
    _READ_RECORD
    + _READ_STONE
    + """
if known and (held.boot ~= ARGV[1] or held.epoch ~= tonumber(ARGV[2])) then return 0 end
redis.call('DEL', KEYS[1])
if not buried or stone.epoch <= tonumber(ARGV[2]) then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4]) end
return 1
"""
)

_BEAT = (
    _READ
    + """
known = known and type(held.started) == 'number'
if known and held.boot ~= ARGV[1] and held.started > tonumber(ARGV[2]) then return raw end
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
    """Write our record unless it is another's or the session has ended, in this life or a later one: 1, or what says so."""
    where = keys.session(session_id), keys.closed(session_id)
    return ("EVAL", _OWN, 2, *where, record.boot, record.epoch, msgspec.json.encode(record), SESSION_SECONDS)


def claim(keys: Keys, session_id: str, seen: Record, record: Record) -> Command:
    """Take over the record that was seen: 1, or what is there instead, 0 for nothing. One seen released must still be."""
    where, released = keys.session(session_id), int(seen.released)
    return ("EVAL", _CLAIM, 1, where, seen.boot, seen.epoch, msgspec.json.encode(record), SESSION_SECONDS, released)


def end(keys: Keys, session_id: str, stone: Stone) -> Command:
    """Put the tombstone in the record's place, for an hour: 1, or 0 and nothing is changed when the record is of another life."""
    where = keys.session(session_id), keys.closed(session_id)
    return ("EVAL", _END, 2, *where, stone.boot, stone.epoch, msgspec.json.encode(stone), TOMBSTONE_SECONDS)


def beat(keys: Keys, node: str, boot: str, started: int, card: bytes, seconds: int) -> Command:
    """Show our card: 1 when it stood, 0 when it had to be put up anew, or the card of a later process with our id."""
    return ("EVAL", _BEAT, 1, keys.node(node), boot, started, card, seconds)


def leave(keys: Keys, node: str, boot: str) -> Command:
    """Take our card down: 1 when it was ours."""
    return ("EVAL", _LEAVE, 1, keys.node(node), boot)
