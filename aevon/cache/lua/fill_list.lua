-- Turn one's own lease into a list, or give it back. Who recorded or removed an element since, a
-- flush or an eviction has removed the lease: then nothing is put in.
-- KEYS[1]   the list
-- ARGV[1]   the lease, exactly as it was left
-- ARGV[2]   lifetime in ms
-- ARGV[3…]  the elements, newest first; none when there is nothing to cache
-- returns   1 stored | 0 not ours any more, or given back | -1 no memory
if redis.pcall('LINDEX', KEYS[1], 0) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if #ARGV < 3 then return 0 end
for i = 3, #ARGV do
  local reply = redis.pcall('RPUSH', KEYS[1], ARGV[i])
  if type(reply) == 'table' then
    redis.call('DEL', KEYS[1])
    return -1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
