-- Take one attempt back that CL.THROTTLE counted: count the others anew.
-- KEYS[1]  the counter
-- ARGV[1]  attempts allowed in a window, less one
-- ARGV[2]  attempts allowed in a window
-- ARGV[3]  window in seconds
-- returns  attempts still counted
local told = redis.call('CL.THROTTLE', KEYS[1], ARGV[1], ARGV[2], ARGV[3], 0)
local others = told[2] - told[3] - 1 -- the limit, what remains of it, and this one
redis.call('DEL', KEYS[1])
if others <= 0 then return 0 end
redis.call('CL.THROTTLE', KEYS[1], ARGV[1], ARGV[2], ARGV[3], others)
return others
