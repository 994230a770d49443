-- end.lua   ends a run once and releases all that it holds in the same step
-- ARGV[3] final state   ARGV[4] ms for which the run and its records are kept
-- ARGV[5] ended runs that are kept   ARGV[6] what is kept of its request, JSON; '' for all of it
-- ARGV[7] records that are in its report and leave Redis, unless more have come   0 for none
-- ARGV[8...] counter, amount, …
-- Returns 1 if this call ended the run; 0 if it had ended before or is unknown.
-- Cost: O(claims of all runs), and O(1) for each run that is forgotten.

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
if ARGV[6] ~= '' then redis.call('HSET', RUN, 'request', ARGV[6]) end
if ARGV[7] ~= '0' and redis.call('HLEN', RECORDS) == tonumber(ARGV[7]) then
  redis.call('HSET', RUN, 'moved', ARGV[7])
  redis.call('DEL', RECORDS)
end
add_counts(8)
redis.call('PEXPIRE', RUN, ARGV[4])
redis.call('PEXPIRE', RECORDS, ARGV[4])
redis.call('ZREMRANGEBYSCORE', RUNS, 0, now_ms - ARGV[4])
local prefix = string.sub(RUN, 1, #RUN - #run)
for _, old in ipairs(redis.call('ZRANGE', RUNS, 0, -1 - ARGV[5])) do
  if redis.call('SISMEMBER', ACTIVE, old) == 0 then
    redis.call('DEL', prefix .. old, prefix .. old .. ':records')
    redis.call('ZREM', RUNS, old)
  end
end
return 1
