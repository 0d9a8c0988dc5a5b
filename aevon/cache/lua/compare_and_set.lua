-- Replace a document by its next revision, if nobody else has.
-- Stored without expiry: it holds something that PostgreSQL does not.
-- KEYS[1]  the document
-- ARGV[1]  the revision that the change was computed from
-- ARGV[2]  the next document
-- returns  'stored' | 'conflict' | 'missing'
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then return 'missing' end
local ok, entry = pcall(cjson.decode, held)
if not ok or type(entry) ~= 'table' or type(entry['revision']) ~= 'number' then return 'missing' end
if entry['revision'] ~= tonumber(ARGV[1]) then return 'conflict' end
redis.call('SET', KEYS[1], ARGV[2])
return 'stored'
