-- Add one part of a flush to the record of the last one.
-- KEYS[1]  the record: a hash of numbers
-- ARGV[1]  when the flush began, Unix seconds: parts of the same flush have it in common
-- ARGV[2]  when this part ended
-- ARGV[3…] names and numbers, added up
-- returns  1 added | 0 a later flush has begun since
if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' then redis.call('DEL', KEYS[1]) end
local began = tonumber(redis.call('HGET', KEYS[1], 'began') or 0) or 0
-- One that has yet to begin is somebody else's.
if began > tonumber(ARGV[1]) and began <= tonumber(ARGV[2]) then return 0 end
if began ~= tonumber(ARGV[1]) then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'began', ARGV[1], 'ended', ARGV[2])
for i = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
