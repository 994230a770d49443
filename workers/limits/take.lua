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
local LOOK_MS = 3000            -- while others spend, a call is sent at least so often, to see them
local LAST_LOOK_MS = 700        -- so late in a minute, one call still looks at what was spent in it
local LOOKS_SHARE = 0.1         -- most of the limit that is kept back for such calls
local LAST_LOOK_SHARE = 0.02    -- nothing is kept back for a call that is more of our share
local MARGIN_MS = 10000         -- the margin for others shrinks over the last so many ms,
local LEAST_MARGIN = 0.2        --   to this part of it
local SHORTEST_WAIT_MS = 200
local FEW_CALLS = 8             -- so many calls in flight are no risk
local HEADROOM = 1.25           -- so many times the calls of Little's law are in flight

-- Notes how fast the fleet spends when it may.
local function note_grant()
  if math.abs(now - (pool.pace_from or 0)) >= PACE_MS then
    pool.fastest = math.max(pool.fastest or 0, pool.pace_spent or 0)
    pool.pace_from, pool.pace_spent = now, 0
  end
  pool.pace_spent = pool.pace_spent + weight
  pool.granted_at = now
end

local function wait_for(ms, reserved_minute, closed)
  save()
  return {0, math.max(1, math.ceil(ms)), reserved_minute or -1, closed or 0}
end

-- Returns how long a caller is to wait, at least `in_ms`, where callers take turns, one every so
-- many ms. Returns nil if its turn would be later than in `longest_ms`.
local function ms_to_turn(in_ms, every_ms, longest_ms)
  local turn = math.max(now + in_ms, math.min(pool.next_turn or 0, now + 60000))
  if turn - now > longest_ms then return end
  pool.next_turn = turn + every_ms
  return math.max(SHORTEST_WAIT_MS, turn - now)
end

-- Until exchangeInfo has named the limit, a little of our own is spent, whatever others do.
local our_limit = pool.limit and limit * share_millionths / 1000000 or BOOTSTRAP_LIMIT
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
pool.asked_at = now

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
if now < count.check_until and count.in_flight > 0 then
  return wait_for(math.min(rtt / 2, count.check_until - now))
end

local reserved = count.reserved
if reservation == minute or 60000 - next_minute_in > LATE_MS then reserved = 0 end
local in_flight = count.in_flight + (before and before.in_flight or 0)
local used = math.max(count.spent + count.others, count.header + in_flight)
local our_rest = our_limit - count.spent
local room = pool.limit and spendable - used or our_rest
local unspent = math.min(room, our_rest)

-- Others may spend some of what is unspent. If nobody calls because of that, nobody learns what they
-- do spend: so weight is kept back for calls that look, and for one at the end of the minute.
local are_others_here = pool.limit and (count.others > 0 or count.others_most > 0)
local kept, let_go_pace, looks = 0, 0, 0
local few_pace = FEW_CALLS * weight / rtt
if are_others_here then
  kept, let_go_pace = kept_for_others(count, next_minute_in, few_pace)
  kept = kept + limit * OTHERS_MARGIN * math.min(1, LEAST_MARGIN + next_minute_in / MARGIN_MS)
  looks = math.min(weight * math.floor(next_minute_in / LOOK_MS), limit * LOOKS_SHARE)
end
local is_looking = pool.limit and minute - (pool.header_minute or 0) <= PAST_MINUTES
local is_last_look_ahead = is_looking and next_minute_in > LAST_LOOK_MS
  and weight <= our_most * LAST_LOOK_SHARE
if is_last_look_ahead then looks = looks + weight end
local free = math.floor(math.min(room - kept, our_rest) - looks) - reserved

-- Where a burst of others would fill the minute, every call in flight would be refused, and an
-- exchange may ban for more than ten: then there are few of them. Only beside bursts too big to wait
-- for gently there are as many as are needed to spend the rest in time.
local look_ms = math.min(LOOK_MS, next_minute_in / 4)
if are_others_here and weight <= free and unspent < count.others_burst then
  local most = FEW_CALLS * weight
  if not can_wait_gently(count.others_burst, few_pace) then
    local ours = math.max(0, unspent - count.others_sure)
    local left_ms = math.max(SHORTEST_WAIT_MS, next_minute_in - 1000)
    most = math.max(most, HEADROOM * ours * rtt / left_ms)
  end
  if count.in_flight + weight > most then
    -- Most places are taken again by who returns from a call: half as many turns are enough.
    local longest_ms = math.max(SHORTEST_WAIT_MS, next_minute_in / 4)
    return wait_for(ms_to_turn(rtt, 2 * rtt * weight / most, longest_ms) or longest_ms)
  end
end

-- While the minute is uncertain, the call may be counted in either of two: both must have room to
-- spare. open_minute charges the second one.
local edge_room = limit * EDGE_SPARE + weight
local following = count_of(minute + 1)
local following_rest = our_limit - following.spent - following.reserved - count.in_flight
local fits_at_edge = free >= edge_room and following_rest >= edge_room

if is_minute_certain or fits_at_edge or not is_clock_known then
  local look_due = math.max(LAST_LOOK_MS, look_ms)
  -- Where headers no longer show what they spend, a look does not go into what they surely will.
  local is_unseen = 60000 - next_minute_in - count.header_at > 3 * LOOK_MS
  local unseen = is_unseen and count.others_sure or 0
  local is_look = are_others_here and is_looking and weight <= unspent - reserved - unseen
    and now - (pool.granted_at or 0) >= look_due
  if weight <= free or is_look then
    count.spent = count.spent + weight
    count.in_flight = count.in_flight + weight
    if is_trial then pool.trial_until = now + trial_timeout end
    note_grant()
    save()
    return {1, minute, now, math.max(0, free - weight), next_minute_in, math.floor(rtt)}
  end
  if weight <= unspent - reserved then
    -- Only what is kept back stands in the way: come again in time to spend it. All of it may come
    -- free at once, so there are twice as many turns as it has calls.
    if are_others_here and next_minute_in > 2 * SHORTEST_WAIT_MS then
      local in_ms, every_ms = look_ms, next_minute_in * weight / (unspent - reserved) / 2
      if let_go_pace > 0 then
        in_ms, every_ms = math.min(look_ms, (weight - free) / let_go_pace), weight / let_go_pace
      end
      local wait_ms = ms_to_turn(in_ms, every_ms, next_minute_in - SHORTEST_WAIT_MS)
      if wait_ms then return wait_for(wait_ms) end
    end
    if is_last_look_ahead and count.is_look_booked == 0 then
      count.is_look_booked = 1
      return wait_for(next_minute_in - 0.9 * LAST_LOOK_MS)
    end
  end
end

-- The minute is full or about to end: reserve weight in the next one, if that has room.
local next_room = our_limit
if pool.limit then next_room = math.min(our_limit, spendable - (pool.others_per_minute or 0)) end
if weight > next_room - following.spent - following.reserved then return wait_for(next_minute_in) end
following.reserved = following.reserved + weight
return wait_for(next_minute_in, minute + 1)
