-- close.lua   the exchange answered 429 or 418: nobody calls until then, and then one trial call
-- KEYS        as in budget_state.lua
-- ARGV[2] exchange ms at which the ban ends, or -1   ARGV[3] ms until it ends, or -1
--             both -1, or an end in the past: until the exchange's next minute
-- Returns     {ms for which the pool is closed, ms that the exchange asked for}
-- Cost: O(1).

local exchange_ms, after_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local LEAST_MS = 1000                -- shortest closing; twice as long after each further refusal
local MOST_DOUBLED = 6
local LONGEST_BAN_MS = 3 * 86400000  -- the exchange documents no longer ban
local LONG_BAN_TRIAL_MS = 3600000    -- how often a trial call is sent where it names a longer one

local asked_ms = 0
if exchange_ms >= 0 then
  asked_ms = exchange_ms - (pool.offset_low or 0) + CLOCK_SKEW_MS - now
elseif after_ms >= 0 then
  asked_ms = after_ms
end
local closed_ms = asked_ms
if asked_ms <= 0 then closed_ms = 60000 - earliest() % 60000 end
if asked_ms > LONGEST_BAN_MS then closed_ms = LONG_BAN_TRIAL_MS end

-- Calls in flight are refused too. Only one that was sent after the last closing is a new refusal.
if now >= (pool.closed_until or 0) then
  closed_ms = math.max(closed_ms, LEAST_MS * 2 ^ math.min(pool.refusals or 0, MOST_DOUBLED))
  pool.refusals = (pool.refusals or 0) + 1
end
-- Unless this minute's headers show room, others have filled it.
local minute = math.floor(earliest() / 60000)
local count = existing_count(minute)
local has_room = count and count.header > 0
  and math.max(count.header, count.spent + count.others) < limit * (1 - EDGE_SPARE)
if pool.limit and not has_room then note_full(minute) end
pool.closed_until = math.max(pool.closed_until or 0, math.ceil(now + closed_ms))
pool.ban_end = math.ceil(now + asked_ms)
pool.closed_at = now
pool.is_reopening = 1
pool.trial_until = 0
save()
return {pool.closed_until - now, math.ceil(asked_ms)}
