-- reopen.lua   sends a partition from compaction back to fetching, for windows not attempted too often
-- ARGV[3] partition   ARGV[4] the lease's fencing number
-- ARGV[5...] window, attempt name, max attempts, calls, …
-- Returns {sent_us of the first window, then 1 or 0 for each window: accepted or not};
-- 0 if the partition is not this lease's. Cost: O(1) for each window.
--
-- Attempts are counted in the same step, so a compaction that is killed has reopened the partition for
-- all of the windows or for none.

if refusal() or not is_claimed_by_run(ARGV[3]) then return 0 end
local partition = load_partition(ARGV[3])
if not partition or partition.phase ~= 'compacting' or partition.fence ~= ARGV[4] then return 0 end
local answer, added, calls = {sent_us}, 0, 0
for i = 5, #ARGV, 4 do
  local window, attempt, max_attempts = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local is_accepted = redis.call('HINCRBY', ATTEMPTS, attempt, 1) < max_attempts
  if is_accepted then
    added = added + redis.call('HSET', WINDOWS, window, sent_us + added)
    calls = calls + tonumber(ARGV[i + 3])
  end
  answer[#answer + 1] = is_accepted and 1 or 0
end
if added > 0 then
  save_partition(ARGV[3], {phase = 'fetching', since_ms = now_ms, sent_us = sent_us, left = added})
  redis.call('HINCRBY', RUN, 'windows', added)
  redis.call('HINCRBY', RUN, 'calls_issued', calls)
end
return answer
