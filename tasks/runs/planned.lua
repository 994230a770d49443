-- planned.lua   a planner is sent for
-- Returns the ms at which it counts as sent, 0 where the run has ended. Cost: O(1).

if state ~= 'running' then return 0 end
redis.call('HSET', RUN, 'planned_ms', now)
return now
