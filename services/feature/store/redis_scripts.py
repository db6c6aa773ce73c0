"""What runs inside Redis, all of it or nothing. The keys of a call belong to one partition."""

from __future__ import annotations

import hashlib
from typing import Final

COMMIT: Final = """
local held = redis.call('HGET', KEYS[1], ARGV[1]) or '0'
if held == ARGV[3] then return {} end
if held ~= ARGV[2] then return {-1} end
local changed = {}
for i = 2, #KEYS do
  if redis.call('GETRANGE', KEYS[i], 0, 7) ~= ARGV[2 * i] then changed[#changed + 1] = i - 2 end
end
if #changed > 0 then return changed end
for i = 2, #KEYS do
  if ARGV[2 * i + 1] ~= '' then redis.call('SET', KEYS[i], ARGV[2 * i + 1])
  else redis.call('DEL', KEYS[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return {}
"""
"""Moves a log on in a partition, with states. KEYS: the partition's positions, states. ARGV: log,
its position before, its position then; per state the stamp it was read with, and its new value;
nothing removes it.
Returns {} when it is done (or was: an answer may have been lost), {-1} when the position is another
one, else the indices of states that have another stamp."""

REPLACE: Final = """
local changed = {}
for i = 1, #KEYS do
  local held = redis.call('GETRANGE', KEYS[i], 0, 7)
  if held == string.sub(ARGV[2 * i], 1, 8) then return {} end
  if held ~= ARGV[2 * i - 1] then changed[#changed + 1] = i - 1 end
end
if #changed > 0 then return changed end
for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[2 * i]) end
return {}
"""
"""Replaces values, none when one was changed meanwhile. ARGV: per key the stamp it was read with,
and its new value. Returns the indices of those that were changed."""

CLAIM: Final = """
local held = {}
for i = 1, #KEYS do
  if redis.call('SET', KEYS[i], ARGV[i + 1], 'NX', 'EX', ARGV[1]) then held[i] = ARGV[i + 1]
  else held[i] = redis.call('GET', KEYS[i]) end
end
return held
"""
"""Claims keys that nobody holds. ARGV: seconds they are held; per key who claims it. Returns who
holds each."""

ADD_CHANGES: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
end
for i = 3, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('INCRBY', KEYS[1], #ARGV - 2)
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[2]), -1)
return 0
"""
"""Appends to the list of changes. KEYS: the next sequence, the list. ARGV: the sequence to begin
with in a new store, how many to keep, changes."""

CHANGES: Final = """
local following = tonumber(redis.call('GET', KEYS[1]) or '0')
local first = following - redis.call('LLEN', KEYS[2])
local from = math.max(tonumber(ARGV[1]), first)
local index = from - first
local found = redis.call('LRANGE', KEYS[2], index, index + tonumber(ARGV[2]) - 1)
return {string.format('%.0f', from), found}
"""
"""Reads the list of changes. ARGV: sequence to begin with, how many. Returns the sequence of the
first one found, and the changes."""

READ_AT: Final = """
local partitions = tonumber(ARGV[2])
local positions = {}
for i = 1, partitions do positions[i] = redis.call('HGET', KEYS[i], ARGV[1]) or '0' end
return {positions, redis.call('MGET', unpack(KEYS, partitions + 1))}
"""
"""Reads values and how far a log is applied there. KEYS: positions of all partitions of the keys
that follow, those keys. ARGV: log, how many partitions. Returns the positions, and the values."""

READ_WITH_LOG: Final = """
return {redis.call('HMGET', KEYS[1], 'position', 'moving'), redis.call('GET', KEYS[2]),
        #KEYS > 2 and redis.call('MGET', unpack(KEYS, 3)) or {}}
"""
"""Reads values and where a log is, on a server that holds all partitions. KEYS: the log, the
store's version, keys of values. Returns {position, where it is moving}, the version, and the
values."""

SCRIPTS: Final = {
    hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(): text
    for text in (COMMIT, REPLACE, CLAIM, ADD_CHANGES, CHANGES, READ_AT, READ_WITH_LOG)
}
"""Every script by the name that EVALSHA knows it by."""

_NAMES = {text: name for name, text in SCRIPTS.items()}


def name_of(script: str) -> str:
    """Name of a script of this module."""
    return _NAMES[script]
