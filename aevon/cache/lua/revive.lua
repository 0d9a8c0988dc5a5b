-- Put what counts in place of a document of an earlier life of the server, if it is still there.
-- KEYS[1]  the document
-- ARGV[1]  the bytes that were read
-- ARGV[2]  the document to put in
-- ARGV[3]  lifetime in ms, or '' for none: it holds something that PostgreSQL does not
-- ARGV[4]  'STICK' where the server can keep what is unsaved from being evicted, or ''
-- returns  1 put in | 0 something else is there
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then
  store_unsaved(ARGV[2], ARGV[4])
else
  store_saved(ARGV[2], ARGV[3])
end
return 1
