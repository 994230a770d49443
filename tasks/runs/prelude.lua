-- run.lua   begins every script that moves a run; a script changes all that it names, or nothing
-- KEYS[1] hash  the run                            KEYS[2] hash  block -> its record, JSON
-- KEYS[3] hash  window -> µs when it was sent      KEYS[4] set   blocks that wait for another run
-- KEYS[5] hash  what the run has to say            KEYS[6] hash  name -> tries
-- KEYS[7] list  wakes the run's planner            KEYS[8] set   symbols of which a block was claimed
-- KEYS[9] hash  block -> run, of all runs          KEYS[10] set  runs that have not ended
-- KEYS[11] sorted set  all runs by the ms of their creation
-- ARGV[1] run   ARGV[2] the planner's fencing number, '' from workers and commands   ARGV[3...] the script's own

local RUN, BLOCKS, WINDOWS, DEFERRED, RECORDS, TRIES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local WAKE, TOUCHED, CLAIMS, ACTIVE, RUNS = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local run, fence = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- When messages count as sent, microseconds: each of one step a microsecond later than the one before it.
local sent_us = time[1] * 1000000 + time[2]
local state = redis.call('HGET', RUN, 'state')

-- What a script returns that may change nothing: 0 for a run that has ended, -1 to a planner that another succeeded.
local function halted()
  if state ~= 'running' then return 0 end
  if fence ~= '' and redis.call('HGET', RUN, 'leader') ~= fence then return -1 end
  return nil
end

local function is_mine(block) return redis.call('HGET', CLAIMS, block) == run end

local function block_of(name)
  local told = redis.call('HGET', BLOCKS, name)
  return told and cjson.decode(told)
end

-- Microseconds have more digits than JSON keeps of a number.
local function keep(name, block)
  if type(block.sent_us) == 'number' then block.sent_us = string.format('%.0f', block.sent_us) end
  redis.call('HSET', BLOCKS, name, cjson.encode(block))
end

-- ARGV[at] is how many records follow, each as identity and text; returns the index behind them.
local function record(at)
  local behind = at + 1 + 2 * tonumber(ARGV[at])
  for i = at + 1, behind - 1, 2 do redis.call('HSET', RECORDS, ARGV[i], ARGV[i + 1]) end
  return behind
end

-- ARGV[first...] are counter, amount, …
local function count(first)
  for i = first, #ARGV, 2 do redis.call('HINCRBY', RUN, ARGV[i], ARGV[i + 1]) end
end

-- Who waits for a run looks at all of it at each wake: more than a few tell nothing more.
local function wake()
  redis.call('RPUSH', WAKE, 1)
  redis.call('LTRIM', WAKE, -10, -1)
end
