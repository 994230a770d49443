-- record.lua   adds records to the run, and removes others
-- ARGV[3] number of records   ARGV[4...] identity, text, …: a record replaces one of its identity
-- ARGV[...] identities of records to remove
-- Returns 1; 0 if the run has ended: its records stay as they are. Cost: O(1) for each.

local refused = refusal()
if refused then return refused end
for i = put_records(3), #ARGV do redis.call('HDEL', RECORDS, ARGV[i]) end
return 1
