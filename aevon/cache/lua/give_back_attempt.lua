-- Take one counted attempt back, after it succeeded.
-- KEYS[1]  the counter
-- returns  attempts still counted
local held = redis.pcall('GET', KEYS[1])
local count = type(held) == 'string' and tonumber(held)
if not count or count <= 0 then return 0 end
return redis.call('DECR', KEYS[1])
