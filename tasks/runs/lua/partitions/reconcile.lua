-- reconcile.lua   makes the parts of a run's state agree again after Redis has lost some of them
-- Returns {partition, state, …; pending window, sent_us, …}. Cost: O(open partitions + pending windows).
--
-- A partition that another run has claimed is deferred. A window without a partition is dropped: its rows
-- are found missing before the run ends. A partition without pending windows is to be compacted.

local refused = refusal()
if refused then return refused end
local partitions, windows = redis.call('HGETALL', PARTITIONS), redis.call('HGETALL', WINDOWS)
local pending = {}  -- partition -> number of its pending windows
for i = 1, #partitions, 2 do
  local owner = redis.call('HGET', CLAIMS, partitions[i])
  if not owner then
    redis.call('HSET', CLAIMS, partitions[i], run)
  elseif owner ~= run then
    redis.call('HDEL', PARTITIONS, partitions[i])
    redis.call('SADD', DEFERRED, partitions[i])
  end
  if not owner or owner == run then pending[partitions[i]] = 0 end
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
  local partition = load_partition(name)
  local phase = left > 0 and 'fetching' or 'compacting'
  if partition.phase ~= 'claimed' and (partition.left ~= left or partition.phase ~= phase) then
    local since_ms, last_sent_us = partition.since_ms, partition.sent_us
    save_partition(name, {phase = phase, since_ms = since_ms, sent_us = last_sent_us, left = left})
  end
end
return {redis.call('HGETALL', PARTITIONS), redis.call('HGETALL', WINDOWS)}
