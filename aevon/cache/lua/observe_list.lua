-- An element has been committed: a list that has not got so far goes, and so does a lease, whose
-- holder may have read before. One that has is left as it is.
-- KEYS[1]  the list
-- ARGV[1]  the element's seq
-- returns  1 removed | 0 there is nothing to remove
local first = redis.pcall('LINDEX', KEYS[1], 0)
if not first then return 0 end
local ok, element = pcall(cjson.decode, first)
local newest = ok and type(element) == 'table' and tonumber(element['seq']) or 0
if newest >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
