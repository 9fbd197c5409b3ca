"""What Redis is told, in Lua: one script for each call that reads, decides and writes.

Why: a script is Redis's transaction. The server runs one at a time, so what a script checks holds while it writes, and
its effects reach the disk and the replicas together.

Laws kept here: 1, 2, 4. Lua does not roll back, so in every script the checks come first and the writes last; and a
script that may write is refused by the server before its first line when there is no memory left for it (the `#!lua`
line asks for that).

Every script has `KEYS[1]`, the store's prefix, and begins its arguments with the time ("" for the server's) and whether
this call was sent before and its answer lost ("1", "0"; when it writes, with its session after it). If it was, what it
did the first time is found by its nonce: in the row for a creation, in the records for appends and posts, under the
nonce for a claim.

Keys, all of them under the prefix and so in one slot of a cluster:

    run:ID        hash: the row                         runs, by:FIELD:VALUE   run ids by number, newest last
    log:ID        stream: the records, ids SEQ-0        lanes                  lanes with live runs by their first due
    control:ID    stream: its control records           lane:NAME              live run ids by due (+inf: never)
    blobs:ID      hash: digest to data                  running                runs at work by lane
    keys          idempotency key to run id, digest     ended                  run ids by when they ended
    pruned        ids of runs that were pruned          bucket:GATE, claim:NONCE, session:NAME, cache:KEY, workers,
    schema        its version                           beats, number, reservoir:NAME, drawn:HOLDER
"""

from __future__ import annotations

import hashlib
from typing import Final

from .redis_reservoirs import DRAW
from .redis_schema import LOOK, MIGRATIONS, VERSION, migrating
from .redis_session import SESSION
from .redis_turns import CLAIM, LANES, NEXT_DUE, TURNS, UNPIN

PRELUDE = """
local P, again = KEYS[1], string.sub(ARGV[2], 1, 1) == '1'
local function text(n) return string.format('%.17g', n) end
local function hint(topic) redis.call('SPUBLISH', P .. 'hint:' .. topic, '') end
local function packed(id)
  return cmsgpack.pack({id, unpack(redis.call('HMGET', P .. 'run:' .. id, 'lane', 'state', 'seq', 'control', 'created',
    'updated', 'due', 'owner', 'fence', 'waiting', 'number', 'fixed'))})
end
local function gone(id)
  return {redis.call('HEXISTS', P .. 'pruned', id) == 1 and 'pruned' or 'missing'}
end
local function fields(lane)
  return {string.match(lane, '^([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)\\n([^\\n]*)$')}
end
local LIVE = {queued = true, running = true, waiting = true}
"""

CLOCK = """
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = string.format('%d.%06d', t[1], t[2])
end
"""

CHANGE = """
local moved = {}
local function count(lane, n) moved[lane] = (moved[lane] or 0) + n end
local function leave(lane, id)
  redis.call('ZREM', P .. 'lane:' .. lane, id)
  count(lane, 0)
end
local function stand(lane, id, due)
  redis.call('ZADD', P .. 'lane:' .. lane, due == '' and '+inf' or due, id)
  count(lane, 0)
end
local function settle()
  for lane, n in pairs(moved) do
    if n ~= 0 and redis.call('HINCRBY', P .. 'running', lane, n) <= 0 then redis.call('HDEL', P .. 'running', lane) end
    local head = redis.call('ZRANGE', P .. 'lane:' .. lane, 0, 0, 'WITHSCORES')
    if head[1] then redis.call('ZADD', P .. 'lanes', head[2], lane) else redis.call('ZREM', P .. 'lanes', lane) end
  end
end
local function become(id, lane, number, old, new)
  if old == new then return end
  redis.call('ZREM', P .. 'by:state:' .. old, id)
  redis.call('ZADD', P .. 'by:state:' .. new, number, id)
  if old == 'running' then count(lane, -1) end
  if new == 'running' then count(lane, 1) end
end
local function write(stream, seq, kind, body, nonce)
  redis.call('XADD', stream, seq .. '-0', 't', now, 'k', kind, 'b', body, 'n', nonce)
end
local function written(stream, nonce)
  for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 2000)) do
    if entry[2][8] == nonce then return true end
  end
  return false
end
"""

CREATE = """
local id, lane, due, has_key, key, digest, fixed, nonce, workflow, tenant = unpack(ARGV, 3, 12)
local tags = tonumber(ARGV[13])
local row = P .. 'run:' .. id
if again and redis.call('HGET', row, 'born') == nonce then return {'ok', redis.call('HGET', row, 'created')} end
if has_key == '1' then
  local known = redis.call('HGET', P .. 'keys', key)
  if known then
    local held = cmsgpack.unpack(known)
    if held[2] ~= digest then return {'conflict', held[1]} end
    if redis.call('EXISTS', P .. 'run:' .. held[1]) == 0 then return {'pruned', held[1]} end
    return {'known', packed(held[1])}
  end
end
if redis.call('EXISTS', row) == 1 or redis.call('HEXISTS', P .. 'pruned', id) == 1 then return {'taken'} end
if due == '' then due = now end
local number = redis.call('INCR', P .. 'number')
if number == 1 then redis.call('SET', P .. 'schema', SCHEMA) end
local seq = 0
for n = 14 + tags, #ARGV, 2 do
  seq = seq + 1
  write(P .. 'log:' .. id, seq, ARGV[n], ARGV[n + 1], nonce)
end
redis.call('HSET', row, 'lane', lane, 'state', 'queued', 'seq', seq, 'control', 0, 'created', now, 'updated', now,
  'due', due, 'owner', '', 'fence', 0, 'waiting', '', 'number', number, 'fixed', fixed, 'born', nonce)
if has_key == '1' then redis.call('HSET', P .. 'keys', key, cmsgpack.pack({id, digest})) end
stand(lane, id, due)
redis.call('ZADD', P .. 'runs', number, id)
redis.call('ZADD', P .. 'by:state:queued', number, id)
redis.call('ZADD', P .. 'by:workflow:' .. workflow, number, id)
redis.call('ZADD', P .. 'by:tenant:' .. tenant, number, id)
for n = 14, 13 + tags do redis.call('ZADD', P .. 'by:tag:' .. ARGV[n], number, id) end
settle()
hint('ready')
hint('log:' .. id)
return {'ok', now}
"""

APPEND = """
local heads, bodies, nonce, row_wanted = cmsgpack.unpack(ARGV[3]), ARGV[4], ARGV[5], ARGV[6] == '1'
local function append(id, owner, fence, seen, at, records, to, state, due, waiting, parked_at)
  if owner == '' then return 'fenced' end
  local row, log = P .. 'run:' .. id, P .. 'log:' .. id
  local was = redis.call('HMGET', row, 'state', 'owner', 'fence', 'seq', 'control')
  if not was[1] then return gone(id)[1] end
  if again and (redis.call('HGET', row, 'nonce') == nonce or written(log, nonce)) then return nil end
  if was[1] ~= 'running' or was[2] ~= owner or tonumber(was[3]) ~= fence then return 'fenced' end
  local seq, control = tonumber(was[4]), tonumber(was[5])
  if control > seen then return 'control', control end
  for n = 1, #records, 2 do
    seq = seq + 1
    write(log, seq, records[n], string.sub(bodies, at, at + records[n + 1] - 1), nonce)
    at = at + records[n + 1]
  end
  hint('log:' .. id)
  if not to then
    redis.call('HSET', row, 'seq', seq, 'updated', now)
    return nil
  end
  if to == 'park' and control > parked_at or to == 'hand over' then due = now end
  redis.call('HSET', row, 'seq', seq, 'updated', now, 'state', state, 'due', due, 'owner', '', 'nonce', nonce)
  if to == 'park' then redis.call('HSET', row, 'waiting', waiting) end
  local place = redis.call('HMGET', row, 'lane', 'number')
  become(id, place[1], place[2], 'running', state)
  if to == 'finish' then
    leave(place[1], id)
    redis.call('ZADD', P .. 'ended', now, id)
    hint('end:' .. id)
  else
    stand(place[1], id, due)
  end
  return nil
end
local refused = {}
for n, head in ipairs(heads) do
  local why, seq = append(unpack(head))
  if why then refused[#refused + 1] = {n, why, seq or 0} end
end
settle()
if next(moved) then hint('ready') end
return {'ok', refused, row_wanted and #refused == 0 and packed(heads[1][1]) or ''}
"""

MAY_APPEND = """
local out = {}
for n = 3, #ARGV, 4 do
  local was = redis.call('HMGET', P .. 'run:' .. ARGV[n], 'state', 'owner', 'fence', 'control')
  local held = was[1] == 'running' and was[2] == ARGV[n + 1] and was[3] == ARGV[n + 2]
  out[#out + 1] = held and tonumber(was[4]) <= tonumber(ARGV[n + 3]) and '1' or '0'
end
return table.concat(out)
"""

POST = """
local id, nonce = ARGV[3], ARGV[4]
local row = P .. 'run:' .. id
local was = redis.call('HMGET', row, 'state', 'seq', 'lane')
if not was[1] then return gone(id) end
if again and written(P .. 'control:' .. id, nonce) then return {'ok', packed(id)} end
if not LIVE[was[1]] then return {'ended', was[1]} end
local seq = tonumber(was[2])
for n = 5, #ARGV, 2 do
  seq = seq + 1
  write(P .. 'log:' .. id, seq, ARGV[n], ARGV[n + 1], nonce)
  write(P .. 'control:' .. id, seq, ARGV[n], ARGV[n + 1], nonce)
end
redis.call('HSET', row, 'seq', seq, 'control', seq, 'updated', now)
if was[1] == 'waiting' then
  redis.call('HSET', row, 'due', now)
  stand(was[3], id, now)
  settle()
end
hint('ready')
hint('log:' .. id)
hint('control:' .. id)
return {'ok', packed(id)}
"""

RECORDS = """
local function records(stream, after, left)
  local at, heads, bodies, weight = after .. '-0', {}, {}, 0
  while left > 0 and weight < 4194304 do
    local chunk = math.min(left, 100)
    local found = redis.call('XRANGE', P .. stream, '(' .. at, '+', 'COUNT', chunk)
    for _, entry in ipairs(found) do
      local got = entry[2]
      at = entry[1]
      heads[#heads + 1] = {tonumber(string.sub(at, 1, -3)), tonumber(got[2]), got[4], #got[6]}
      bodies[#bodies + 1] = got[6]
      weight = weight + #got[6]
    end
    if #found < chunk then break end
    left = left - chunk
  end
  return cmsgpack.pack(heads), table.concat(bodies)
end
"""

READ = """
if redis.call('EXISTS', P .. 'run:' .. ARGV[3]) == 0 then return gone(ARGV[3]) end
return {'ok', records((ARGV[6] == '1' and 'control:' or 'log:') .. ARGV[3], ARGV[4], tonumber(ARGV[5]))}
"""

RUN = """
if redis.call('EXISTS', P .. 'run:' .. ARGV[3]) == 0 then return gone(ARGV[3]) end
return {'ok', packed(ARGV[3])}
"""

END = """
local was = redis.call('HMGET', P .. 'run:' .. ARGV[3], 'state', 'seq')
if not was[1] then return gone(ARGV[3]) end
if LIVE[was[1]] then return {'ok', packed(ARGV[3])} end
return {'ok', packed(ARGV[3]), records('log:' .. ARGV[3], was[2] - 1, 1)}
"""

RUNS = """
local top, limit, workflow, state, tenant, tag, after = unpack(ARGV, 3, 9)
local index, size, tests = P .. 'runs', redis.call('ZCARD', P .. 'runs'), {}
for _, by in ipairs({{'workflow', workflow}, {'state', state}, {'tenant', tenant}, {'tag', tag}}) do
  if by[2] ~= '' then
    local key = P .. 'by:' .. by[1] .. ':' .. string.sub(by[2], 2)
    local count = redis.call('ZCARD', key)
    tests[#tests + 1] = key
    if count < size then index, size = key, count end
  end
end
local found, scanned, chunk = {}, 0, 100
while scanned < 2000 do
  local page = redis.call('ZREVRANGEBYSCORE', index, top, '-inf', 'WITHSCORES', 'LIMIT', 0, chunk)
  for n = 1, #page, 2 do
    local id, fits, created = page[n], true, tonumber(redis.call('HGET', P .. 'run:' .. page[n], 'created'))
    for _, key in ipairs(tests) do
      if key ~= index and not redis.call('ZSCORE', key, id) then fits = false end
    end
    if after ~= '' and created <= tonumber(after) then fits = false end
    if after ~= '' and created <= tonumber(after) - 3600 then return {'ok', '', found} end
    top = '(' .. page[n + 1]
    if fits then
      found[#found + 1] = packed(id)
      if #found == tonumber(limit) then return {'ok', top, found} end
    end
  end
  if #page < 2 * chunk then return {'ok', '', found} end
  scanned = scanned + chunk
end
return {'ok', top, found}
"""

RENEW = """
local due, held = text(tonumber(now) + tonumber(ARGV[3])), {}
for n = 4, #ARGV, 3 do
  local id, row = ARGV[n], P .. 'run:' .. ARGV[n]
  local was = redis.call('HMGET', row, 'state', 'owner', 'fence', 'control', 'lane')
  if was[1] == 'running' and was[2] == ARGV[n + 1] and was[3] == ARGV[n + 2] then
    redis.call('HSET', row, 'due', due)
    stand(was[5], id, due)
    held[#held + 1] = id
    held[#held + 1] = was[4]
  end
end
settle()
return {'ok', held}
"""

PRUNE = """
local ended = redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', '(' .. ARGV[3], 'LIMIT', 0, ARGV[5])
local beyond = ARGV[4] == '' and 0 or redis.call('ZCARD', P .. 'ended') - tonumber(ARGV[4])
beyond = math.min(beyond, tonumber(ARGV[5]))
if beyond > #ended then ended = redis.call('ZRANGE', P .. 'ended', 0, beyond - 1) end
for _, id in ipairs(ended) do
  local row = P .. 'run:' .. id
  local was = redis.call('HMGET', row, 'state', 'fixed')
  local fixed = cjson.decode(was[2])
  redis.call('UNLINK', row, P .. 'log:' .. id, P .. 'control:' .. id, P .. 'blobs:' .. id)
  redis.call('HSET', P .. 'pruned', id, '')
  redis.call('ZREM', P .. 'ended', id)
  redis.call('ZREM', P .. 'runs', id)
  redis.call('ZREM', P .. 'by:state:' .. was[1], id)
  redis.call('ZREM', P .. 'by:workflow:' .. fixed[3], id)
  redis.call('ZREM', P .. 'by:tenant:' .. fixed[4], id)
  for _, tag in ipairs(fixed[2]) do redis.call('ZREM', P .. 'by:tag:' .. tag, id) end
end
return {'ok', #ended}
"""

BEAT = """
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'beats', '-inf', text(tonumber(now) - 3600))) do
  redis.call('HDEL', P .. 'workers', name)
  redis.call('ZREM', P .. 'beats', name)
end
redis.call('HSET', P .. 'workers', ARGV[3], ARGV[4])
redis.call('ZADD', P .. 'beats', now, ARGV[3])
return {'ok'}
"""

FORGET = """
redis.call('HDEL', P .. 'workers', ARGV[3])
redis.call('ZREM', P .. 'beats', ARGV[3])
return {'ok'}
"""

WORKERS = """
local out = {}
local young = '(' .. text(tonumber(now) - 3600)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'beats', young, '+inf')) do
  out[#out + 1] = {redis.call('HGET', P .. 'workers', name), redis.call('ZSCORE', P .. 'beats', name)}
end
return {'ok', out}
"""

NOW = "return {'ok', now}"


class Script:
    """A script and the name that the server knows it by.

    Args:
        parts: Lua, in order.
        flags: what the server may assume of it: `no-writes` (runs also when memory is full), `allow-oom`.
    """

    def __init__(self, *parts: str, flags: str = "") -> None:
        self.writes: Final = flags != "no-writes"
        head = f"#!lua{f' flags={flags}' if flags else ''}\n{PRELUDE}{CLOCK + SESSION if self.writes else ''}"
        self.text: Final = (head + "".join(parts)).encode()
        self.sha: Final = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


look = Script(LOOK, flags="no-writes")
migrate = Script(CHANGE, migrating(MIGRATIONS))
create = Script(CHANGE, f"local SCHEMA = '{VERSION}'", CREATE)
append = Script(CHANGE, APPEND)
post = Script(CHANGE, POST)
claim = Script(CHANGE, RECORDS, TURNS, CLAIM)
renew = Script(CHANGE, RENEW)
unpin = Script(CHANGE, UNPIN)
prune = Script(PRUNE, flags="allow-oom")
draw = Script(DRAW)
beat = Script(BEAT)
forget = Script(FORGET, flags="allow-oom")
may_append = Script(MAY_APPEND, flags="no-writes")
read = Script(RECORDS, READ, flags="no-writes")
run = Script(RUN, flags="no-writes")
end = Script(RECORDS, END, flags="no-writes")
runs = Script(RUNS, flags="no-writes")
next_due = Script(CLOCK, TURNS, NEXT_DUE, flags="no-writes")
lanes = Script(LANES, flags="no-writes")
workers = Script(CLOCK, WORKERS, flags="no-writes")
now = Script(CLOCK, NOW, flags="no-writes")

ALL = (
    look,
    migrate,
    create,
    append,
    post,
    claim,
    renew,
    unpin,
    prune,
    draw,
    beat,
    forget,
    may_append,
    read,
    run,
    end,
    runs,
    next_due,
    lanes,
    workers,
    now,
)
"""All of them, to be loaded on connecting."""
