-- release_unneeded.lua   releases a claimed partition of which nothing is missing
-- ARGV[3] partition   ARGV[4] attempt to count, or ''
-- Returns 1; 0 if the partition is not claimed or is open. Cost: O(1).

local refused = refusal()
if refused then return refused end
local partition = load_partition(ARGV[3])
if not partition or partition.phase ~= 'claimed' then return 0 end
redis.call('HDEL', PARTITIONS, ARGV[3])
if is_claimed_by_run(ARGV[3]) then redis.call('HDEL', CLAIMS, ARGV[3]) end
redis.call('HINCRBY', RUN, 'partitions_held', 1)
if ARGV[4] ~= '' then redis.call('HINCRBY', ATTEMPTS, ARGV[4], 1) end
return 1
