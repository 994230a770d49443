-- budget_state.lua   the first part of take, learn and close: reads the pool and its minutes
-- KEYS[1] hash of the pool   KEYS[2..4] hashes of minutes; minute m is in KEYS[2 + m % 3]
-- KEYS[5] hash of what others spent second by second: others.lua
-- ARGV[1] Redis ms; 0 for the server's own clock (tests pass their own)
-- Cost: O(1). Every number stored in KEYS[1..4] is an integer.

-- Fields of the hashes: {stored name, name in these scripts}. A stored name never changes, since
-- workers of different versions share a budget.
local POOL_FIELDS = {
  {'lo', 'offset_low'},              -- bounds of (exchange clock - Redis clock), ms
  {'hi', 'offset_high'},
  {'seen', 'offset_at'},             -- Redis ms at which the bounds were last narrowed
  {'limit', 'limit'},                -- weight the exchange allows in a calendar minute
  {'closed', 'closed_until'},        -- Redis ms before which no call may be sent
  {'since', 'closed_at'},            -- Redis ms at which the pool was last closed
  {'banend', 'ban_end'},             -- Redis ms until which the exchange asked us to stay away
  {'probing', 'is_reopening'},       -- 1 after a closing, until a trial call has been served
  {'probe', 'trial_until'},          -- Redis ms until which a trial call may be unanswered
  {'foreign', 'others_per_minute'},  -- weight that others on this address surely spend in a minute
  {'rtt', 'rtt'},                    -- moving average of the round trips of answered calls, ms
  {'refusals', 'refusals'},          -- closings since a call was last served
  {'headed', 'header_minute'},       -- newest minute of which a used weight has been reported
  {'granted', 'granted_at'},         -- Redis ms of the last grant
  {'opened', 'last_opened'},         -- the minute that began last
  {'turn', 'next_turn'},             -- Redis ms at which the next caller that waits may ask again
  {'asked', 'asked_at'},             -- Redis ms at which weight was last asked for
  {'doubtlo', 'doubt_low'},          -- bounds of (exchange clock - Redis clock), ms, by the last
  {'doubthi', 'doubt_high'},         --   answers that contradicted what was known
  {'doubts', 'doubts'},              -- number of those answers
  {'since2', 'pace_from'},           -- Redis ms from which `pace_spent` is counted, for PACE_MS
  {'spent2', 'pace_spent'},          -- weight granted since then
  {'fastest', 'fastest'},            -- weight granted in the busiest PACE_MS of late
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
  {'check', 'check_until'},          -- Redis ms until which its beginning awaits a first answer
  {'seen', 'seen_seconds'},          -- seconds of the minute that a header has covered
  {'most', 'others_most'},           -- weight that others may still spend after `header_at`
  {'sure', 'others_sure'},           -- part of it that they spent in most of the last minutes
  {'burst', 'others_burst'},         -- most that others spent in a second of the last minutes
  {'hidden', 'others_hidden'},       -- weight that others may have lacked in the last minute, or 0
  {'booked', 'is_look_booked'},      -- 1 once a caller has been told to come at the minute's end
}

local BOOTSTRAP_LIMIT = 60           -- limit until exchangeInfo has named the real one
local CLOCK_SKEW_MS = 25             -- the counting clock may differ so much from the Date header's
local CLOCK_DRIFT = 0.0002           -- two clocks may drift apart so fast, ms per ms
local RESERVE = 0.005                -- share of the limit that is never spent
local OTHERS_MARGIN = 0.01           -- share of the limit left free once others are seen
local EDGE_SPARE = 0.25              -- share of the limit free in both minutes, for a call between
local LATE_MS = 10000                -- so far into a minute, unclaimed reservations lapse
local QUIET_MS = 1000                -- who asks after such a silence may have missed a clock's step
local PACE_MS = 2000                 -- the fleet's own pace is measured over this time
local CHECK_MOST_MS = 3000           -- longest wait for the first answer of a minute
local DEFAULT_RTT_MS = 300
local KEEP_MS = 86400000

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local names_of = {}                  -- stored names, by fields
for _, fields in ipairs({POOL_FIELDS, MINUTE_FIELDS}) do
  local names = {}
  for i, field in ipairs(fields) do names[i] = field[1] end
  names_of[fields] = names
end
local stored_by_key = {}             -- what each hash held when it was read

local function read_hash(key, fields)
  local values, record = redis.call('HMGET', key, unpack(names_of[fields])), {}
  for i, field in ipairs(fields) do record[field[2]] = tonumber(values[i] or nil) end
  stored_by_key[key] = values
  return record
end

-- Writes the fields that have changed. A hash that begins is kept for KEEP_MS, and so is the pool's
-- from each minute on.
local function write_hash(key, fields, record, is_beginning)
  local changed, values = {}, stored_by_key[key]
  for i, field in ipairs(fields) do
    local value = record[field[2]]
    if value then
      local text = string.format('%d', math.floor(value + 0.5))
      if text ~= values[i] then
        changed[#changed + 1] = field[1]
        changed[#changed + 1] = text
      end
    end
  end
  if #changed > 0 then redis.call('HSET', key, unpack(changed)) end
  if is_beginning then redis.call('PEXPIRE', key, KEEP_MS) end
end

local pool = read_hash(KEYS[1], POOL_FIELDS)
local limit = pool.limit or BOOTSTRAP_LIMIT
local is_clock_known = pool.offset_low ~= nil
local counts = {}                    -- minute hashes to save, by key

local function key_of_minute(minute) return KEYS[2 + minute % 3] end

local read_counts = {}               -- minute hashes as they were read, by key

-- Returns the count of a minute, nil where it has none.
local function existing_count(minute)
  local key = key_of_minute(minute)
  local count = counts[key] or read_counts[key]
  if not count then
    count = read_hash(key, MINUTE_FIELDS)
    read_counts[key] = count
  end
  if count.minute == minute then return count end
end

-- Returns the count of a minute, to be changed; empty where the hash still holds an earlier minute.
local function count_of(minute)
  local key = key_of_minute(minute)
  local count = existing_count(minute) or {minute = minute, is_new = true}
  for _, field in ipairs(MINUTE_FIELDS) do count[field[2]] = count[field[2]] or 0 end
  counts[key] = count
  return count
end

-- The bounds of the exchange's clock now, ms. They widen with the time since the last answer.
local function drift() return math.floor((now - (pool.offset_at or now)) * CLOCK_DRIFT) end
local function earliest() return now + (pool.offset_low or 0) - drift() - CLOCK_SKEW_MS end
local function latest() return now + (pool.offset_high or 0) + drift() + CLOCK_SKEW_MS end

local has_minute_begun = false       -- true once open_minute has begun one

local function save()
  write_hash(KEYS[1], POOL_FIELDS, pool, has_minute_begun)
  for key, count in pairs(counts) do write_hash(key, MINUTE_FIELDS, count, count.is_new) end
end
