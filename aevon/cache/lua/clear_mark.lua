-- Remove a member of an index, only if it has not been marked anew.
-- KEYS[1]  the index: user ids scored by revision, or by a time
-- ARGV[1]  the user id
-- ARGV[2]  the highest score to remove
-- returns  1 removed | 0 not there, or marked anew
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
