-- count.lua   something was done that no other move of the run counts
-- ARGV[3...] counter, amount, …
-- Returns 1, or 0 where the run has ended. Cost: O(1) for each.

local halt = halted()
if halt then return halt end
count(3)
return 1
