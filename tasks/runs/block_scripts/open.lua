-- open.lua   a claimed block comes under way, once: its windows are to be fetched, or it is to be compacted at once
-- ARGV[3] block   ARGV[4] calls of its windows   ARGV[5] what to count one try of, or ''   ARGV[6...] windows
-- Returns the µs at which the first counts as sent; 0 where the block is not claimed, or under way already.
-- Cost: O(1) for each window.

local halt = halted()
if halt then return halt end
local block = block_of(ARGV[3])
if not block or block.phase ~= 'claimed' or not is_mine(ARGV[3]) then return 0 end
local windows = #ARGV - 5
for i = 6, #ARGV do redis.call('HSET', WINDOWS, ARGV[i], sent_us + i - 6) end
keep(ARGV[3], {phase = windows > 0 and 'fetching' or 'compacting', since_ms = now, sent_us = sent_us, left = windows})
redis.call('HINCRBY', RUN, 'blocks', 1)
redis.call('HINCRBY', RUN, 'windows', windows)
redis.call('HINCRBY', RUN, 'calls_issued', ARGV[4])
if ARGV[5] ~= '' then redis.call('HINCRBY', TRIES, ARGV[5], 1) end
return sent_us
