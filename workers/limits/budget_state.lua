-- budget_state.lua   what take, learn and close begin with: the pool's state and the minutes' counts, read once.
-- KEYS[1] hash   pool     lo hi seen        bounds of (exchange clock - Redis clock), ms; when last narrowed
--                         limit             weight the exchange allows in a calendar minute
--                         closed since      no call before `closed`; since when; both Redis ms
--                         probing probe     1 while reopening; until when a probe is out
--                         looked            when a call last went out to see whether others use what is kept for them
--                         foreign           weight others on this address spent in the last full minute
--                         rtt               moving average of answered calls, ms
-- KEYS[2..4]     minutes  minute            which one (exchange clock, minutes since the epoch), stored by minute % 3
--                         spent             weight of our calls that may be counted in it
--                         flying            part of it whose answers are not in
--                         header at         highest count the exchange reported; how far into the minute, ms
--                         others            part of it that was surely not ours
--                         reserved          places given to callers who wait for it
--                         opened            1 once it has begun and what was in flight has been carried over
-- ARGV[1] Redis ms, 0 for the server's own clock (tests pass their own)
-- Cost: O(1). Every number is an integer.

local BOOTSTRAP_LIMIT = 60        -- weight allowed before exchangeInfo has told the limit
local SKEW_MS = 25                -- how far the clock that counts may stand off the one in the Date header
local DRIFT = 0.0002              -- how fast two clocks may part, ms per ms
local RESERVE = 0.005             -- part of the limit never spent
local FOREIGN_MARGIN = 0.01       -- part of the limit left to others, once others are seen
local PACE_MS = 1000              -- least time from which the pace of others is told
local EDGE_SPARE = 0.25            -- part of the limit free in both minutes, for a call at their edge
local LATE_MS = 10000             -- after this much of a minute, unclaimed places are given away
local KEEP_MS = 86400000

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function load(key, names)
  local values, record = redis.call('HMGET', key, unpack(names)), {}
  for i, name in ipairs(names) do record[name] = tonumber(values[i] or nil) end
  return record
end

local MINUTE = {'minute', 'spent', 'flying', 'header', 'at', 'others', 'reserved', 'opened'}
local pool = load(KEYS[1], {'lo', 'hi', 'seen', 'limit', 'closed', 'since', 'probing', 'probe', 'looked', 'foreign',
  'rtt'})
local limit = pool.limit or BOOTSTRAP_LIMIT
local knows_clock = pool.lo ~= nil
local records = {}

-- The count of one minute, begun empty where the slot still holds an older one.
local function count_of(minute)
  local key = KEYS[2 + minute % 3]
  if not records[key] then records[key] = load(key, MINUTE) end
  local count = records[key]
  if count.minute ~= minute then
    records[key] = {minute = minute, spent = 0, flying = 0, header = 0, at = 0, others = 0, reserved = 0, opened = 0}
  end
  return records[key]
end

-- The counts as they stand, without beginning one: nil where that minute has none.
local function peek(minute)
  local key = KEYS[2 + minute % 3]
  local count = records[key] or load(key, MINUTE)
  if count.minute == minute then return count end
end

-- The earliest and the latest the exchange's clock may show now.
local function drift() return math.floor((now - (pool.seen or now)) * DRIFT) end
local function earliest() return now + (pool.lo or 0) - drift() - SKEW_MS end
local function latest() return now + (pool.hi or 0) + drift() + SKEW_MS end

-- What others surely spent in this minute so far, and what they will have by its end at that pace.
local function others_in(count)
  return count.others, count.others * 60000 / math.max(count.at, PACE_MS)
end

-- It was counted between grant and answer: taken half-way.
local function raise_header(count, used, granted)
  if used > count.header then
    count.header = used
    count.others = math.max(count.others, used - count.spent)
    count.at = math.min(60000, math.max(0, math.floor(latest() - (now - granted) / 2 - count.minute * 60000)))
  end
end

-- Opens `minute` once: calls in flight from the one before may be counted in it, and what others spent is noted.
local function open(minute)
  local before = peek(minute - 1)
  local count = count_of(minute)
  if count.opened == 0 then
    count.opened = 1
    if before then
      count.spent = count.spent + before.flying
      local _, foreign = others_in(before)
      pool.foreign = math.max(foreign, ((pool.foreign or 0) + foreign) / 2)
    else
      pool.foreign = 0
    end
  end
  return count, before
end

local function save()
  local fields = {}
  for name, value in pairs(pool) do
    fields[#fields + 1] = name
    fields[#fields + 1] = string.format('%d', math.floor(value + 0.5))
  end
  if #fields > 0 then
    redis.call('HSET', KEYS[1], unpack(fields))
    redis.call('PEXPIRE', KEYS[1], KEEP_MS)
  end
  for key, count in pairs(records) do
    if count.minute then
      redis.call('HSET', key, 'minute', count.minute, 'spent', count.spent, 'flying', count.flying,
        'header', count.header, 'at', count.at, 'others', count.others, 'reserved', count.reserved, 'opened', count.opened)
      redis.call('PEXPIRE', key, KEEP_MS)
    end
  end
end
