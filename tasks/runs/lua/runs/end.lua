-- end.lua   ends a run once and releases all that it holds in the same step
-- ARGV[3] final state   ARGV[4] ms for which the run and its records are kept
-- ARGV[5...] counter, amount, …
-- Returns 1 if this call ended the run; 0 if it had ended before or is unknown.
-- Cost: O(claims of all runs).

local refused = refusal()
if refused == -1 then return -1 end
redis.call('SREM', ACTIVE, run)
local claims = redis.call('HGETALL', CLAIMS)
for i = 1, #claims, 2 do
  if claims[i + 1] == run then redis.call('HDEL', CLAIMS, claims[i]) end
end
redis.call('DEL', PARTITIONS, WINDOWS, DEFERRED, ATTEMPTS, WAKE, CLAIMED_SYMBOLS)
if not state then redis.call('PEXPIRE', RECORDS, ARGV[4]) end
if refused then return 0 end
redis.call('HSET', RUN, 'state', ARGV[3], 'ended_ms', now_ms)
add_counts(5)
redis.call('PEXPIRE', RUN, ARGV[4])
redis.call('PEXPIRE', RECORDS, ARGV[4])
redis.call('ZREMRANGEBYSCORE', RUNS, 0, now_ms - ARGV[4])
return 1
