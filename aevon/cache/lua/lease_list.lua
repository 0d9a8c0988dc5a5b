-- Leave a lease, as a list's only element, for the one who may fill it (see lease.lua).
-- KEYS[1]  the list
-- ARGV[1]  the lease, a JSON text {"_lease": token}
-- ARGV[2]  lifetime in ms; what looks like a lease and has a longer one was left by no reader
-- ARGV[3]  the newest element that was read, of a list not to be believed, and may be replaced if it
--          still is that; '*': whatever is there, because it could not be read
-- returns  1 leased | 0 not: there is a list, or another's lease | -1 not: no memory
local first = redis.pcall('LINDEX', KEYS[1], 0)
if type(first) == 'string' and ARGV[3] ~= '*' and first ~= ARGV[3] and first ~= ARGV[1] then
  local left = redis.call('PTTL', KEYS[1])
  local endless = left < 0 or left > tonumber(ARGV[2])
  if first:sub(1, 10) ~= '{"_lease":' or not endless then return 0 end
end
redis.call('DEL', KEYS[1])
local reply = redis.pcall('RPUSH', KEYS[1], ARGV[1])
if type(reply) == 'table' then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
