-- advance.lua   moves the planner's cursor past partitions that it has opened, or that are held
-- ARGV[3] index of the symbol   ARGV[4] ms of the next partition   ARGV[5] calls ahead
-- ARGV[6] partitions skipped because they are held
-- Returns 1. Cost: O(1).

local refused = refusal()
if refused then return refused end
redis.call('HSET', RUN, 'symbol', ARGV[3], 'start_ms', ARGV[4], 'calls_ahead', ARGV[5])
redis.call('HINCRBY', RUN, 'partitions_held', ARGV[6])
return 1
