-- Replace a document by the next one, if it still is the one that the change was computed from. What
-- it has been told of PostgreSQL meanwhile is kept. Not the revision is compared: where the memory
-- was lost, another document may have got the same.
-- KEYS[1]  the document
-- ARGV[1]  the document that the change was computed from, without what the cache layer notes
-- ARGV[2]  the next one, likewise
-- ARGV[3]  their stamp
-- ARGV[4]  since when it holds something unsaved, as a member, if it has held nothing so far
-- ARGV[5]  'STICK' where the server can keep it from being evicted, or ''
-- returns  'stored' | 'conflict' | 'missing'
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then return 'missing' end
local head, told, since, stamp = parts(held)
if head ~= ARGV[1] or stamp ~= ARGV[3] then return 'conflict' end
if since == '' then since = ARGV[4] end
store_unsaved(ARGV[2] .. told .. since .. stamp, ARGV[5])
return 'stored'
