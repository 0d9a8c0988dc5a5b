-- What the scripts that meet a fence have in common; stands in front of them.
-- A fence is {"_fence": {mark: deadline in Unix ms by this server's clock}, "_floor": version}: the
-- marks of the writers in flight, and the version below which nothing may be installed.
local UNKNOWN = 9007199254740992 -- 2^53, the floor that no version reaches
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The text and what it says: a table, or nil where there is nothing or nothing that can be read.
-- A key of another type is removed.
local function held_entry()
  local text = redis.pcall('GET', KEYS[1])
  if type(text) == 'table' then redis.call('DEL', KEYS[1]) end
  if type(text) ~= 'string' then return nil, nil end
  local ok, entry = pcall(cjson.decode, text)
  if ok and type(entry) == 'table' then return text, entry end
  return text, nil
end

-- The version of a state or of a tombstone.
local function version_of(entry)
  local version = entry['version']
  if type(version) ~= 'number' then version = entry['_gone'] end
  return type(version) == 'number' and version or nil
end

-- The marks that count, the floor, and how many do not count. Nobody knows whether the writer of a
-- mark that is past its deadline has committed: nothing may be installed any more.
-- A deadline that no writer can have set (ours are minutes ahead at most) is somebody else's, or
-- of a clock that was set back.
local function live_marks(entry)
  local marks, floor, expired = {}, tonumber(entry['_floor']) or UNKNOWN, 0
  for mark, deadline in pairs(entry['_fence']) do
    if type(deadline) == 'number' and deadline > now and deadline <= now + 3600000 then
      marks[mark] = deadline
    else
      floor, expired = UNKNOWN, expired + 1
    end
  end
  return marks, floor, expired
end

-- Store a fence until the last of its deadlines; whether there was memory for it. `stick` is
-- 'STICK' or ''.
local function store_fence(marks, floor, stick)
  local members, last = {}, now
  for mark, deadline in pairs(marks) do
    members[#members + 1] = string.format('"%s":%.0f', mark, deadline)
    last = math.max(last, deadline)
  end
  local text = '{"_fence":{' .. table.concat(members, ',') .. '},"_floor":' ..
    string.format('%.0f', floor) .. '}'
  local left = string.format('%.0f', last - now)
  local reply
  if stick == 'STICK' then
    reply = redis.pcall('SET', KEYS[1], text, 'PX', left, stick)
  else
    reply = redis.pcall('SET', KEYS[1], text, 'PX', left)
  end
  return not reply['err']
end

