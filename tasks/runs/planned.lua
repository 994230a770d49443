-- planned.lua   a planner is sent for
-- Returns the µs at which it counts as sent, 0 where the run has ended. Cost: O(1).

if state ~= 'running' then return 0 end
redis.call('HSET', RUN, 'planned_us', sent_us)
return sent_us
