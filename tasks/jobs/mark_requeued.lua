-- mark_requeued.lua   the message of a piece of a job went back to the end of its queue
-- KEYS[1] hash  open pieces -> Redis µs at which each was last sent
-- ARGV[1] piece   ARGV[2] µs from now at which it counts as sent
-- Returns 1; 0 if the piece is not open. Cost: O(1).

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local time = redis.call('TIME')
local sent_us = time[1] * 1000000 + time[2] + ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', sent_us))
return 1
