-- close.lua   the exchange answered 429 or 418: nobody calls until then, and then one trial call
-- KEYS        as in budget_state.lua
-- ARGV[2] exchange ms at which the ban ends, or -1   ARGV[3] ms until it ends, or -1
--             both -1: until the exchange's next minute
-- Returns     Redis ms until which the pool is closed
-- Cost: O(1).

local exchange_ms, after_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local closed_until
if exchange_ms >= 0 then
  closed_until = exchange_ms - (pool.offset_low or 0) + CLOCK_SKEW_MS
elseif after_ms >= 0 then
  closed_until = now + after_ms
else
  closed_until = now + 60000 - earliest() % 60000
end
pool.closed_until = math.max(pool.closed_until or 0, math.ceil(closed_until))
pool.closed_at = now
pool.is_reopening = 1
pool.trial_until = 0
save()
return pool.closed_until
