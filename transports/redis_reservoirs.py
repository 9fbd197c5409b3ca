"""What workers share of a provider's limits, as Redis decides it: the rule of `reservoirs.py` said in Lua.

Why: workers on many hosts draw at once, so to read, decide and write must be one act. The transports' suite holds this
telling against the other one. A reservoir is one packed value; the answer to each holder's last draw is kept for a
minute, so that a draw whose answer was lost is not done twice.
"""

from __future__ import annotations

from .reservoirs import BATCH_S, FORGET_S, FREED_S, GRAINS, LATELY_S, SOONEST_S, TELL_S, TINY

DRAW = f"""
local holder, lease_s, nonce = ARGV[3], tonumber(ARGV[4]), ARGV[6]
local GRAINS, BATCH_S, FREED_S, SOONEST_S = {GRAINS}, {BATCH_S}, {FREED_S}, {SOONEST_S}
local FORGET_S, LATELY_S, TELL_S, TINY = {FORGET_S}, {LATELY_S}, {TELL_S}, {TINY}
local answered = P .. 'drawn:' .. holder
if again then
  local last = redis.call('GET', answered)
  if last then
    last = cmsgpack.unpack(last)
    if last[1] == nonce then return {{'ok', last[2]}} end
  end
end
local R, at
local function held(name)
  local sum = 0
  for _, row in pairs(R.holders) do sum = sum + (row.held[name] or 0) end
  return sum
end
local function spent(gauge)
  local sum = 0
  for _, entry in ipairs(gauge.ledger) do sum = sum + entry[2] end
  return sum
end
local function grain(gauge, when)
  local part = gauge.window_s / GRAINS
  return part == math.huge and 0 or math.ceil(when / part) * part
end
local function enter(gauge, amount, when)
  if gauge.window_s == 0 or amount <= 0 then return end
  local slot, last = grain(gauge, when), gauge.ledger[#gauge.ledger]
  if not last or last[1] < slot then
    last = {{slot, 0}}
    gauge.ledger[#gauge.ledger + 1] = last
  end
  last[2] = last[2] + amount
end
local function refill(to)
  local fade = to > R.at and math.exp((R.at - to) / LATELY_S) or 1
  for _, row in pairs(R.holders) do
    for name, amount in pairs(row.taken) do row.taken[name] = amount * fade end
  end
  for name, gauge in pairs(R.gauges) do
    if gauge.burst and to > R.at then
      local most = math.max(gauge.level, gauge.burst - held(name))
      gauge.level = math.min(most, gauge.level + (to - R.at) * gauge.per_s)
    end
  end
  R.at = math.max(to, R.at)
end
local function advance()
  local over = {{}}
  for name, row in pairs(R.holders) do
    if row['until'] <= at then over[#over + 1] = name end
  end
  table.sort(over, function(a, b) return R.holders[a]['until'] < R.holders[b]['until'] end)
  for _, name in ipairs(over) do
    local row = R.holders[name]
    refill(row['until'])
    R.holders[name], R.lost[name] = nil, row
    for which, gauge in pairs(R.gauges) do enter(gauge, row.held[which] or 0, row['until']) end
  end
  refill(at)
  for _, gauge in pairs(R.gauges) do
    local kept = {{}}
    for _, entry in ipairs(gauge.ledger) do
      if entry[1] + gauge.window_s > at then kept[#kept + 1] = entry end
    end
    gauge.ledger = kept
  end
  local forgotten = {{}}
  for name, row in pairs(R.lost) do
    if row['until'] + FORGET_S <= at then forgotten[#forgotten + 1] = name end
  end
  for _, name in ipairs(forgotten) do R.lost[name] = nil end
end
local function rebound(bounds)
  local old = R.gauges
  local new = next(old) == nil
  R.gauges = {{}}
  for name, bound in pairs(bounds) do
    local burst = bound.burst or 0
    local gauge = old[name] or {{level = new and burst or 0, ledger = {{}}}}
    gauge.limit, gauge.window_s, gauge.burst, gauge.per_s = bound.limit, bound.window_s, bound.burst, bound.per_s
    gauge.level = math.min(gauge.level, burst)
    R.gauges[name] = gauge
  end
end
local NOTHING = {{spent = 0, keep = 0, least = 0, want = 0, back = {{}}}}
local function settle(needs)
  local row, lost = R.holders[holder] or {{held = {{}}, taken = {{}}}}, R.lost[holder]
  R.holders[holder], R.lost[holder] = nil, nil
  for name, gauge in pairs(R.gauges) do
    local need = needs[name] or NOTHING
    local entered = lost and gauge.window_s > 0 and lost.held[name] or 0
    enter(gauge, math.max(0, need.spent - entered), at)
    if gauge.burst then
      local back = (row.held[name] or 0) + entered - need.spent - need.keep
      gauge.level = gauge.level + (lost and math.min(0, back) or back)
      gauge.level = math.min(gauge.level, gauge.burst - held(name) - need.keep, need.left or math.huge)
    end
    row.held[name], row.taken[name] = need.keep, row.taken[name] or 0
    for _, one in ipairs(gauge.window_s > 0 and need.back or {{}}) do
      local slot = grain(gauge, one[1])
      for _, entry in ipairs(gauge.ledger) do
        if entry[1] == slot then entry[2] = math.max(0, entry[2] - one[2]) end
      end
    end
  end
  return row
end
local function room(name, row)
  local gauge = R.gauges[name]
  local left = gauge.limit - held(name) - (row and row.held[name] or 0) - spent(gauge)
  return gauge.burst and math.min(left, gauge.level) or left
end
local function owed(name, row)
  local since, sum = row.since or math.huge, 0
  for _, other in pairs(R.holders) do
    if other.since and other.since < since then sum = sum + (other.least[name] or 0) end
  end
  return sum
end
local function even(free, mine, taken)
  local level = free + mine
  table.sort(taken)
  for n, other in ipairs(taken) do
    if other >= level then break end
    level = (level * n + other) / (n + 1)
  end
  return math.max(0, level - mine)
end
local function take(wanted, free, row)
  if not next(wanted) then return nil end
  for name, need in pairs(wanted) do
    if free[name] < need.least - TINY then return nil end
  end
  local part, got, any = 1, {{}}, false
  for name, need in pairs(wanted) do
    local taken, most = {{}}, row.since and free[name] or free[name] / 2
    for _, other in pairs(R.holders) do
      if other.wants then taken[#taken + 1] = other.taken[name] or 0 end
    end
    if #taken > 0 then most = row.since and even(most, row.taken[name], taken) or 0 end
    part = math.min(part, math.max(need.least, most + TINY) / need.want)
  end
  for name, need in pairs(wanted) do
    got[name] = math.max(need.least, math.floor(need.want * math.max(0, part)))
    any = any or got[name] > 0
  end
  if not any then return nil end
  for name in pairs(wanted) do
    row.held[name] = row.held[name] + got[name]
    row.taken[name] = row.taken[name] + got[name]
    local gauge = R.gauges[name]
    if gauge.burst then gauge.level = gauge.level - got[name] end
  end
  row.since = nil
  return got
end
local function wait(name, wanted, row)
  local gauge, after = R.gauges[name], 0
  if gauge.burst then after = math.max(0, wanted - gauge.level) / gauge.per_s end
  local over = wanted + held(name) + row.held[name] + spent(gauge) - gauge.limit
  if over <= TINY then return after end
  local leaves = 0
  for _, entry in ipairs(gauge.ledger) do
    if over <= TINY then break end
    over = over - entry[2]
    leaves = entry[1] + gauge.window_s - at
  end
  local last = gauge.ledger[#gauge.ledger]
  local back = math.max(FREED_S, last and (at - last[1]) / 4 or 0)
  return math.max(after, over <= TINY and math.min(leaves, back) or back)
end
local function ask_again(name, need, got, owes, row)
  local gauge = R.gauges[name]
  local more = need.want - (got and got[name] or 0)
  local soon = more > 0 and math.min(BATCH_S, wait(name, more + owes, row)) or 0
  if gauge.burst then soon = math.min(soon, gauge.burst / gauge.per_s / 2) end
  if gauge.burst and row.held[name] > gauge.burst / 2 then soon = math.min(soon, TELL_S) end
  return math.max(SOONEST_S, soon, got and 0 or wait(name, need.least + owes, row))
end
local function share(name)
  local waits, having = false, 0
  for _, row in pairs(R.holders) do
    waits = waits or row.since and (row.least[name] or 0) > 0
    if row.wants or (row.held[name] or 0) > 0 then having = having + 1 end
  end
  return waits and math.max(1, math.floor(R.gauges[name].limit / having + TINY)) or math.huge
end
local function flat(map)
  local out = {{}}
  for name, value in pairs(map) do
    out[#out + 1] = name
    out[#out + 1] = value
  end
  return out
end
local function draw(asked)
  at = math.max(tonumber(now), R.at)
  advance()
  local read = asked.known == R.number
  if read and asked.word then R.number, R.word = R.number + 1, asked.word end
  if read or next(R.gauges) == nil then rebound(asked.bounds) end
  local row = settle(asked.needs)
  row['until'] = at + lease_s
  local wanted, waits, owes, free = {{}}, false, {{}}, {{}}
  for name, need in pairs(asked.needs) do
    if need.want > 0 and R.gauges[name] then
      wanted[name] = need
      waits = waits or need.least > 0
    end
  end
  row.since = waits and (row.since or at) or nil
  for name in pairs(wanted) do
    owes[name] = owed(name, row)
    free[name] = room(name, row) - owes[name]
  end
  local got = take(wanted, free, row)
  row.least = {{}}
  local again_s, short = 0, false
  for name, need in pairs(wanted) do
    short = short or need.want > (got and got[name] or 0)
    if row.since then row.least[name] = need.least end
  end
  row.wants = waits and short
  if short then
    for name, need in pairs(wanted) do again_s = math.max(again_s, ask_again(name, need, got, owes[name], row)) end
  end
  local keeps = row.wants
  for _, amount in pairs(row.held) do keeps = keeps or amount ~= 0 end
  if keeps then R.holders[holder] = row end
  local left, shares = {{}}, {{}}
  for name, gauge in pairs(R.gauges) do
    left[name] = math.max(0, room(name))
    if gauge.window_s == 0 then shares[name] = share(name) end
  end
  return {{flat(got or {{}}), again_s, flat(left), flat(shares), R.number, not read and R.word or '', at}}
end
local grants = {{}}
for n, asked in ipairs(cmsgpack.unpack(ARGV[5])) do
  local key = P .. 'reservoir:' .. asked.reservoir
  local kept = redis.call('GET', key)
  R = kept and cmsgpack.unpack(kept) or {{at = 0, number = 0, gauges = {{}}, holders = {{}}, lost = {{}}}}
  grants[n] = draw(asked)
  redis.call('SET', key, cmsgpack.pack(R))
end
grants = cmsgpack.pack(grants)
redis.call('SET', answered, cmsgpack.pack({{nonce, grants}}), 'EX', 60)
return {{'ok', grants}}
"""
