-- Replace a document by the next one, if it still is the one that the change was computed from. What
-- it has been told of PostgreSQL meanwhile is kept. Not the revision is compared: where the memory
-- was lost, another document may have got the same.
-- KEYS[1]  the document
-- ARGV[1]  the document that the change was computed from
-- ARGV[2]  the next one
-- ARGV[3]  since when it holds something unsaved, as a member, if it has been persisted meanwhile
-- ARGV[4]  'STICK' where the server can keep it from being evicted, or ''
-- returns  'stored' | 'conflict' | 'missing'
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then return 'missing' end
if held == ARGV[1] then
  store_unsaved(ARGV[2], ARGV[4])
  return 'stored'
end
local head, told, since, stamp = parts(held)
local head_read, _, _, stamp_read = parts(ARGV[1])
if head ~= head_read or stamp ~= stamp_read then return 'conflict' end
if since == '' then since = ARGV[3] end
store_unsaved(parts(ARGV[2]) .. told .. since .. stamp, ARGV[4])
return 'stored'
