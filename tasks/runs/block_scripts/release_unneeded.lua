-- release_unneeded.lua   releases a claimed block of which nothing is missing
-- ARGV[3] block   ARGV[4] attempt to count, or ''
-- Returns 1; 0 if the block is not claimed or is open. Cost: O(1).

local refused = refusal()
if refused then return refused end
local block = load_block(ARGV[3])
if not block or block.phase ~= 'claimed' then return 0 end
redis.call('HDEL', BLOCKS, ARGV[3])
if is_claimed_by_run(ARGV[3]) then redis.call('HDEL', CLAIMS, ARGV[3]) end
redis.call('HINCRBY', RUN, 'blocks_held', 1)
if ARGV[4] ~= '' then redis.call('HINCRBY', ATTEMPTS, ARGV[4], 1) end
return 1
