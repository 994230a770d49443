-- claim.lua   a block is one run's at a time: it is claimed for this run, or put aside while another run has it
-- ARGV[3] block   ARGV[4] its symbol
-- Returns 1 where the block is this run's and not under way yet, else 0. Cost: O(1).

local halt = halted()
if halt then return halt end
local owner = redis.call('HGET', CLAIMS, ARGV[3])
if owner and owner ~= run and redis.call('SISMEMBER', ACTIVE, owner) == 1 then
  redis.call('SADD', DEFERRED, ARGV[3])
  return 0
end
redis.call('HSET', CLAIMS, ARGV[3], run)
redis.call('SREM', DEFERRED, ARGV[3])
redis.call('HINCRBY', RUN, 'touched', redis.call('SADD', TOUCHED, ARGV[4]))
local block = block_of(ARGV[3])
if not block then keep(ARGV[3], {phase = 'claimed', since_ms = now, sent_us = sent_us, left = 0}) end
return (not block or block.phase == 'claimed') and 1 or 0
