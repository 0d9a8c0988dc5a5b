-- Take one counted attempt back, after it succeeded.
-- KEYS[1]  the counter
-- returns  attempts still counted
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count <= 0 then return 0 end
return redis.call('DECR', KEYS[1])
