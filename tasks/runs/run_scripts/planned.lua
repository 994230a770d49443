-- planned.lua   a planner is sent for
-- ARGV[3] µs by which it will be sent later
-- Returns the µs at which it counts as sent, 0 where the run has ended. Cost: O(1).

if state ~= 'running' then return 0 end
sent_us = sent_us + tonumber(ARGV[3])
redis.call('HSET', RUN, 'planned_us', sent_us)
return sent_us
