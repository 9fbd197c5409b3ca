"""Whose turn it is, as Redis decides it: the rule of `turns.py` said in Lua, and what else goes by lanes.

Why: workers on many hosts claim at once, so the choice and the lease must be one act. The transports' suite holds this
telling against the other one. A claim looks at the lanes that have due runs, not at all that there are; how many runs
are at work is counted only where turns or limits depend on it. Short logs come along with what is claimed: a run that
begins need not be read.

A lane's name is its five parts, parted by line ends.
"""

from __future__ import annotations

TURNS = """
local build, terms = ARGV[3], cmsgpack.unpack(ARGV[4])
local lines, at_work, through, buckets = {}, {}, {}, {}
local function line_of(name)
  local lane = fields(name)
  if not terms[lane[1]] or lane[2] ~= '' and lane[2] ~= build then return nil end
  return {name = name, lane = lane, terms = terms[lane[1]], tenant = lane[4], priority = tonumber(lane[3]),
    gate = lane[1] .. '\\n' .. lane[5]}
end
local function look()
  local running = redis.call('HGETALL', P .. 'running')
  for n = 1, #running, 2 do
    local lane, count = fields(running[n]), tonumber(running[n + 1])
    local gate = lane[1] .. '\\n' .. lane[5]
    at_work[lane[4]] = (at_work[lane[4]] or 0) + count
    through[gate] = (through[gate] or 0) + count
  end
end
local function bucket(line)
  local got, limits = buckets[line.gate], line.terms
  if not got then
    local full = math.max(1, limits.starts)
    got = {level = full, full = full, key = P .. 'bucket:' .. line.gate}
    local kept = redis.call('GET', got.key)
    if kept then
      local level, at = string.match(kept, '^(%S+) (%S+)$')
      level = tonumber(level) + math.max(0, tonumber(now) - tonumber(at)) * limits.starts / limits.per_s
      got.level = math.min(full, level)
    end
    buckets[line.gate] = got
  end
  return got
end
local function wait(line, id)
  local got = redis.call('HMGET', P .. 'run:' .. id, 'state', 'fence')
  local state, fence, limits = got[1], tonumber(got[2]), line.terms
  if limits.concurrency and state ~= 'running' and (through[line.gate] or 0) >= limits.concurrency then
    return math.huge, state, fence
  end
  if limits.starts and fence == 0 then
    local starts = bucket(line)
    if starts.level < 1 - 1e-9 then return (1 - starts.level) * limits.per_s / limits.starts, state, fence end
  end
  return 0, state, fence
end
"""

CLAIM = """
local SHORT, LIGHT = 4, 65536
local limit, lease_s, owner, nonce = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local claims, weight = {}, 0
local function claimed(id)
  local heads, bodies = '', ''
  if weight < LIGHT and tonumber(redis.call('HGET', P .. 'run:' .. id, 'seq')) <= SHORT then
    heads, bodies = records('log:' .. id, '0', SHORT)
    weight = weight + #bodies
  end
  claims[#claims + 1] = {packed(id), heads, bodies}
end
if again then
  local known = redis.call('SMEMBERS', P .. 'claim:' .. nonce)
  table.sort(known, function(a, b) return tonumber(string.match(a, '^%d+')) < tonumber(string.match(b, '^%d+')) end)
  for _, one in ipairs(known) do
    local n, id = string.match(one, '^(%d+) (.*)$')
    if redis.call('HGET', P .. 'run:' .. id, 'owner') == owner .. n then claimed(id) end
  end
  if #known > 0 then return {'ok', claims} end
end
local groups, priorities, tenant, fair = {}, {}, nil, false
local due_lanes = redis.call('ZRANGEBYSCORE', P .. 'lanes', '-inf', now, 'WITHSCORES')
for n = 1, #due_lanes, 2 do
  local line = line_of(due_lanes[n])
  if line then
    line.n, line.due = n, tonumber(due_lanes[n + 1])
    if not groups[line.priority] then
      groups[line.priority] = {}
      priorities[#priorities + 1] = line.priority
    end
    table.insert(groups[line.priority], line)
    fair = fair or line.terms.concurrency or tenant and tenant ~= line.tenant
    tenant = line.tenant
  end
end
if fair then look() end
table.sort(priorities, function(a, b) return a > b end)
local function earlier(a, b)
  if a.work ~= b.work then return a.work < b.work end
  if a.due ~= b.due then return a.due < b.due end
  return a.n < b.n
end
local function push(heap, line)
  line.work = at_work[line.tenant] or 0
  local n = #heap + 1
  while n > 1 and earlier(line, heap[math.floor(n / 2)]) do
    heap[n] = heap[math.floor(n / 2)]
    n = math.floor(n / 2)
  end
  heap[n] = line
end
local function pop(heap)
  local top, last, n = heap[1], table.remove(heap), 1
  if #heap == 0 then return top end
  while 2 * n <= #heap do
    local child = 2 * n
    if child < #heap and earlier(heap[child + 1], heap[child]) then child = child + 1 end
    if not earlier(heap[child], last) then break end
    heap[n] = heap[child]
    n = child
  end
  heap[n] = last
  return top
end
local taken = {}
for _, priority in ipairs(priorities) do
  local heap = {}
  for _, line in ipairs(groups[priority]) do push(heap, line) end
  while #heap > 0 and #taken < limit do
    local line = pop(heap)
    if line.work == (at_work[line.tenant] or 0) then
      if not line.heads then
        local key = P .. 'lane:' .. line.name
        line.heads, line.at = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit), 1
      end
      local id = line.heads[line.at]
      local delay, state, fence = wait(line, id)
      if delay == 0 then
        taken[#taken + 1] = {id = id, line = line, state = state, fence = fence}
        if state ~= 'running' then
          at_work[line.tenant] = (at_work[line.tenant] or 0) + 1
          through[line.gate] = (through[line.gate] or 0) + 1
        end
        if fence == 0 and line.terms.starts then bucket(line).level = bucket(line).level - 1 end
      end
      line.at = line.at + 2
      line.due = tonumber(line.heads[line.at + 1])
    end
    if line.due then push(heap, line) end
  end
end
local due = text(tonumber(now) + lease_s)
for n, one in ipairs(taken) do
  local row, lane, name = P .. 'run:' .. one.id, one.line.lane, one.line.name
  redis.call('SADD', P .. 'claim:' .. nonce, n .. ' ' .. one.id)
  redis.call('HSET', row, 'state', 'running', 'owner', owner .. n, 'fence', one.fence + 1, 'due', due, 'waiting', '',
    'updated', now)
  if one.line.terms.pinned and lane[2] == '' and build ~= '' then
    leave(name, one.id)
    if one.state == 'running' then count(name, -1) end
    name = table.concat({lane[1], build, lane[3], lane[4], lane[5]}, '\\n')
    redis.call('HSET', row, 'lane', name)
    if one.state == 'running' then count(name, 1) end
  end
  stand(name, one.id, due)
  become(one.id, name, redis.call('HGET', row, 'number'), one.state, 'running')
  claimed(one.id)
end
settle()
if #taken > 0 then redis.call('EXPIRE', P .. 'claim:' .. nonce, 300) end
for _, kept in pairs(buckets) do
  if kept.level < kept.full then
    redis.call('SET', kept.key, text(kept.level) .. ' ' .. now, 'EX', 86400)
  end
end
return {'ok', claims}
"""

NEXT_DUE = """
local soonest, first, looked = math.huge, 0, false
local function answer() return {'ok', soonest < math.huge and text(soonest) or ''} end
while true do
  local names = redis.call('ZRANGE', P .. 'lanes', first, first + 99, 'WITHSCORES')
  for m = 1, #names, 2 do
    if tonumber(names[m + 1]) >= soonest then return answer() end
    local line = line_of(names[m])
    if line and line.terms.concurrency and not looked then
      look()
      looked = true
    end
    local heads = line and redis.call('ZRANGE', P .. 'lane:' .. line.name, 0, 63, 'WITHSCORES') or {}
    for n = 1, #heads, 2 do
      local due = tonumber(heads[n + 1])
      if due >= soonest then break end
      local delay = wait(line, heads[n])
      if delay > 0 then due = math.max(due, tonumber(now) + delay) end
      if due < soonest then soonest = due end
    end
  end
  if #names < 200 then break end
  first = first + 100
end
return answer()
"""

LANES = """
local out = {}
for _, name in ipairs(redis.call('ZRANGE', P .. 'lanes', 0, -1)) do
  out[#out + 1] = {name, redis.call('ZCARD', P .. 'lane:' .. name), redis.call('HGET', P .. 'running', name) or '0'}
end
return {'ok', out}
"""

UNPIN = """
local unpinned = 0
for _, name in ipairs(redis.call('ZRANGE', P .. 'lanes', 0, -1)) do
  local lane = fields(name)
  if lane[2] == ARGV[3] and lane[2] ~= '' then
    local free = table.concat({lane[1], '', lane[3], lane[4], lane[5]}, '\\n')
    local runs = redis.call('ZRANGE', P .. 'lane:' .. name, 0, -1, 'WITHSCORES')
    for n = 1, #runs, 2 do
      leave(name, runs[n])
      stand(free, runs[n], runs[n + 1])
      redis.call('HSET', P .. 'run:' .. runs[n], 'lane', free)
      unpinned = unpinned + 1
    end
    local running = redis.call('HGET', P .. 'running', name)
    if running then
      redis.call('HDEL', P .. 'running', name)
      count(free, tonumber(running))
    end
  end
end
settle()
hint('ready')
return {'ok', unpinned}
"""
