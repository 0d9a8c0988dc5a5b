-- Replace a document by its next revision, if nobody else has.
-- KEYS[1]  the document
-- ARGV[1]  the revision that the change was computed from
-- ARGV[2]  the persisted revision that it said; what it has been told since is kept
-- ARGV[3]  the next document
-- ARGV[4]  'STICK' where the server can keep it from being evicted, or ''
-- ARGV[5]  now, in Unix seconds
-- returns  'stored' | 'conflict' | 'missing'
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then return 'missing' end
local ok, entry = pcall(cjson.decode, held)
if not ok or type(entry) ~= 'table' or type(entry['revision']) ~= 'number' then return 'missing' end
if entry['revision'] ~= tonumber(ARGV[1]) then return 'conflict' end
local text = ARGV[3]
if (tonumber(entry['_persistedRevision']) or 0) ~= tonumber(ARGV[2]) then
  local known, told, since = parts(held)
  local head, _, _, stamp = parts(text)
  if not known then return 'conflict' end
  if since == '' then since = ',"_dirtySince":' .. ARGV[5] end
  text = head .. told .. since .. stamp
end
store_unsaved(text, ARGV[4])
return 'stored'
