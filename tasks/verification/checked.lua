-- checked.lua   a piece of a verification is done: what came of it is told once
-- KEYS[1] hash  pieces that are sent and not done      KEYS[2] list  what came of those that are
-- ARGV[1] piece   ARGV[2] what came of it, as JSON   ARGV[3] ms for which it is kept
-- Returns 1; 0 where nobody waits for the piece: it is done already, or its command has gone.
-- Cost: O(1).

if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
