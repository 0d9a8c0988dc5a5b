-- Leave a lease for the one reader who may fill this key (Nishtala et al., NSDI'13, 3.2.1).
-- KEYS[1]  the entry
-- ARGV[1]  the lease, a JSON text {"_lease": token}
-- ARGV[2]  lifetime in ms
-- ARGV[3]  bytes found there that are no state to go by, which the lease replaces; '' for none
-- ARGV[4]  what they are: 'foreign type', also for an empty text, is replaced whatever it is by now;
--          a 'lease' only when it has a longer life than any that a reader leaves, and a
--          'stray fence' only when it has no end
-- returns  1 leased | 0 not: a foreign type by now | -1 not: no memory | what the key holds by now
local type = redis.call('TYPE', KEYS[1])['ok']
if type ~= 'none' then
  if type ~= 'string' then
    if ARGV[4] ~= 'foreign type' then return 0 end
  else
    local held = redis.call('GET', KEYS[1])
    if (ARGV[3] == '' and ARGV[4] ~= 'foreign type') or held ~= ARGV[3] then return held end
    if ARGV[4] == 'lease' then
      local left = redis.call('PTTL', KEYS[1])
      if left >= 0 and left <= tonumber(ARGV[2]) then return held end
    elseif ARGV[4] == 'stray fence' and redis.call('PTTL', KEYS[1]) >= 0 then
      return held
    end
  end
  redis.call('DEL', KEYS[1])
end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply['err'] then return -1 end
return 1
