-- What the scripts of write-behind documents have in common; stands in front of them.
-- What the cache layer notes at the very end of a document, as text: what cjson writes anew is not
-- what it read, and only there no text of a user's can look like it.

-- Longer than all of it together. Looking through the whole document for each member would take
-- longer than everything else that a script does.
local NOTED_MAX = 200

-- The document up to there; what PostgreSQL has of it, as members; since when it holds something
-- unsaved, as a member; its stamp, to the end. '' for what is not there. nil where it has no stamp.
-- Each member begins with ,"_ and in a text of a user's the quotation mark is escaped.
local function parts(text)
  local last = string.sub(text, -NOTED_MAX)
  local at = string.find(last, ',"_', 1, true)
  while at do
    local from = at
    local function taken(member)
      local _, last_of_it = string.find(last, member, from)
      if not last_of_it then return '' end
      local found = string.sub(last, from, last_of_it)
      from = last_of_it + 1
      return found
    end
    local revision = taken('^,"_persistedRevision":%d+')
    local persisted_at = taken('^,"_persistedAt":"[%d.:TZ-]+"')
    local since = taken('^,"_dirtySince":[%d.eE+-]+')
    local stamp = taken('^,"_incarnation":"%w+"}')
    if stamp ~= '' and from > #last then
      return string.sub(text, 1, #text - #last + at - 1), revision .. persisted_at, since, stamp
    end
    at = string.find(last, ',"_', at + 1, true)
  end
  return nil
end

-- `stick` is 'STICK' or ''. Without expiry: it holds something that PostgreSQL does not.
local function store_unsaved(text, stick)
  if stick == 'STICK' then
    redis.call('SET', KEYS[1], text, stick)
  else
    redis.call('SET', KEYS[1], text)
  end
end

-- With a lifetime, in ms: PostgreSQL has it. Its stickiness goes with the key.
local function store_saved(text, lifetime)
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], text, 'PX', lifetime)
end

