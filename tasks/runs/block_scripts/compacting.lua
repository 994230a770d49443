-- compacting.lua   somebody begins to compact a block; whoever began before closes and reopens nothing any more
-- ARGV[3] block   ARGV[4] fencing number of the lease
-- Returns 1; 0 where the block has windows to come, is closed, or a later lease is at it. Cost: O(1).

if halted() or not is_mine(ARGV[3]) then return 0 end
local block = block_of(ARGV[3])
if not block or block.phase ~= 'compacting' then return 0 end
if block.fence and tonumber(block.fence) > tonumber(ARGV[4]) then return 0 end
block.fence = ARGV[4]
keep(ARGV[3], block)
return 1
