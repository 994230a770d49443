-- record.lua   a run has something to say, or takes back what it said
-- ARGV[3] how many records   ARGV[4...] these, identity, text, …: each takes the place of one of its identity
-- ARGV[...] identities of records to take back
-- Returns 1; 0 where the run has ended: what it said stands. Cost: O(1) for each.

local halt = halted()
if halt then return halt end
for i = record(3), #ARGV do redis.call('HDEL', RECORDS, ARGV[i]) end
return 1
