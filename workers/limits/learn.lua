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
local DOUBTS = 3                     -- answers that agree against what is known
local DOUBTS_AT_A_BEGINNING = 2      -- when one call at a time is sent
local is_first_date = date >= 0 and not is_clock_known

-- The answer was made between grant and now, within the second that Date names. That narrows both
-- bounds. Where it contradicts them, Redis's clock has been set or the Date is wrong: the new bounds
-- win once DOUBTS answers in a row agree with each other.
local charged = existing_count(charged_minute) and count_of(charged_minute)
local is_date_believed = false
if date >= 0 then
  local low, high = date - now, date + 999 - granted_at
  local both_low, both_high = low, high
  if is_clock_known then
    both_low = math.max(low, pool.offset_low - drift())
    both_high = math.min(high, pool.offset_high + drift())
  end
  is_date_believed = both_low <= both_high
  if low <= high and not is_date_believed then
    both_low, both_high = math.max(low, pool.doubt_low or 0), math.min(high, pool.doubt_high or -1)
    if both_low <= both_high then pool.doubts = pool.doubts + 1
    else both_low, both_high, pool.doubts = low, high, 1 end
    pool.doubt_low, pool.doubt_high = both_low, both_high
    local is_beginning = charged and now < charged.check_until
    is_date_believed = pool.doubts >= (is_beginning and DOUBTS_AT_A_BEGINNING or DOUBTS)
  end
  if is_date_believed then
    -- Drift counts in whole milliseconds: the time goes on only once it has been added.
    if is_first_date or drift() ~= 0 then pool.offset_at = now end
    pool.offset_low, pool.offset_high = both_low, both_high
    pool.doubt_low, pool.doubt_high, pool.doubts = 0, -1, 0
  end
end
-- A call that is served has not gone over the limit: a header that says so is none.
if not is_served then used = math.min(used, limit)
elseif pool.limit and used > limit then used = -1 end

if charged then
  charged.in_flight = math.max(0, charged.in_flight - weight)
end

local answered_minute = math.floor(latest() / 60000)
local is_dated_as_charged = is_date_believed and math.floor(date / 60000) == charged_minute
if charged and is_dated_as_charged then charged.check_until = 0 end
if is_first_date then
  -- Only now the minute is known. What was spent before may be counted in it.
  local current = open_minute(math.floor(earliest() / 60000))
  if charged and current ~= charged then current.spent = current.spent + charged.spent end
  raise_header(current, used, granted_at)
elseif answered_minute == charged_minute then
  if charged then raise_header(charged, used, granted_at) end
else
  -- Answered in a later minute than it was sent in: it may have been counted in either, unless its
  -- Date is of the earlier one. open_minute has added what was in flight.
  if answered_minute == charged_minute + 1 then
    local following = count_of(answered_minute)
    if following.is_open == 0 and not is_dated_as_charged then
      following.spent = following.spent + weight
    elseif following.is_open == 1 and is_dated_as_charged then
      following.spent = math.max(0, following.spent - weight)
    end
  end
  if charged and is_dated_as_charged then raise_header(charged, used, granted_at) end
end

if rtt >= 0 then
  pool.rtt = pool.rtt and (pool.rtt * 7 + rtt) / 8 or rtt
end
if not is_clock_known then
  pool.trial_until = 0
elseif pool.is_reopening == 1 and granted_at >= (pool.closed_until or 0) then
  pool.trial_until = 0
  if is_served then pool.is_reopening, pool.refusals = 0, 0 end
end
save()
return 1
