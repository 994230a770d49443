-- claim.lua   claims a partition for the run, or defers it while another active run has it
-- ARGV[3] partition   ARGV[4] its symbol
-- Returns 1 if the run has claimed the partition and not opened it yet, else 0. Cost: O(1).

local refused = refusal()
if refused then return refused end
local owner = redis.call('HGET', CLAIMS, ARGV[3])
if owner and owner ~= run and redis.call('SISMEMBER', ACTIVE, owner) == 1 then
  redis.call('SADD', DEFERRED, ARGV[3])
  return 0
end
redis.call('HSET', CLAIMS, ARGV[3], run)
redis.call('SREM', DEFERRED, ARGV[3])
redis.call('HINCRBY', RUN, 'touched', redis.call('SADD', CLAIMED_SYMBOLS, ARGV[4]))
local partition = load_partition(ARGV[3])
if not partition then
  save_partition(ARGV[3], {phase = 'claimed', since_ms = now_ms, sent_us = sent_us, left = 0})
end
return (not partition or partition.phase == 'claimed') and 1 or 0
