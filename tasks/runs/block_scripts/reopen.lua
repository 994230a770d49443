-- reopen.lua   a block that is being compacted needs windows first: those that were not tried too often are to be fetched
-- ARGV[3] block   ARGV[4] fencing number of the lease   ARGV[5...] window, what counts its tries, most tries, calls, …
-- Returns {µs at which the first counts as sent, 1 or 0 for each window}; 0 where the block is not this lease's.
-- The tries are counted in the same step: a compaction that is killed has asked for all of them, or for none.
-- Cost: O(1) for each window.

if halted() or not is_mine(ARGV[3]) then return 0 end
local block = block_of(ARGV[3])
if not block or block.phase ~= 'compacting' or block.fence ~= ARGV[4] then return 0 end
local accepted, added, calls = {sent_us}, 0, 0
for i = 5, #ARGV, 4 do
  local is_accepted = redis.call('HINCRBY', TRIES, ARGV[i + 1], 1) < tonumber(ARGV[i + 2])
  if is_accepted then
    added = added + redis.call('HSET', WINDOWS, ARGV[i], sent_us + added)
    calls = calls + tonumber(ARGV[i + 3])
  end
  accepted[#accepted + 1] = is_accepted and 1 or 0
end
if added > 0 then
  keep(ARGV[3], {phase = 'fetching', since_ms = now, sent_us = sent_us, left = added})
  redis.call('HINCRBY', RUN, 'windows', added)
  redis.call('HINCRBY', RUN, 'calls_issued', calls)
end
return accepted
