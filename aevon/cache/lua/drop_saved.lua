-- Remove a document unless it holds something that PostgreSQL does not.
-- KEYS[1]  the document
-- returns  1 removed, or nothing there | 0 unsaved: left
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' then
  local ok, entry = pcall(cjson.decode, held)
  if ok and type(entry) == 'table' and entry['_dirtySince'] then return 0 end
end
redis.call('DEL', KEYS[1])
return 1
