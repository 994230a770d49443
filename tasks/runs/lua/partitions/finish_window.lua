-- finish_window.lua   takes a window off the pending ones; the last one starts the compaction
-- ARGV[3] partition   ARGV[4] window   ARGV[5] number of replacements   ARGV[6...] replacement windows
-- ARGV[...] number of records   ARGV[...] identity, text, …   ARGV[...] counter, amount, …
-- Returns {is counted, sent_us of the first replacement or of the compaction, is last of partition}.
-- Changes nothing if the window is not pending (a second copy) or the run has lost the partition.
-- Cost: O(1) and O(1) for each replacement.

local not_counted = {0, sent_us, 0}
if refusal() or not is_claimed_by_run(ARGV[3]) then return not_counted end
if redis.call('HDEL', WINDOWS, ARGV[4]) == 0 then return not_counted end
local partition = load_partition(ARGV[3])
if not partition then return not_counted end
local replacements = tonumber(ARGV[5])
local added = add_windows(6, 5 + replacements)
redis.call('HINCRBY', RUN, 'windows', added)
add_counts(put_records(6 + replacements))
wake_planner()
partition.left = partition.left - 1 + added
local is_last = partition.left == 0
if is_last then partition.phase, partition.since_ms, partition.sent_us = 'compacting', now_ms, sent_us end
save_partition(ARGV[3], partition)
return {1, sent_us, is_last and 1 or 0}
