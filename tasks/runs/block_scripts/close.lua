-- close.lua   a block is compacted, or could not be: it is let go of, and counted once
-- KEYS[12] string  Redis ms at which the block was last compacted
-- ARGV[3] block   ARGV[4] fencing number of the lease   ARGV[5] ms for which KEYS[12] is kept
-- ARGV[6] how many records   ARGV[7...] these, identity, text, …   ARGV[...] counter, amount, …
-- Returns 1; 0 where the block is closed already, or not this lease's. Cost: O(1).

if halted() then return 0 end
local block = block_of(ARGV[3])
if not block or block.phase ~= 'compacting' or block.fence ~= ARGV[4] then return 0 end
redis.call('HDEL', BLOCKS, ARGV[3])
if is_mine(ARGV[3]) then redis.call('HDEL', CLAIMS, ARGV[3]) end
redis.call('SET', KEYS[12], string.format('%d', now), 'PX', ARGV[5])
redis.call('HINCRBY', RUN, 'blocks_done', 1)
count(record(6))
wake()
return 1
