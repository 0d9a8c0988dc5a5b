-- Add one part of a flush to the record of the flushes, newest first.
-- KEYS[1]  the record: a list of JSON objects of numbers; when a flush began and ended is text,
--          because cjson rounds
-- ARGV[1]  when the flush began, Unix seconds: parts of the same flush have it in common
-- ARGV[2]  when this part ended
-- ARGV[3]  how many flushes are kept
-- ARGV[4…] names and numbers, added up
-- returns  1 added | 0 a flush from before those that are kept in view
if redis.call('TYPE', KEYS[1])['ok'] ~= 'list' then redis.call('DEL', KEYS[1]) end

local function flush_at(index)
  local raw = redis.call('LINDEX', KEYS[1], index)
  local well, flush = pcall(cjson.decode, raw or '')
  if well and type(flush) == 'table' and type(flush.began) == 'string' then return flush end
end

local function add_to(flush)
  for i = 4, #ARGV, 2 do
    flush[ARGV[i]] = (tonumber(flush[ARGV[i]]) or 0) + tonumber(ARGV[i + 1])
  end
  if tonumber(ARGV[2]) > (tonumber(flush.ended) or 0) then flush.ended = ARGV[2] end
  return cjson.encode(flush)
end

for index = 0, 4 do
  local flush = flush_at(index)
  if flush and flush.began == ARGV[1] then
    redis.call('LSET', KEYS[1], index, add_to(flush))
    return 1
  end
end
local newest = flush_at(0)
local newest_began = newest and tonumber(newest.began) or 0
-- One that has yet to begin is somebody else's.
if newest_began > tonumber(ARGV[1]) and newest_began <= tonumber(ARGV[2]) then return 0 end
redis.call('LPUSH', KEYS[1], add_to({began = ARGV[1]}))
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
return 1
