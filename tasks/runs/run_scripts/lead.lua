-- lead.lua   a planner takes the lead of a run; whoever led it before changes nothing any more
-- ARGV[3] its lease's fencing number
-- Returns 1; 0 where the run has ended, -1 where a later planner leads it already. Cost: O(1).

if state ~= 'running' then return 0 end
local leader = redis.call('HGET', RUN, 'leader')
if leader and tonumber(leader) > tonumber(ARGV[3]) then return -1 end
redis.call('HSET', RUN, 'leader', ARGV[3])
return 1
