-- A document has been persisted: if it is still the very bytes that were, give it a lifetime.
-- KEYS[1]  the document
-- ARGV[1]  the bytes that were persisted
-- ARGV[2]  the same document without the mark of being unsaved
-- ARGV[3]  lifetime in ms
-- returns  1 settled | 0 changed since
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
