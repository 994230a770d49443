-- close.lua   the exchange said stop: nobody asks until then, and then one alone
-- KEYS        as in budget_state.lua
-- ARGV[2] exchange ms at which it ends, -1 unknown   ARGV[3] ms from now, -1 unknown; both unknown: the next minute
-- Returns     Redis ms until which the pool is closed
-- Cost: O(1).

local at, after = tonumber(ARGV[2]), tonumber(ARGV[3])
local ends
if at >= 0 then
  ends = at - (pool.lo or 0) + SKEW_MS
elseif after >= 0 then
  ends = now + after
else
  ends = now + 60000 - earliest() % 60000
end
pool.closed = math.max(pool.closed or 0, math.ceil(ends))
pool.since = now
pool.probing = 1
pool.probe = 0
save()
return pool.closed
