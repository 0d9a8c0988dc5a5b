-- Clear a mark, only if nothing newer than what was persisted has been marked.
-- KEYS[1]  the index: user ids scored by revision
-- ARGV[1]  the user id
-- ARGV[2]  the revision that is in PostgreSQL
-- returns  1 cleared | 0 marked anew
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) > tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
