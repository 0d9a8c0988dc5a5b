-- Count one attempt against a limit in a fixed window; refused attempts are not counted.
-- KEYS[1]  the counter
-- ARGV[1]  attempts allowed in a window
-- ARGV[2]  window in ms
-- returns  0 allowed | ms until the window ends
local held = redis.pcall('GET', KEYS[1])
local count = type(held) == 'string' and tonumber(held)
if held and not count then redis.call('DEL', KEYS[1]) end -- not a counter: count anew
if count and count >= tonumber(ARGV[1]) then
  local left = redis.call('PTTL', KEYS[1])
  if left > 0 then return left end
  redis.call('DEL', KEYS[1])
end
if redis.call('INCR', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
