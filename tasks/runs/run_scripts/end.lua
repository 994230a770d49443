-- end.lua   a run ends once: the first to say how has said it, and all that it held is let go of in the same step
-- ARGV[3] state   ARGV[4] ms for which what people want to know is kept
-- Returns 1 where it has ended by this; 0 where it had ended before, or is not known. Cost: O(claims of all runs).

local halt = halted()
if halt == -1 then return -1 end
redis.call('SREM', ACTIVE, run)
local claims = redis.call('HGETALL', CLAIMS)
for i = 1, #claims, 2 do
  if claims[i + 1] == run then redis.call('HDEL', CLAIMS, claims[i]) end
end
redis.call('DEL', BLOCKS, WINDOWS, DEFERRED, TRIES, WAKE, TOUCHED)
if not state then redis.call('PEXPIRE', RECORDS, ARGV[4]) end
if halt then return 0 end
redis.call('HSET', RUN, 'state', ARGV[3], 'ended_ms', now)
redis.call('PEXPIRE', RUN, ARGV[4])
redis.call('PEXPIRE', RECORDS, ARGV[4])
redis.call('ZREMRANGEBYSCORE', RUNS, 0, now - ARGV[4])
return 1
