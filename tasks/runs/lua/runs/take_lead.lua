-- take_lead.lua   makes a planner the run's leader, so that earlier ones are refused
-- ARGV[3] the lease's fencing number
-- Returns 1; 0 if the run has ended, -1 if a later planner leads it. Cost: O(1).

if state ~= 'running' then return 0 end
local leader = redis.call('HGET', RUN, 'leader')
if leader and tonumber(leader) > tonumber(ARGV[3]) then return -1 end
redis.call('HSET', RUN, 'leader', ARGV[3])
return 1
