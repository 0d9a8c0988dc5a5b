-- Remove members of an index, each only if it has not been marked anew.
-- KEYS[1]  the index: user ids scored by revision, or by a time
-- ARGV[1…] pairs: a user id, the highest score to remove
-- returns  for each pair, in order: 1 not there any more, whoever removed it | 0 marked anew
local gone = {}
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local marked_anew = score and tonumber(score) > tonumber(ARGV[i + 1])
  if score and not marked_anew then redis.call('ZREM', KEYS[1], ARGV[i]) end
  gone[#gone + 1] = marked_anew and 0 or 1
end
return gone
