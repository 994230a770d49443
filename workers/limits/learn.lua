-- learn.lua   what an answer, or its absence, says about the clock and the count
-- KEYS        as in budget_state.lua
-- ARGV[2] weight   ARGV[3] minute it was charged to   ARGV[4] Redis ms it was granted at
-- ARGV[5] used weight by the header, -1 unknown   ARGV[6] Date header in ms, -1 unknown
-- ARGV[7] 1 where the exchange served us   ARGV[8] round trip in ms, -1 where it failed
-- Returns     1
-- Cost: O(1).

local weight, minute, granted = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local used, date, served, rtt = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8])
local forget = false

-- The answer was made between grant and now, in the second that Date names.
if date >= 0 then
  local lo, hi = date - now, date + 999 - granted
  forget = not knows_clock
  if knows_clock and math.max(lo, pool.lo - drift()) <= math.min(hi, pool.hi + drift()) then
    lo, hi = math.max(lo, pool.lo - drift()), math.min(hi, pool.hi + drift())
  end
  -- Kept bounds are taken as of now only where their drift has been added, whole milliseconds at a time.
  if forget or drift() > 0 then pool.seen = now end
  pool.lo, pool.hi = lo, hi
end

local charged = peek(minute)
if charged then
  charged = count_of(minute)
  charged.flying = math.max(0, charged.flying - weight)
end
if forget then
  -- The first answer tells which minute it is; what was spent before knowing may be counted in this one.
  local current = open(math.floor(earliest() / 60000))
  if charged and current ~= charged then current.spent = current.spent + charged.spent end
  raise_header(current, used, granted)
elseif math.floor(latest() / 60000) ~= minute then
  -- It came back in another minute than it left in: it may have been counted in either.
  if math.floor(latest() / 60000) == minute + 1 then
    local following = count_of(minute + 1)
    if following.opened == 0 then following.spent = following.spent + weight end
  end
  if charged and date >= 0 and math.floor(date / 60000) == minute then raise_header(charged, used, granted) end
elseif charged then
  raise_header(charged, used, granted)
end

if rtt >= 0 then
  pool.rtt = pool.rtt and (pool.rtt * 7 + rtt) / 8 or rtt
end
if not knows_clock then
  pool.probe = 0
elseif (pool.probing or 0) == 1 and granted >= (pool.closed or 0) then
  pool.probe = 0
  if served then pool.probing = 0 end
end
save()
return 1
