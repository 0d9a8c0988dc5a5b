-- Put a recorded element in front of a list that is known to be complete: one whose newest element
-- is the one before, and in whose life of the server it then is. Any other that is older is missing something, and becomes a lease for whoever
-- says this, as does an empty key: the reader who held one may have read before the commit.
-- KEYS[1]  the list, newest first
-- ARGV[1]  most elements kept
-- ARGV[2]  lifetime in ms
-- ARGV[3]  the element's seq
-- ARGV[4]  the element (JSON text), without the stamp of a life
-- ARGV[5]  the lease, a JSON text {"_lease": token}
-- ARGV[6]  its lifetime in ms
-- returns  'stored': also where the list has gone further, and this one may be forgotten by now |
--          'leased' | 'full': no memory, so what was there is removed
local function put(text, lifetime_ms)
  local reply = redis.pcall('LPUSH', KEYS[1], text)
  if type(reply) == 'table' then
    redis.call('DEL', KEYS[1])
    return false
  end
  redis.call('PEXPIRE', KEYS[1], lifetime_ms)
  return true
end

local first, seq = redis.pcall('LINDEX', KEYS[1], 0), tonumber(ARGV[3])
local ok, element = pcall(cjson.decode, first)
local newest = ok and type(element) == 'table' and tonumber(element['seq']) or 0
if newest >= seq then return 'stored' end
local stamp = newest > 0 and first:match(',"_incarnation":"[^"]*"}$')
if stamp and newest == seq - 1 then
  if not put(ARGV[4]:sub(1, -2) .. stamp, ARGV[2]) then return 'full' end
  redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1)
  return 'stored'
end
redis.call('DEL', KEYS[1])
return put(ARGV[5], ARGV[6]) and 'leased' or 'full'
