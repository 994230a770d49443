-- reconcile.lua   makes the parts of a run's state agree again after Redis has lost some of them
-- Returns {block, state, …; pending window, sent_us, …}. Cost: O(open blocks + pending windows).
--
-- A block that another run has claimed is deferred. A window without a block is dropped: its rows
-- are found missing before the run ends. A block without pending windows is to be compacted.

local refused = refusal()
if refused then return refused end
local blocks, windows = redis.call('HGETALL', BLOCKS), redis.call('HGETALL', WINDOWS)
local pending = {}  -- block -> number of its pending windows
for i = 1, #blocks, 2 do
  local owner = redis.call('HGET', CLAIMS, blocks[i])
  if not owner then
    redis.call('HSET', CLAIMS, blocks[i], run)
  elseif owner ~= run then
    redis.call('HDEL', BLOCKS, blocks[i])
    redis.call('SADD', DEFERRED, blocks[i])
  end
  if not owner or owner == run then pending[blocks[i]] = 0 end
end
for i = 1, #windows, 2 do
  local name = string.match(windows[i], '^(.*)|')
  if pending[name] then
    pending[name] = pending[name] + 1
  else
    redis.call('HDEL', WINDOWS, windows[i])
  end
end
for name, left in pairs(pending) do
  local block = load_block(name)
  local phase = left > 0 and 'fetching' or 'compacting'
  if block.phase ~= 'claimed' and (block.left ~= left or block.phase ~= phase) then
    local since_ms, last_sent_us = block.since_ms, block.sent_us
    save_block(name, {phase = phase, since_ms = since_ms, sent_us = last_sent_us, left = left})
  end
end
return {redis.call('HGETALL', BLOCKS), redis.call('HGETALL', WINDOWS)}
