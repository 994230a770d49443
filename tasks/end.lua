-- end.lua   a run ends once: the first to say how has said it
-- KEYS[1] hash  the run   KEYS[2] set  runs that have not ended
-- ARGV[1] run   ARGV[2] state   ARGV[3] Redis ms
-- Returns 1 where it has ended by this, 0 where it had ended before or is not known. Cost: O(1).

redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'ended_ms', ARGV[3])
return 1
