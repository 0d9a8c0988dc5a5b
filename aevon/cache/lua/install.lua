-- A version has been committed: make the entry follow, and take the writer's mark from the fence.
-- An empty key stays empty: only the holder of a lease or of a mark knows that nothing newer has
-- come and gone. A lease is deleted: who holds it may have read PostgreSQL before the commit.
-- KEYS[1]  the entry
-- ARGV[1]  the writer's mark, or '' for who has none
-- ARGV[2]  the version; '' for a writer who wrote nothing after all
-- ARGV[3]  the state or tombstone, or '' where none may be put in: then what is older is removed
-- ARGV[4]  'PX' | 'PXAT'
-- ARGV[5]  the number for ARGV[4]
-- ARGV[6]  'STICK' where the server can keep a fence from being evicted, or ''
-- returns  'stored' | 'removed' | 'waiting': other writers are in flight | 'newer' | 'current':
--          this version is there, and stays | 'empty' | 'full': no memory, so what was there is removed
local text, entry = held_entry()
local version = tonumber(ARGV[2])

local function put()
  if ARGV[3] == '' then
    redis.call('DEL', KEYS[1])
    return 'removed'
  end
  local reply = redis.pcall('SET', KEYS[1], ARGV[3], ARGV[4], ARGV[5])
  if not reply['err'] then return 'stored' end
  redis.call('DEL', KEYS[1])
  return 'full'
end

if not text then return 'empty' end
if entry and type(entry['_fence']) == 'table' then
  local ours = entry['_fence'][ARGV[1]] ~= nil
  entry['_fence'][ARGV[1]] = nil
  local marks, floor = live_marks(entry)
  if next(marks) then
    if version then floor = math.max(floor, version) end
    if not store_fence(marks, floor, ARGV[6]) then redis.call('DEL', KEYS[1]) end
    return 'waiting'
  end
  -- The fence's stickiness goes with the key.
  redis.call('DEL', KEYS[1])
  if not ours or not version or version < floor then return 'removed' end
  return put()
end
local held = entry and version_of(entry)
if not held then
  if version or not (entry and entry['_lease']) then redis.call('DEL', KEYS[1]) end
  return 'empty'
end
if not version or held > version then return 'newer' end
if held == version and ARGV[3] == '' then return 'current' end
-- What is of another life, or of somebody's hand, is as good as an empty key. It may have taken the
-- place of a fence whose floor forbids this version.
local ours = ARGV[3] ~= '' and cjson.decode(ARGV[3])['_incarnation']
if ours and entry['_incarnation'] ~= ours then
  redis.call('DEL', KEYS[1])
  return 'removed'
end
return put()
