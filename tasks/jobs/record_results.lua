-- record_results.lua   a piece of a job is done: record its results, once
-- KEYS[1] hash  open pieces -> Redis µs at which each was last sent   KEYS[2] list  new results
-- ARGV[1] piece   ARGV[2] its results, as JSON   ARGV[3] ms for which the list is kept
-- Returns 1; 0 if the piece is not open: it is done already, or its command has gone.
-- Cost: O(1).

if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
