-- Take, renew or drop a lease. Cost: O(log n).
-- KEYS[1] sorted set: lease -> Redis ms at which it lapses   KEYS[2] hash: lease -> owner
-- KEYS[3] string: the last fencing number
-- ARGV[1] take | keep | drop   ARGV[2] lease   ARGV[3] owner   ARGV[4] TTL, ms
-- Returns for take the lease's fencing number, a string; for keep and drop 1; 0 if another owner
-- has the lease.
-- Fencing numbers only grow: each is Redis's microseconds, or the last number plus one if that is
-- greater.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local is_held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0) > now
if ARGV[1] == 'take' then
  if is_held then return 0 end
else
  local is_ours = redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3]
  if not is_ours or not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return 0 end
end
if ARGV[1] == 'drop' then
  redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('HDEL', KEYS[2], ARGV[2])
  return 1
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[4]), ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if ARGV[1] == 'keep' then return 1 end
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fence = math.max(micros, tonumber(redis.call('GET', KEYS[3]) or 0) + 1)
redis.call('SET', KEYS[3], string.format('%.0f', fence))
return string.format('%.0f', fence)
