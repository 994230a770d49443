-- reconcile.lua   all that is under way, after its parts were made to agree: any key may have been lost with a Redis
-- Returns {blocks with their records, flat; windows with the ms they were sent, flat}.
-- A block whose claim is another run's waits for it; windows without a block are dropped (what they would have brought
-- is found missing before the run ends); a block without windows is to be compacted.
-- Cost: O(blocks + windows under way).

local halt = halted()
if halt then return halt end
local blocks, windows, left = redis.call('HGETALL', BLOCKS), redis.call('HGETALL', WINDOWS), {}
for i = 1, #blocks, 2 do
  local owner = redis.call('HGET', CLAIMS, blocks[i])
  if not owner then
    redis.call('HSET', CLAIMS, blocks[i], run)
  elseif owner ~= run then
    redis.call('HDEL', BLOCKS, blocks[i])
    redis.call('SADD', DEFERRED, blocks[i])
  end
  if not owner or owner == run then left[blocks[i]] = 0 end
end
for i = 1, #windows, 2 do
  local name = string.match(windows[i], '^(.*)|')
  if left[name] then left[name] = left[name] + 1 else redis.call('HDEL', WINDOWS, windows[i]) end
end
for name, number in pairs(left) do
  local block = block_of(name)
  if block.phase ~= 'claimed' and (block.left ~= number or (number > 0) ~= (block.phase == 'fetching')) then
    local phase = number > 0 and 'fetching' or 'compacting'
    keep(name, {phase = phase, since_ms = block.since_ms, sent_us = block.sent_us, left = number})
  end
end
return {redis.call('HGETALL', BLOCKS), redis.call('HGETALL', WINDOWS)}
