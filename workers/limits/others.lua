-- others.lua   the second part of take, learn and close: what others on this address spend
-- KEYS[5]      hash: the last minutes as they were seen, and what follows from them for this one
--
-- Every answer's header tells what everybody on the address has spent. What is not ours is noted
-- second by second, as a profile of the minute. The next minute keeps back what others may still
-- spend after the last header's moment, by the profiles of the last three minutes seen.
-- Cost: O(1); once a minute 60 steps over three profiles.

local SECONDS = 60
local PROFILES = 4                   -- profiles stored: three of the past, one that is being made
local PAST = 3
local PAST_MINUTES = 10              -- an older profile is forgotten
local MIN_PACE_MS = 1000             -- an unusual pace is measured over at least this time
local LEAST_SEEN_S = 10              -- a minute seen for less is taken to go on as if over this time
local WHOLE_S = 57                   -- a minute seen so long has been seen whole
local UNUSUAL = 1.25                 -- more than so many times what is known is unusual
local FULL_SHARE = 0.9975            -- more used is a full minute: we leave more than that
local HIDDEN_LEAST = 0.5             -- in a full minute others may have wanted this share of the limit
local HIDDEN_TIMES = 1.5             --   or so many times what they got
local SEEK_SHARE = 0.1               -- share of the limit that may be lost to see what was hidden
local LATE_SHARE = 0.6               -- share of our fastest pace that the end of a minute relies on
local GENTLE_MS = 20000              -- longest time over which a few calls at a time spend the rest
local LATE_SPARE_MS = 2000           -- time before a minute's end that it does not rely on
local BURST_SHARE = 0.02             -- share of the limit that is a burst if it is spent at once
local BURST_NEAR_S = 2
local EDGE_MS = 1000                 -- so far into a minute, a header may be of the one before
local WIDTH = 6                      -- digits of a number in a profile; blanks for an unseen second
local UNSEEN = string.rep(' ', WIDTH)

local function unpacked(text, second)
  return text and tonumber(string.sub(text, second * WIDTH + 1, second * WIDTH + WIDTH)) or nil
end

local function packed(value)
  return string.format('%' .. WIDTH .. 'd', math.floor(math.min(value, 10 ^ WIDTH - 1) + 0.5))
end

local function slot_of(minute, what) return what .. minute % PROFILES end

-- Returns what has been seen of a minute, second by second.
local function seen_of(minute)
  local of_minute, seen =
    unpack(redis.call('HMGET', KEYS[5], slot_of(minute, 'minute'), slot_of(minute, 'seen')))
  if tonumber(of_minute or nil) == minute then return seen end
  seen = string.rep(UNSEEN, SECONDS)
  redis.call('HSET', KEYS[5], slot_of(minute, 'minute'), minute, slot_of(minute, 'seen'), seen,
    slot_of(minute, 'full'), 0)
  redis.call('PEXPIRE', KEYS[5], KEEP_MS)
  return seen
end

-- Notes that by this second others had spent so much; the last note of a second counts.
local function note_others(minute, second, spent)
  local seen, at = seen_of(minute), second * WIDTH
  seen = string.sub(seen, 1, at) .. packed(spent) .. string.sub(seen, at + WIDTH + 1)
  redis.call('HSET', KEYS[5], slot_of(minute, 'seen'), seen)
end

-- Notes that the minute was full, so that others may have wanted more than they got.
local function note_full(minute)
  seen_of(minute)
  redis.call('HSET', KEYS[5], slot_of(minute, 'full'), 1)
end

-- Returns the profile of a minute: by each second's end what others had spent at the least (low)
-- and at the most (high), and the total. `like` is the profile that a part not seen resembles; in
-- a full minute nobody spent any more.
local function profile_of(seen, is_full, like)
  local low, high, spent, last = {}, {}, 0, -1
  for second = 0, SECONDS - 1 do
    local noted = unpacked(seen, second)
    if noted then
      spent = math.max(spent, noted)
      for unseen = last + 1, second - 1 do high[unseen] = spent end
      last = second
    end
    low[second], high[second] = spent, spent
  end
  local total = spent
  if last >= 0 and last < WHOLE_S and not is_full then
    local missing = spent * (SECONDS / math.max(last + 1, LEAST_SEEN_S) - 1)
    for second = last + 1, SECONDS - 1 do
      local part = missing * (second - last) / (SECONDS - 1 - last)
      if like then part = like.low[second] - like.low[last] end
      low[second] = math.min(limit, spent + part)
      high[second] = low[second]
    end
    total = low[SECONDS - 1]
  end
  return {low = low, high = high, total = total, last = last, is_whole = last >= WHOLE_S}
end

-- Returns the profile of a full minute: others may have wanted more than they got, at any time
-- until it was seen to be full.
local function full_profile(profile)
  local low, high, got = {}, {}, profile.low[SECONDS - 1]
  local total = math.min(limit, math.max(limit * HIDDEN_LEAST, got * HIDDEN_TIMES))
  for second = 0, SECONDS - 1 do
    low[second] = second < profile.last and profile.low[second] or total
    high[second] = total
  end
  return {low = low, high = high, total = total, is_whole = false}
end

-- Returns the profiles of the newest minutes before this one, the newest last: by what others may
-- have wanted (most), and by what is likely (usual). And the total of the last minute if it was
-- full, else 0.
local function past_profiles(minute)
  local names = {}
  for slot = 0, PROFILES - 1 do
    names[#names + 1], names[#names + 2] = 'minute' .. slot, 'full' .. slot
    names[#names + 1] = 'seen' .. slot
  end
  local values, found = redis.call('HMGET', KEYS[5], unpack(names)), {}
  for slot = 0, PROFILES - 1 do
    local of_minute = tonumber(values[slot * 3 + 1] or nil)
    if of_minute and of_minute < minute and of_minute >= minute - PAST_MINUTES then
      local is_full = tonumber(values[slot * 3 + 2] or nil) == 1
      found[#found + 1] = {minute = of_minute, is_full = is_full, seen = values[slot * 3 + 3]}
    end
  end
  table.sort(found, function(one, other) return one.minute < other.minute end)
  while #found > PAST do table.remove(found, 1) end

  local most, usual = {}, {}
  for i, past in ipairs(found) do
    usual[i] = profile_of(past.seen, past.is_full, usual[i - 1])
    most[i] = past.is_full and full_profile(usual[i]) or usual[i]
  end
  -- Two full minutes in a row: others do want more. A later minute seen whole tells how much.
  for i = #found, 1, -1 do
    if found[i].is_full then
      local before, after = found[i - 1], found[i + 1]
      if after and not after.is_full and usual[i + 1].is_whole then usual[i] = usual[i + 1]
      elseif before and before.is_full or after and after.is_full then usual[i] = most[i] end
    end
  end
  local last = found[#found]
  local hidden = last and last.minute == minute - 1 and last.is_full and most[#found].total or 0
  return most, usual, hidden
end

-- Works out, once for each minute, what others may still spend from each second on: what they
-- spent after it in any of the past minutes (most), and in most of them (sure); and how much by
-- the second after it is nothing unusual (known). Returns the first of most and sure, what the last
-- minute may have hidden, and the most that was spent in one second.
local function expect_others(minute)
  local most_profiles, usual_profiles, hidden = past_profiles(minute)
  local most, sure, known, burst = {}, {}, {}, 0
  for second = 0, SECONDS - 1 do
    local largest, still, by_then = 0, {}, 0
    for i, profile in ipairs(most_profiles) do
      local usual = usual_profiles[i]
      largest = math.max(largest, profile.total - (profile.low[second - 1] or 0))
      still[i] = usual.total - (usual.low[second - 1] or 0)
      burst = math.max(burst, profile.low[second] - (profile.low[second - 1] or 0))
      by_then = math.max(by_then, profile.high[math.min(second + 1, SECONDS - 1)])
    end
    table.sort(still)
    most[second + 1], known[second + 1] = packed(largest), packed(by_then)
    sure[second + 1] = packed(still[math.max(1, #still - 1)] or 0)
  end
  redis.call('HSET', KEYS[5], 'for', minute, 'most', table.concat(most),
    'sure', table.concat(sure), 'known', table.concat(known))
  redis.call('PEXPIRE', KEYS[5], KEEP_MS)
  return tonumber(most[1]), tonumber(sure[1]), hidden, burst
end

-- Returns what expect_others has worked out for a minute: most, sure and known; nil if it has not.
local function expected_of(minute)
  local of_minute, most, sure, known =
    unpack(redis.call('HMGET', KEYS[5], 'for', 'most', 'sure', 'known'))
  if tonumber(of_minute or nil) == minute then return most, sure, known end
end

-- Takes over a higher used weight. It was counted between grant and answer: what is in it is noted
-- by the later of these, and what may still come is expected from the earlier on.
local function raise_header(count, used, granted_at)
  if used <= count.header then return end
  local began = count.minute * 60000
  local counted_from = granted_at + earliest() - now - began
  local counted_by = math.min(59999, math.max(0, latest() - began))
  local before = existing_count(count.minute - 1)
  -- A count that did not fall as the minute began is still that of the minute before.
  if counted_from < EDGE_MS and before and before.header > 0 and used >= before.header then return end
  pool.header_minute = math.max(pool.header_minute or 0, count.minute)
  count.header = used
  count.header_at = math.min(59999, math.max(count.header_at, math.floor(counted_from)))
  if pool.limit and used > count.spent and used > limit * FULL_SHARE then note_full(count.minute) end
  local others, second = math.max(count.others, used - count.spent), math.floor(count.header_at / 1000)
  if others == count.others and second + 1 == count.seen_seconds then return end
  local noted_second = math.floor(counted_by / 1000)
  count.others, count.seen_seconds = others, second + 1
  note_others(count.minute, noted_second, others)

  local most, sure, known = expected_of(count.minute)
  local expected, more = unpacked(known, noted_second) or 0, 0
  if count.others > expected * UNUSUAL + limit * OTHERS_MARGIN then
    -- More than ever by this second: it may go on at this pace.
    more = (count.others - expected) * (60000 - count.header_at)
      / math.max(count.header_at, MIN_PACE_MS)
  end
  count.others_most = math.min(limit, (unpacked(most, second) or 0) + more)
  count.others_sure = unpacked(sure, second) or 0
end

-- Returns true if a minute's beginning is to be confirmed by a first answer, as Redis's clock may
-- have been set: after a silence, after a minute that is not the one before, or after one that left
-- so little room that its weight must not be spent twice.
local function is_beginning_doubtful(minute, before)
  if not is_clock_known then return false end
  local is_next = minute - 1 == (pool.last_opened or minute - 1)
  local is_quiet = now - (pool.asked_at or now) > QUIET_MS
  local was_full = before and math.max(before.spent, before.header) > limit * (1 - EDGE_SPARE)
  return not is_next or is_quiet or was_full
end

-- Begins a minute, once: calls in flight from the minute before may be counted in this one too.
-- Returns the counts of both.
local function open_minute(minute)
  local before = existing_count(minute - 1)
  local count = count_of(minute)
  if count.is_open == 0 then
    count.is_open = 1
    if before then count.spent = count.spent + before.in_flight end
    count.others_most, count.others_sure, count.others_hidden, count.others_burst =
      expect_others(minute)
    pool.others_per_minute = count.others_sure
    if is_beginning_doubtful(minute, before) then
      count.check_until = now + math.min(CHECK_MOST_MS, 4 * (pool.rtt or DEFAULT_RTT_MS))
    end
    pool.last_opened = minute
    has_minute_begun = true
    pool.fastest = (pool.fastest or 0) * 15 / 16
  end
  return count, before
end

-- Returns true if in one of the last minutes much was spent at once about this second.
local function is_burst_near(count)
  local most = expected_of(count.minute)
  local second = math.max(0, math.floor(latest() / 1000) - count.minute * 60)
  local soon = unpacked(most, math.min(SECONDS - 1, second + BURST_NEAR_S)) or 0
  return (unpacked(most, math.min(SECONDS - 1, second)) or 0) - soon > limit * BURST_SHARE
end

-- Returns true if so much weight can be spent by a few calls at a time before a minute is over.
local function can_wait_gently(spend, few_pace) return spend <= few_pace * GENTLE_MS end

-- Returns the weight kept back for others while a minute still lasts so many ms, and the weight of
-- it that is let go in a ms. What they may not need is kept only as long as there is time left to
-- spend it, but never let go just before the second in which it may be needed: such seconds are
-- spared too. After a full minute as much as it may have hidden is kept until shortly before the
-- end, to see it come.
local function kept_for_others(count, left_ms, few_pace)
  local late_pace = math.max((pool.fastest or 0) / PACE_MS, limit / 20000) * LATE_SHARE
  if can_wait_gently(count.others_most - count.others_sure, few_pace) then
    late_pace = math.min(late_pace, few_pace)
  end
  local spare_ms = LATE_SPARE_MS
  if count.others_hidden == 0 and count.others_most - count.others_sure > limit * BURST_SHARE then
    spare_ms = spare_ms + (BURST_NEAR_S + 1) * 1000
  end
  local spendable_later = late_pace * math.max(0, left_ms - spare_ms)
  local kept = math.min(count.others_most, spendable_later)
  if left_ms > LATE_SPARE_MS then
    local seek = math.min(count.others_hidden - count.others, spendable_later + limit * SEEK_SHARE)
    kept = math.max(kept, seek)
  end
  if count.others_most > spendable_later and is_burst_near(count) then kept = count.others_most end
  if kept <= count.others_sure or kept >= count.others_most then
    return math.max(count.others_sure, kept), 0
  end
  return kept, late_pace
end
