-- record_attempt.lua   counts one attempt
-- ARGV[3] its name   ARGV[4] max attempts
-- Returns 1; 0 from the last allowed attempt on, or if the run has ended. Cost: O(1).

local refused = refusal()
if refused then return refused end
return redis.call('HINCRBY', ATTEMPTS, ARGV[3], 1) < tonumber(ARGV[4]) and 1 or 0
