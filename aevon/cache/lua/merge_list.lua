-- Merge elements into a bounded list: newest first, by `seq`, each once, at most N.
-- KEYS[1]  the list
-- ARGV[1]  most elements kept
-- ARGV[2]  lifetime in ms
-- ARGV[3]  '1': only if the list is there and the first element given follows its newest or is in
--          it, else change nothing and say 'missing'; '0': merge with whatever is there
-- ARGV[4…] pairs: seq, element (JSON text)
-- returns  'stored' | 'missing'
local held = redis.pcall('LRANGE', KEYS[1], 0, -1)
if held['err'] then
  redis.call('DEL', KEYS[1])
  held = {}
end
local elements, newest = {}, 0
for _, text in ipairs(held) do
  local ok, element = pcall(cjson.decode, text)
  if ok and type(element) == 'table' and type(element['seq']) == 'number' then
    elements[element['seq']] = text
    newest = math.max(newest, element['seq'])
  end
end
-- One that is neither next nor here came late: it may have been forgotten since.
local first = tonumber(ARGV[4])
if ARGV[3] == '1' and (newest == 0 or (first ~= newest + 1 and not elements[first])) then
  return 'missing'
end
-- What is given comes from PostgreSQL and wins over what the list holds under the same seq.
for i = 4, #ARGV, 2 do elements[tonumber(ARGV[i])] = ARGV[i + 1] end
local order = {}
for seq in pairs(elements) do order[#order + 1] = seq end
table.sort(order, function(a, b) return a > b end)
redis.call('DEL', KEYS[1])
for i = 1, math.min(#order, tonumber(ARGV[1])) do
  redis.call('RPUSH', KEYS[1], elements[order[i]])
end
if #order > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 'stored'
