-- sent.lua   messages are sent again, or go to the end of their queue: what they speak of counts as sent now
-- ARGV[3] µs by which they will be sent later   ARGV[4] how many windows
-- ARGV[5...] windows, then blocks that are to be compacted
-- Returns the µs at which the first counts as sent. What is no longer under way stays so. Cost: O(1) for each.

local halt = halted()
if halt then return halt end
sent_us = sent_us + tonumber(ARGV[3])
local windows = tonumber(ARGV[4])
for i = 5, 4 + windows do
  if redis.call('HEXISTS', WINDOWS, ARGV[i]) == 1 then redis.call('HSET', WINDOWS, ARGV[i], sent_us + i - 5) end
end
for i = 5 + windows, #ARGV do
  local block = block_of(ARGV[i])
  if block then
    block.sent_us = sent_us
    keep(ARGV[i], block)
  end
end
return sent_us
