-- release.lua   a claimed block of which nothing is left to do is let go of
-- ARGV[3] block   ARGV[4] what to count one try of, or ''
-- Returns 1; 0 where it is not claimed, or under way. Cost: O(1).

local halt = halted()
if halt then return halt end
local block = block_of(ARGV[3])
if not block or block.phase ~= 'claimed' then return 0 end
redis.call('HDEL', BLOCKS, ARGV[3])
if is_mine(ARGV[3]) then redis.call('HDEL', CLAIMS, ARGV[3]) end
redis.call('HINCRBY', RUN, 'blocks_held', 1)
if ARGV[4] ~= '' then redis.call('HINCRBY', TRIES, ARGV[4], 1) end
return 1
