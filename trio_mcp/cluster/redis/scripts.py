"""The writes that compare first: each is one Lua script, so that no other write comes between.

The operations in `store/port.py` say what they decide; `store/shared_memory.py` decides the same in Python. A script that announces a
change publishes it on the channel and appends it to the stream itself.
"""

from __future__ import annotations

from typing import Final

from trio_mcp.cluster.store.port import MAX_CHANGES

__all__ = ["BEAT", "CLAIM", "END", "LEAVE", "OWN", "PUT_BACK"]

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

_READ_TOMBSTONE = """
local raw_stone = redis.pcall('GET', KEYS[2])
local buried, stone = pcall(cjson.decode, raw_stone)
buried = buried and type(stone) == 'table' and type(stone.boot) == 'string' and type(stone.epoch) == 'number'
"""

# The write stands even when the announcement is refused: other nodes then learn of it when they check their records.
_TELL = (
    """
redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', '"""
    + str(MAX_CHANGES)
    + """', '*', 'm', ARGV[5])
redis.pcall('PUBLISH', ARGV[6], ARGV[5])
return 1
"""
)

OWN: Final = (
    # While our record stands there is no tombstone of this life or a later one: `END` puts it in the record's place.
    # The record of an earlier life comes from a Redis that lost ours: the node that wrote it there may still have a copy.
    _READ_RECORD
    + """
local epoch = tonumber(ARGV[2])
local earlier = known and held.epoch < epoch
if known then
  if held.epoch > epoch or held.epoch == epoch and held.boot ~= ARGV[1] then return raw end
else
"""
    + _READ_TOMBSTONE
    + """
  if buried and (stone.epoch > epoch or stone.epoch == epoch and stone.boot == ARGV[1]) then return raw_stone end
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
if not earlier then return 1 end
"""
    + _TELL
)

PUT_BACK: Final = (
    _READ_RECORD
    + _READ_TOMBSTONE
    + """
local epoch = tonumber(ARGV[2])
if known then return raw end
if buried and (stone.epoch > epoch or stone.epoch == epoch and stone.boot == ARGV[1]) then return raw_stone end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return 1
"""
)

CLAIM: Final = (
    _READ_RECORD
    + """
if not known or held.boot ~= ARGV[1] or held.epoch ~= tonumber(ARGV[2]) then return raw or 0 end
if ARGV[7] == '1' and held.released ~= true then return raw end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
"""
    + _TELL
)

END: Final = (
    _READ_RECORD
    + _READ_TOMBSTONE
    + """
if known and (held.boot ~= ARGV[1] or held.epoch ~= tonumber(ARGV[2])) then return 0 end
redis.call('DEL', KEYS[1])
if not buried or stone.epoch <= tonumber(ARGV[2]) then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4]) end
if ARGV[5] == '' then return 1 end
"""
    + _TELL
)

BEAT: Final = (
    _READ
    + """
known = known and type(held.started) == 'number'
if known and held.boot ~= ARGV[1] and held.boot ~= ARGV[5] and held.started <= tonumber(ARGV[2]) then return raw end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return (known and held.boot == ARGV[1]) and 1 or 0
"""
)

LEAVE: Final = (
    _READ
    + """
if known and held.boot == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)
