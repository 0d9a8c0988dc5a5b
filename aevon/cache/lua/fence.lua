-- Add a writer's mark to the entry's fence, before the writer's COMMIT can happen.
-- A state, a tombstone, a lease or nothing becomes a fence; a fence is joined. While there is one,
-- nobody fills, and readers read PostgreSQL.
-- KEYS[1]  the entry
-- ARGV[1]  the mark, a token of this write alone
-- ARGV[2]  its lifetime in ms, longer than a transaction may last
-- ARGV[3]  'STICK' where the server can keep the fence from being evicted, or ''
-- returns  {1 fenced | 0 no memory for it: the entry is removed, the state that it replaces or '',
--          1 joined | 0 taken, how many marks that were past their deadline it has taken away}
local text, entry = held_entry()
local marks, floor, state, joined, expired = {}, 0, '', 0, 0
if entry and type(entry['_fence']) == 'table' then
  marks, floor, expired = live_marks(entry)
  joined = 1
elseif entry and version_of(entry) then
  floor, state = version_of(entry), text
elseif text and not (entry and entry['_lease']) then
  floor = UNKNOWN -- it cannot be read, so neither can its version
end
marks[ARGV[1]] = now + tonumber(ARGV[2])
if store_fence(marks, floor, ARGV[3]) then return {1, state, joined, expired} end
redis.call('DEL', KEYS[1])
return {0, state, joined, expired}
