-- budget_state.lua   the first part of take, learn and close: reads the pool and its minutes
-- KEYS[1] hash of the pool   KEYS[2..4] hashes of minutes; minute m is in KEYS[2 + m % 3]
-- ARGV[1] Redis ms; 0 for the server's own clock (tests pass their own)
-- Cost: O(1). Every stored number is an integer.

-- Fields of the hashes: {stored name, name in these scripts}. A stored name never changes, since
-- workers of different versions share a budget.
local POOL_FIELDS = {
  {'lo', 'offset_low'},              -- bounds of (exchange clock - Redis clock), ms
  {'hi', 'offset_high'},
  {'seen', 'offset_at'},             -- Redis ms at which the bounds were last narrowed
  {'limit', 'limit'},                -- weight the exchange allows in a calendar minute
  {'closed', 'closed_until'},        -- Redis ms before which no call may be sent
  {'since', 'closed_at'},            -- Redis ms at which the pool was last closed
  {'probing', 'is_reopening'},       -- 1 after a closing, until a trial call has been served
  {'probe', 'trial_until'},          -- Redis ms until which a trial call may be unanswered
  {'looked', 'last_probe_ms'},       -- Redis ms of the last call sent to measure what others spend
  {'foreign', 'others_per_minute'},  -- weight others on this address spent in the last minute
  {'rtt', 'rtt'},                    -- moving average of the round trips of answered calls, ms
}
local MINUTE_FIELDS = {
  {'minute', 'minute'},              -- minutes since the epoch, by the exchange's clock
  {'spent', 'spent'},                -- weight of our calls that may be counted in this minute
  {'flying', 'in_flight'},           -- part of `spent` that is not answered yet
  {'header', 'header'},              -- highest used weight that the exchange has reported
  {'at', 'header_at'},               -- when that was counted, ms since the minute began
  {'others', 'others'},              -- part of `header` that was surely not ours
  {'reserved', 'reserved'},          -- weight reserved for callers that wait for this minute
  {'opened', 'is_open'},             -- 1 once the minute has begun and open_minute has run
}

local BOOTSTRAP_LIMIT = 60           -- limit until exchangeInfo has named the real one
local CLOCK_SKEW_MS = 25             -- the counting clock may differ so much from the Date header's
local CLOCK_DRIFT = 0.0002           -- two clocks may drift apart so fast, ms per ms
local RESERVE = 0.005                -- share of the limit that is never spent
local OTHERS_MARGIN = 0.01           -- share of the limit left free once others are seen
local MIN_PACE_MS = 1000             -- the pace of others is measured over at least this time
local EDGE_SPARE = 0.25              -- share of the limit free in both minutes, for a call between
local LATE_MS = 10000                -- so far into a minute, unclaimed reservations lapse
local KEEP_MS = 86400000

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function read_hash(key, fields)
  local stored_names = {}
  for i, field in ipairs(fields) do stored_names[i] = field[1] end
  local values, record = redis.call('HMGET', key, unpack(stored_names)), {}
  for i, field in ipairs(fields) do record[field[2]] = tonumber(values[i] or nil) end
  return record
end

local function write_hash(key, fields, record)
  local stored = {}
  for _, field in ipairs(fields) do
    local value = record[field[2]]
    if value then
      stored[#stored + 1] = field[1]
      stored[#stored + 1] = string.format('%d', math.floor(value + 0.5))
    end
  end
  if #stored > 0 then
    redis.call('HSET', key, unpack(stored))
    redis.call('PEXPIRE', key, KEEP_MS)
  end
end

local pool = read_hash(KEYS[1], POOL_FIELDS)
local limit = pool.limit or BOOTSTRAP_LIMIT
local is_clock_known = pool.offset_low ~= nil
local counts = {}                    -- minute hashes to save, by key

local function key_of_minute(minute) return KEYS[2 + minute % 3] end

-- Returns the count of a minute, empty where the hash still holds an earlier minute.
local function count_of(minute)
  local key = key_of_minute(minute)
  if not counts[key] then counts[key] = read_hash(key, MINUTE_FIELDS) end
  if counts[key].minute ~= minute then
    counts[key] = {
      minute = minute, spent = 0, in_flight = 0, header = 0, header_at = 0, others = 0,
      reserved = 0, is_open = 0,
    }
  end
  return counts[key]
end

-- Returns the count of a minute, nil where it has none.
local function existing_count(minute)
  local key = key_of_minute(minute)
  local count = counts[key] or read_hash(key, MINUTE_FIELDS)
  if count.minute == minute then return count end
end

-- The bounds of the exchange's clock now, ms. They widen with the time since the last answer.
local function drift() return math.floor((now - (pool.offset_at or now)) * CLOCK_DRIFT) end
local function earliest() return now + (pool.offset_low or 0) - drift() - CLOCK_SKEW_MS end
local function latest() return now + (pool.offset_high or 0) + drift() + CLOCK_SKEW_MS end

-- Returns what others have surely spent in a minute so far, and what that makes by its end.
local function others_spent(count)
  return count.others, count.others * 60000 / math.max(count.header_at, MIN_PACE_MS)
end

-- Takes over a higher used weight. It was counted between grant and answer: half-way, on average.
local function raise_header(count, used, granted_at)
  if used > count.header then
    local counted_at = latest() - (now - granted_at) / 2 - count.minute * 60000
    count.header = used
    count.others = math.max(count.others, used - count.spent)
    count.header_at = math.min(60000, math.max(0, math.floor(counted_at)))
  end
end

-- Begins a minute, once: calls in flight from the minute before may be counted in this one too,
-- and what others spent in that minute is noted. Returns the counts of both.
local function open_minute(minute)
  local before = existing_count(minute - 1)
  local count = count_of(minute)
  if count.is_open == 0 then
    count.is_open = 1
    if before then
      count.spent = count.spent + before.in_flight
      local _, others = others_spent(before)
      pool.others_per_minute = math.max(others, ((pool.others_per_minute or 0) + others) / 2)
    else
      pool.others_per_minute = 0
    end
  end
  return count, before
end

local function save()
  write_hash(KEYS[1], POOL_FIELDS, pool)
  for key, count in pairs(counts) do write_hash(key, MINUTE_FIELDS, count) end
end
