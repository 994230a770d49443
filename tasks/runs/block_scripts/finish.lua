-- finish.lua   a window is in, or has failed for good: counted once, and the last of its block fires the compaction
-- ARGV[3] block   ARGV[4] window   ARGV[5] how many windows take its place   ARGV[6...] these
-- ARGV[...] how many records   ARGV[...] these, identity, text, …   ARGV[...] counter, amount, …
-- Returns {is counted, the µs at which the first window in its place, or the compaction, counts as sent, is last}.
-- A second copy of a window changes nothing, nor does one of a run that has lost the block.
-- Cost: O(1), and one more for each window that takes its place.

if halted() or not is_mine(ARGV[3]) or redis.call('HDEL', WINDOWS, ARGV[4]) == 0 then return {0, sent_us, 0} end
local block = block_of(ARGV[3])
if not block then return {0, sent_us, 0} end
local instead, added = tonumber(ARGV[5]), 0
for i = 6, 5 + instead do added = added + redis.call('HSET', WINDOWS, ARGV[i], sent_us + i - 6) end
redis.call('HINCRBY', RUN, 'windows', added)
count(record(6 + instead))
wake()
block.left = block.left - 1 + added
local is_last = block.left == 0
if is_last then block.phase, block.since_ms, block.sent_us = 'compacting', now, sent_us end
keep(ARGV[3], block)
return {1, sent_us, is_last and 1 or 0}
