-- open.lua   opens a claimed partition: adds its pending windows; without any, it is compacted at once
-- ARGV[3] partition   ARGV[4] calls of its windows   ARGV[5] attempt to count, or ''
-- ARGV[6...] windows
-- Returns sent_us of the first message; 0 if the partition is not claimed or is open already.
-- Cost: O(1) for each window.

local refused = refusal()
if refused then return refused end
local partition = load_partition(ARGV[3])
if not partition or partition.phase ~= 'claimed' or not is_claimed_by_run(ARGV[3]) then return 0 end
local windows = #ARGV - 5
add_windows(6, #ARGV)
local phase = windows > 0 and 'fetching' or 'compacting'
save_partition(ARGV[3], {phase = phase, since_ms = now_ms, sent_us = sent_us, left = windows})
redis.call('HINCRBY', RUN, 'partitions', 1)
redis.call('HINCRBY', RUN, 'windows', windows)
redis.call('HINCRBY', RUN, 'calls_issued', ARGV[4])
if ARGV[5] ~= '' then redis.call('HINCRBY', ATTEMPTS, ARGV[5], 1) end
return sent_us
