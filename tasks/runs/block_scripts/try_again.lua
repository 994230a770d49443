-- try_again.lua   one more try of something
-- ARGV[3] its name   ARGV[4] most tries
-- Returns 1, or 0 once there have been so many, or the run has ended. Cost: O(1).

local halt = halted()
if halt then return halt end
return redis.call('HINCRBY', TRIES, ARGV[3], 1) < tonumber(ARGV[4]) and 1 or 0
