-- sent_again.lua   the message of a piece of a verification went to the end of its queue
-- KEYS[1] hash  pieces that are sent and not done -> Redis µs when it was last sent
-- ARGV[1] piece   ARGV[2] µs by which it will be sent later
-- Returns 1; 0 where nobody waits for the piece. Cost: O(1).

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', time[1] * 1000000 + time[2] + ARGV[2]))
return 1
