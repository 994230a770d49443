-- prelude.lua   prepended to every script in runs/ and partitions/
--
-- KEYS[1] hash  the run                           KEYS[2] hash  partition -> its state, JSON
-- KEYS[3] hash  pending window -> sent_us         KEYS[4] set   partitions that another run has claimed
-- KEYS[5] hash  record identity -> text           KEYS[6] hash  attempt name -> attempts
-- KEYS[7] list  wakes the run's planner           KEYS[8] set   symbols with a claimed partition
-- KEYS[9] hash  partition -> run, for all runs        KEYS[10] set  runs that have not ended
-- KEYS[11] sorted set  run -> ms of its creation, for all runs
-- ARGV[1] run   ARGV[2] the planner's fencing number, '' from workers and commands
-- ARGV[3...] the script's own arguments
--
-- A script makes all of its changes or, if the run has ended or the caller's lease was lost, none.

local RUN, PARTITIONS, WINDOWS, DEFERRED, RECORDS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ATTEMPTS, WAKE, CLAIMED_SYMBOLS = KEYS[6], KEYS[7], KEYS[8]
local CLAIMS, ACTIVE, RUNS = KEYS[9], KEYS[10], KEYS[11]
local run, fence = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- Messages of one step get sent_us, sent_us + 1, …: the order in which they enter their queue.
local sent_us = time[1] * 1000000 + time[2]
local state = redis.call('HGET', RUN, 'state')

-- Returns nil if the script may write; else what it returns without writing:
-- 0 for a run that has ended, -1 for a planner that a later one has replaced.
local function refusal()
  if state ~= 'running' then return 0 end
  if fence ~= '' and redis.call('HGET', RUN, 'leader') ~= fence then return -1 end
  return nil
end

local function is_claimed_by_run(partition) return redis.call('HGET', CLAIMS, partition) == run end

local function load_partition(name)
  local json = redis.call('HGET', PARTITIONS, name)
  return json and cjson.decode(json)
end

-- sent_us is stored as a string: cjson writes numbers with 14 digits, microseconds have 16.
local function save_partition(name, partition)
  if type(partition.sent_us) == 'number' then partition.sent_us = string.format('%.0f', partition.sent_us) end
  redis.call('HSET', PARTITIONS, name, cjson.encode(partition))
end

-- Adds windows ARGV[first..last] as pending; returns how many were not pending before.
local function add_windows(first, last)
  local added = 0
  for i = first, last do
    added = added + redis.call('HSET', WINDOWS, ARGV[i], sent_us + i - first)
  end
  return added
end

-- ARGV[at] is a number of records, then identity and text of each; returns the index after them.
local function put_records(at)
  local after = at + 1 + 2 * tonumber(ARGV[at])
  for i = at + 1, after - 1, 2 do redis.call('HSET', RECORDS, ARGV[i], ARGV[i + 1]) end
  return after
end

-- ARGV[first...] are counter, amount, …
local function add_counts(first)
  for i = first, #ARGV, 2 do redis.call('HINCRBY', RUN, ARGV[i], ARGV[i + 1]) end
end

-- The planner checks the whole run at each wake, so a long list of wakes would only be wasted work.
local function wake_planner()
  redis.call('RPUSH', WAKE, 1)
  redis.call('LTRIM', WAKE, -10, -1)
end
