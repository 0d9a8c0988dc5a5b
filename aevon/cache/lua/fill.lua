-- Turn one's own lease into a state, or give it back.
-- A writer who committed since, a flush or an eviction has removed the lease: then nothing is set.
-- KEYS[1]  the entry
-- ARGV[1]  the lease, exactly as left by lease.lua
-- ARGV[2]  the document or tombstone, or '' when there is nothing to cache
-- ARGV[3]  'PX' (lifetime in ms) | 'PXAT' (Unix ms) | '' for no expiry
-- ARGV[4]  the number for ARGV[3]
-- returns  1 stored | 0 not ours any more, or given back | -1 no memory | -2 a writer is in flight
local held = redis.pcall('GET', KEYS[1])
local fenced = type(held) == 'string' and string.sub(held, 1, 9) == '{"_fence"'
if held ~= ARGV[1] then return fenced and -2 or 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  return 0
end
local reply
if ARGV[3] == '' then
  reply = redis.pcall('SET', KEYS[1], ARGV[2])
else
  reply = redis.pcall('SET', KEYS[1], ARGV[2], ARGV[3], ARGV[4])
end
if not reply['err'] then return 1 end
redis.call('DEL', KEYS[1])
return -1
