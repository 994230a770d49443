-- take.lua    may a call of this weight be sent now?
-- KEYS        as in budget_state.lua
-- ARGV[2] weight   ARGV[3] our share of the limit, in millionths   ARGV[4] minute we hold a place in, or -1
-- ARGV[5] how long a probe may be out, ms
-- Returns     {1, minute, Redis ms, weight left, ms left in the minute, rtt}   granted, charged to that minute
--             {0, ms to wait, minute in which a place is kept or -1, 1 closed} ask again then
--             {-1, weight that fits in a minute, limit}                    the limit is known, and the call never fits
-- Cost: O(1).

local weight, share, place, probe_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ours = limit * share / 1000000
local rtt = pool.rtt or 300
local DOUBTFUL = 1.25        -- a pace of others so many times the last minute's is doubted
local LOOK_AGAIN_MS = 3000   -- how often one call looks whether others use the weight that is kept for them

local function wait_for(ms, kept, closed)
  save()
  return {0, math.max(1, math.ceil(ms)), kept or -1, closed or 0}
end

-- Whoever waited for room would wait for ever.
local most = math.floor(math.min(ours, limit * (1 - RESERVE)))
if pool.limit and weight > most then return {-1, most, limit} end

-- The exchange's minute, certain while both ends of our uncertainty agree on it.
local minute = math.floor(earliest() / 60000)
local certain = minute == math.floor(latest() / 60000)
local begins_in = math.ceil(((minute + 1) * 60000 - earliest()) * (1 + DRIFT))
local count, before = open(minute)
local closed = now < (pool.closed or 0)
if place == minute + 1 and not closed then return wait_for(begins_in, place) end
if place == minute or place == minute + 1 then
  local held = count_of(place)
  held.reserved = math.max(0, held.reserved - weight)
end

if closed then return wait_for(pool.closed - now, nil, 1) end
local is_probe = (pool.probing or 0) == 1 or not knows_clock
if is_probe and now < (pool.probe or 0) then return wait_for(math.min(rtt, pool.probe - now)) end

-- What others will still spend in this minute: as much as in the last one, or at the pace seen so far.
local seen, paced = others_in(count)
local foreign = pool.foreign or 0
local expected = math.max(foreign, paced)
local others = 0
if expected > 0 then others = math.max(0, expected - seen) + limit * FOREIGN_MARGIN end
-- A pace far beyond the last minute's is doubtful: a few seldom calls will show it better. Room is kept for them.
local is_doubtful = paced > foreign * DOUBTFUL + limit * FOREIGN_MARGIN
if is_doubtful then others = others + weight * math.floor(begins_in / LOOK_AGAIN_MS) end

local places = count.reserved
if place == minute or 60000 - begins_in > LATE_MS then places = 0 end
local used = math.max(count.spent + count.others, count.header + count.flying + (before and before.flying or 0))
local full = math.floor(math.min(limit * (1 - RESERVE) - used, ours - count.spent))
local left = math.floor(math.min(limit * (1 - RESERVE) - used - others, ours - count.spent) - places)

-- At a minute's uncertain edge a call is sent only where both minutes have room to spare; it is charged to both.
local following = count_of(minute + 1)
local spare = limit * EDGE_SPARE + weight
local edge = left >= spare and ours - following.spent - following.reserved - count.flying >= spare

-- Where that keeps us from asking, nobody would ever know whether they use it: one call now and then finds out.
local unseen = paced * (latest() - minute * 60000 - count.at) / 60000 + limit * FOREIGN_MARGIN
local kept = weight > left and weight <= full - places - unseen and begins_in > LOOK_AGAIN_MS
local looks = kept and is_doubtful and now - (pool.looked or 0) >= LOOK_AGAIN_MS

if certain or edge or not knows_clock then
  if weight <= left or looks then
    count.spent = count.spent + weight
    count.flying = count.flying + weight
    if is_probe then pool.probe = now + probe_ms end
    if looks then pool.looked = now end
    save()
    return {1, minute, now, math.max(0, left - weight), begins_in, math.floor(rtt)}
  end
  if weight <= full and begins_in > LOOK_AGAIN_MS then return wait_for(LOOK_AGAIN_MS) end
end

-- A full minute, or its edge: a place in the next one, if that has any.
local room = math.min(ours, limit * (1 - RESERVE) - (pool.foreign or 0)) - following.spent
  - following.reserved
if weight > room then return wait_for(begins_in) end
following.reserved = following.reserved + weight
return wait_for(begins_in, minute + 1)
