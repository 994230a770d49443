-- advance.lua   the planner has come so far: the blocks before its cursor are issued, or held
-- ARGV[3] index of the symbol   ARGV[4] ms from which its blocks are to be issued   ARGV[5] calls ahead
-- ARGV[6] blocks passed over since they are held
-- Returns 1. Cost: O(1).

local halt = halted()
if halt then return halt end
redis.call('HSET', RUN, 'symbol', ARGV[3], 'start_ms', ARGV[4], 'calls_ahead', ARGV[5])
redis.call('HINCRBY', RUN, 'blocks_held', ARGV[6])
return 1
