-- Replace a document, if it is still the very bytes that were read: by itself with a lifetime, once
-- it has been persisted; by what counts, when it is of an earlier life of the server.
-- One that has been persisted and has changed since is told how much of it was.
-- KEYS[1]  the document
-- ARGV[1]  the bytes that were read
-- ARGV[2]  the document to put in
-- ARGV[3]  lifetime in ms, or '' for none: it holds something that PostgreSQL does not
-- ARGV[4]  'STICK' where the server can keep what is unsaved from being evicted, or ''
-- ARGV[5]  of the one that has changed since: what PostgreSQL has of it, as members; '' for nothing
-- ARGV[6]  … and since when it holds something unsaved, at least; likewise
-- returns  1 settled | 0 changed since
local held = redis.pcall('GET', KEYS[1])
if held == ARGV[1] then
  if ARGV[3] == '' then
    store_unsaved(ARGV[2], ARGV[4])
  else
    -- Its stickiness goes with the key.
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  end
  return 1
end
if type(held) ~= 'string' or ARGV[5] == '' then return 0 end
local head, told, since, stamp = parts(held)
-- One without `since` has been persisted by others, and told so.
if head and since ~= '' and persisted_revision(told) < persisted_revision(ARGV[5]) then
  store_unsaved(head .. ARGV[5] .. ARGV[6] .. stamp, ARGV[4])
end
return 0
