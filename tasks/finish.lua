-- finish.lua   a window is in, or has failed for good: count it once, and tell who was last
-- KEYS[1] set   latch: the block's windows that are not in yet      KEYS[2] hash  the run
-- KEYS[3] hash  the run's open blocks -> fetching@ms | compacting@ms  KEYS[4] hash  the run's failed windows -> reason
-- KEYS[5] list  wakes the run's planner                              KEYS[6] hash  claims: block -> run
-- ARGV[1] window   ARGV[2] block   ARGV[3] name of a failed window, or ''   ARGV[4] its reason
-- ARGV[5] run   ARGV[6] how many windows take its place   ARGV[7...] these, then counter, amount, …
-- Returns 1 where the block is to be compacted now. A second copy of the same window changes nothing, nor does one of
-- a run that has lost the block.
-- Cost: O(1), and one more for each window that takes its place.

if redis.call('HGET', KEYS[6], ARGV[2]) ~= ARGV[5] then return 0 end
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[4], ARGV[3], ARGV[4]) end
local instead = tonumber(ARGV[6])
for i = 7, 6 + instead do redis.call('SADD', KEYS[1], ARGV[i]) end
for i = 7 + instead, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('RPUSH', KEYS[5], 1)
redis.call('LTRIM', KEYS[5], -10, -1)
if redis.call('SCARD', KEYS[1]) > 0 then return 0 end
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return 0 end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[3], ARGV[2], 'compacting@' .. now)
return 1
