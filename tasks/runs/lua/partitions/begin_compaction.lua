-- begin_compaction.lua   gives a partition to a lease; earlier leases can no longer close or reopen it
-- ARGV[3] partition   ARGV[4] the lease's fencing number
-- Returns 1; 0 if the partition has pending windows, is closed, or a later lease has it. Cost: O(1).

if refusal() or not is_claimed_by_run(ARGV[3]) then return 0 end
local partition = load_partition(ARGV[3])
if not partition or partition.phase ~= 'compacting' then return 0 end
if partition.fence and tonumber(partition.fence) > tonumber(ARGV[4]) then return 0 end
partition.fence = ARGV[4]
save_partition(ARGV[3], partition)
return 1
