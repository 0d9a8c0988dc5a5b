-- Replace a document, if it is still the very bytes that were read: by itself with a lifetime, once
-- it has been persisted; by what counts, when it is of an earlier life of the server.
-- KEYS[1]  the document
-- ARGV[1]  the bytes that were read
-- ARGV[2]  the document to put in
-- ARGV[3]  lifetime in ms, or '' for none: it holds something that PostgreSQL does not
-- returns  1 settled | 0 changed since
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
