-- close.lua   ends the compaction of a partition, also a failed one: releases the partition, counts it once
-- KEYS[12] string  Redis ms at which the partition was last compacted
-- ARGV[3] partition   ARGV[4] the lease's fencing number   ARGV[5] ms for which KEYS[12] is kept
-- ARGV[6] number of records   ARGV[7...] identity, text, …   ARGV[...] counter, amount, …
-- Returns 1; 0 if the partition is closed already or another lease compacts it. Cost: O(1).

if refusal() then return 0 end
local partition = load_partition(ARGV[3])
if not partition or partition.phase ~= 'compacting' or partition.fence ~= ARGV[4] then return 0 end
redis.call('HDEL', PARTITIONS, ARGV[3])
if is_claimed_by_run(ARGV[3]) then redis.call('HDEL', CLAIMS, ARGV[3]) end
redis.call('SET', KEYS[12], string.format('%d', now_ms), 'PX', ARGV[5])
redis.call('HINCRBY', RUN, 'partitions_done', 1)
add_counts(put_records(6))
wake_planner()
return 1
