-- mark_sent.lua   renews sent_us of windows and partitions whose messages are sent again or requeued
-- ARGV[3] µs until they are sent   ARGV[4] number of windows   ARGV[5...] windows, then partitions
-- Returns sent_us of the first. Skips windows and partitions that are done. Cost: O(1) for each.

local refused = refusal()
if refused then return refused end
sent_us = sent_us + tonumber(ARGV[3])
local last_window = 4 + tonumber(ARGV[4])
for i = 5, last_window do
  if redis.call('HEXISTS', WINDOWS, ARGV[i]) == 1 then
    redis.call('HSET', WINDOWS, ARGV[i], sent_us + i - 5)
  end
end
for i = last_window + 1, #ARGV do
  local partition = load_partition(ARGV[i])
  if partition then
    partition.sent_us = sent_us
    save_partition(ARGV[i], partition)
  end
end
return sent_us
