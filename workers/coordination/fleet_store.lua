-- Keep or give up the store that the fleet of this Redis serves. Cost: O(log n) of the processes.
-- KEYS[1] string: the store, JSON with its id   KEYS[2] sorted set: process -> Redis ms of its lapse
-- ARGV[1] keep | release   ARGV[2] own id, empty if not known   ARGV[3] own store   ARGV[4] TTL, ms
-- keep sets the own store if there is none, and renews it; without an id it changes nothing.
-- release deletes the own store if no process is alive.
-- Returns another store, which is left as it is; else an empty string.
local served = redis.call('GET', KEYS[1])
if served and cjson.decode(served).id ~= ARGV[2] then return served end
if ARGV[1] == 'keep' then
  if ARGV[2] ~= '' then redis.call('SET', KEYS[1], served or ARGV[3], 'PX', ARGV[4]) end
  return ''
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if redis.call('ZCOUNT', KEYS[2], string.format('%.0f', now), '+inf') == 0 then
  redis.call('DEL', KEYS[1])
end
return ''
