-- claim.lua   a block is fetched for one run at a time
-- KEYS[1] hash  claims: block -> run   KEYS[2] set  runs that have not ended   KEYS[3] set  blocks this run must wait for
-- ARGV[1] block   ARGV[2] run
-- Returns 1 where the block is this run's now, 0 (and it is put aside) while another run that lives has it.
-- Cost: O(1).

local owner = redis.call('HGET', KEYS[1], ARGV[1])
if owner and owner ~= ARGV[2] and redis.call('SISMEMBER', KEYS[2], owner) == 1 then
  redis.call('SADD', KEYS[3], ARGV[1])
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
