-- learn.lua   what an answer, or its absence, says about the exchange's clock and used weight
-- KEYS        as in budget_state.lua
-- ARGV[2] weight   ARGV[3] minute it was charged to   ARGV[4] Redis ms at which it was granted
-- ARGV[5] used weight by the header, or -1   ARGV[6] Date header, ms, or -1
-- ARGV[7] 1 if the exchange served the call   ARGV[8] round trip, ms, or -1 where the call failed
-- Returns     1
-- Cost: O(1).

local weight, charged_minute, granted_at = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local used, date = tonumber(ARGV[5]), tonumber(ARGV[6])
local is_served, rtt = ARGV[7] == '1', tonumber(ARGV[8])
local is_first_date = date >= 0 and not is_clock_known

-- The answer was made between grant and now, within the second that Date names. Both bounds are
-- narrowed by that; where the old and the new ones do not overlap, the new ones win.
if date >= 0 then
  local low, high = date - now, date + 999 - granted_at
  if is_clock_known then
    local both_low = math.max(low, pool.offset_low - drift())
    local both_high = math.min(high, pool.offset_high + drift())
    if both_low <= both_high then low, high = both_low, both_high end
  end
  -- Drift counts in whole milliseconds: the time goes on only once it has been added to the bounds.
  if is_first_date or drift() > 0 then pool.offset_at = now end
  pool.offset_low, pool.offset_high = low, high
end

local charged = existing_count(charged_minute)
if charged then
  charged = count_of(charged_minute)
  charged.in_flight = math.max(0, charged.in_flight - weight)
end

local answered_minute = math.floor(latest() / 60000)
if is_first_date then
  -- Only now the minute is known. What was spent before may be counted in it.
  local current = open_minute(math.floor(earliest() / 60000))
  if charged and current ~= charged then current.spent = current.spent + charged.spent end
  raise_header(current, used, granted_at)
elseif answered_minute ~= charged_minute then
  -- Answered in a later minute than it was sent in: it may have been counted in either.
  if answered_minute == charged_minute + 1 then
    local following = count_of(answered_minute)
    if following.is_open == 0 then following.spent = following.spent + weight end
  end
  if charged and date >= 0 and math.floor(date / 60000) == charged_minute then
    raise_header(charged, used, granted_at)
  end
elseif charged then
  raise_header(charged, used, granted_at)
end

if rtt >= 0 then
  pool.rtt = pool.rtt and (pool.rtt * 7 + rtt) / 8 or rtt
end
if not is_clock_known then
  pool.trial_until = 0
elseif pool.is_reopening == 1 and granted_at >= (pool.closed_until or 0) then
  pool.trial_until = 0
  if is_served then pool.is_reopening = 0 end
end
save()
return 1
