-- begin_compaction.lua   gives a block to a lease; earlier leases can no longer close or reopen it
-- ARGV[3] block   ARGV[4] the lease's fencing number
-- Returns 1; 0 if the block has pending windows, is closed, or a later lease has it. Cost: O(1).

if refusal() or not is_claimed_by_run(ARGV[3]) then return 0 end
local block = load_block(ARGV[3])
if not block or block.phase ~= 'compacting' then return 0 end
if block.fence and tonumber(block.fence) > tonumber(ARGV[4]) then return 0 end
block.fence = ARGV[4]
save_block(ARGV[3], block)
return 1
