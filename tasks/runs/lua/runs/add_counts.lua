-- add_counts.lua   adds to the run's counters
-- ARGV[3...] counter, amount, …
-- Returns 1; 0 if the run has ended. Cost: O(1) for each.

local refused = refusal()
if refused then return refused end
add_counts(3)
return 1
