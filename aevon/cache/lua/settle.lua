-- A document has been persisted: tell it so. If it still is what was read it gets a lifetime.
-- KEYS[1]  the document
-- ARGV[1]  the document that was read, without what the cache layer notes
-- ARGV[2]  its stamp
-- ARGV[3]  what PostgreSQL has of it, as members
-- ARGV[4]  lifetime in ms
-- ARGV[5]  since when one that has changed meanwhile holds something unsaved, at least, as a member
-- ARGV[6]  'STICK' where the server can keep what is unsaved from being evicted, or ''
-- returns  1 settled | 0 changed since
local function persisted_revision(members)
  return tonumber(string.match(members, '"_persistedRevision":(%d+)') or 0)
end

local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' then return 0 end
local head, told, since, stamp = parts(held)
if not head or stamp ~= ARGV[2] then return 0 end
if head == ARGV[1] then
  store_saved(head .. ARGV[3] .. stamp, ARGV[4])
  return 1
end
-- One without `since` has been persisted by others, and told so.
if since ~= '' and persisted_revision(told) < persisted_revision(ARGV[3]) then
  store_unsaved(head .. ARGV[3] .. ARGV[5] .. stamp, ARGV[6])
end
return 0
