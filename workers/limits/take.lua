-- take.lua    may a call of this weight be sent now?
-- KEYS        as in budget_state.lua
-- ARGV[2] weight   ARGV[3] our share of the limit, in millionths
-- ARGV[4] minute of the caller's reservation, or -1   ARGV[5] timeout of a trial call, ms
-- Returns     {1, minute, Redis ms, weight left, ms left in the minute, rtt}
--                granted, and charged to that minute
--             {0, ms to wait, minute of the reservation or -1, 1 if the pool is closed}
--                not now; take again after that time
--             {-1, weight that fits in a minute, limit}
--                never: the call costs more than that
-- Cost: O(1).

local weight, share_millionths = tonumber(ARGV[2]), tonumber(ARGV[3])
local reservation, trial_timeout = tonumber(ARGV[4]), tonumber(ARGV[5])
local DEFAULT_RTT_MS = 300
local UNUSUAL_PACE = 1.25       -- a pace of others so many times the last minute's is not trusted
local PROBE_INTERVAL_MS = 3000  -- how often one call may measure what others really spend

local function wait_for(ms, reserved_minute, closed)
  save()
  return {0, math.max(1, math.ceil(ms)), reserved_minute or -1, closed or 0}
end

local our_limit = limit * share_millionths / 1000000
local spendable = limit * (1 - RESERVE)
local rtt = pool.rtt or DEFAULT_RTT_MS

-- A caller that waited for room would wait for ever.
local our_most = math.floor(math.min(our_limit, spendable))
if pool.limit and weight > our_most then return {-1, our_most, limit} end

-- The exchange's minute. It is certain while both bounds of its clock are in the same one.
local minute = math.floor(earliest() / 60000)
local is_minute_certain = minute == math.floor(latest() / 60000)
local next_minute_in = math.ceil(((minute + 1) * 60000 - earliest()) * (1 + CLOCK_DRIFT))
local count, before = open_minute(minute)

-- A reservation is kept until its minute begins, unless the pool has been closed meanwhile.
local is_closed = now < (pool.closed_until or 0)
if reservation == minute + 1 and not is_closed then
  return wait_for(next_minute_in, reservation)
end
if reservation == minute or reservation == minute + 1 then
  local reserved_in = count_of(reservation)
  reserved_in.reserved = math.max(0, reserved_in.reserved - weight)
end
if is_closed then return wait_for(pool.closed_until - now, nil, 1) end

-- One trial call at a time until the pool is open again, or the exchange's clock is known.
local is_trial = pool.is_reopening == 1 or not is_clock_known
if is_trial and now < (pool.trial_until or 0) then
  return wait_for(math.min(rtt, pool.trial_until - now))
end

-- What others will still spend in this minute: as much as in the last one, or at the pace so far.
local others_so_far, others_at_pace = others_spent(count)
local others_last_minute = pool.others_per_minute or 0
local others_expected = math.max(others_last_minute, others_at_pace)
local for_others = 0
if others_expected > 0 then
  for_others = math.max(0, others_expected - others_so_far) + limit * OTHERS_MARGIN
end
-- A pace far above the last minute's may be a misreading. Room is kept for the probes that tell.
local is_pace_unusual =
  others_at_pace > others_last_minute * UNUSUAL_PACE + limit * OTHERS_MARGIN
if is_pace_unusual then
  for_others = for_others + weight * math.floor(next_minute_in / PROBE_INTERVAL_MS)
end

local reserved = count.reserved
if reservation == minute or 60000 - next_minute_in > LATE_MS then reserved = 0 end
local in_flight = count.in_flight + (before and before.in_flight or 0)
local used = math.max(count.spent + count.others, count.header + in_flight)
local our_rest = our_limit - count.spent
local free_without_others = math.floor(math.min(spendable - used, our_rest))
local free = math.floor(math.min(spendable - used - for_others, our_rest)) - reserved

-- While the minute is uncertain, the call may be counted in either of two: both must have room to
-- spare. open_minute charges the second one.
local following = count_of(minute + 1)
local edge_room = limit * EDGE_SPARE + weight
local following_rest = our_limit - following.spent - following.reserved - count.in_flight
local fits_at_edge = free >= edge_room and following_rest >= edge_room

-- If nobody calls because of what others may spend, nobody learns what they do spend. So one call
-- in a while is sent as a probe, where only the weight kept for others stands in its way.
local others_since_header =
  others_at_pace * (latest() - minute * 60000 - count.header_at) / 60000 + limit * OTHERS_MARGIN
local is_kept_for_others = weight > free
  and weight <= free_without_others - reserved - others_since_header
  and next_minute_in > PROBE_INTERVAL_MS
local is_probe = is_kept_for_others and is_pace_unusual
  and now - (pool.last_probe_ms or 0) >= PROBE_INTERVAL_MS

if is_minute_certain or fits_at_edge or not is_clock_known then
  if weight <= free or is_probe then
    count.spent = count.spent + weight
    count.in_flight = count.in_flight + weight
    if is_trial then pool.trial_until = now + trial_timeout end
    if is_probe then pool.last_probe_ms = now end
    save()
    return {1, minute, now, math.max(0, free - weight), next_minute_in, math.floor(rtt)}
  end
  if weight <= free_without_others and next_minute_in > PROBE_INTERVAL_MS then
    return wait_for(PROBE_INTERVAL_MS)
  end
end

-- The minute is full or about to end: reserve weight in the next one, if that has room.
local room = math.min(our_limit, spendable - others_last_minute)
  - following.spent - following.reserved
if weight > room then return wait_for(next_minute_in) end
following.reserved = following.reserved + weight
return wait_for(next_minute_in, minute + 1)
