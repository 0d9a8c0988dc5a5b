-- Remove an entry. A fence stays, because its writers are in flight, but nothing that they commit
-- goes into it any more: whoever drops may know better.
-- KEYS[1]  the entry
-- ARGV[1]  'STICK' where the server can keep a fence from being evicted, or ''
-- returns  1
local text, entry = held_entry()
if entry and type(entry['_fence']) == 'table' then
  local marks = live_marks(entry)
  if next(marks) and store_fence(marks, UNKNOWN, ARGV[1]) then return 1 end
end
redis.call('DEL', KEYS[1])
return 1
