-- mark_plan_sent.lua   renews the sent_us of the run's plan message
-- ARGV[3] µs until it is sent
-- Returns sent_us; 0 if the run has ended. Cost: O(1).

if state ~= 'running' then return 0 end
sent_us = sent_us + tonumber(ARGV[3])
redis.call('HSET', RUN, 'planned_us', sent_us)
return sent_us
