-- Put a committed state in, unless a newer one is there.
-- An empty key stays empty: by the time this runs, a later writer's state may have come and been
-- evicted, and only the holder of a lease may fill. A lease is deleted, so that a reader who read
-- PostgreSQL before the commit cannot fill with what it saw.
-- KEYS[1]  the entry
-- ARGV[1]  the document
-- ARGV[2]  its version
-- ARGV[3]  'PX' | 'PXAT'
-- ARGV[4]  the number for ARGV[3]
-- returns  'stored' | 'newer' | 'empty' | 'full': no memory for it, so the older state is removed
local held = redis.pcall('GET', KEYS[1])
if not held then return 'empty' end
local ok, entry = false, nil
if type(held) == 'string' then ok, entry = pcall(cjson.decode, held) end
if not ok or type(entry) ~= 'table' or type(entry['version']) ~= 'number' then
  redis.call('DEL', KEYS[1])
  return 'empty'
end
if entry['version'] > tonumber(ARGV[2]) then return 'newer' end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], ARGV[3], ARGV[4])
if reply['err'] then
  redis.call('DEL', KEYS[1])
  return 'full'
end
return 'stored'
