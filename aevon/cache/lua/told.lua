-- What the scripts of write-behind documents have in common; stands in front of them.
-- What the cache layer notes at the very end of a document, as text: what cjson writes anew is not
-- what it read, and only there no text of a user's can look like it.

-- Longer than all of it together. Looking through the whole document for each member would take
-- longer than everything else that a script does.
local NOTED_MAX = 200

-- The document up to there; what PostgreSQL has of it, as members; since when it holds something
-- unsaved, as a member; its stamp, to the end. '' for what is not there. nil where it has no stamp.
local function parts(text)
  local last = string.sub(text, -NOTED_MAX)
  local before, stamp = string.match(last, '^(.*)(,"_incarnation":"%w+"})$')
  if not before then return nil end
  local function cut(member)
    local shorter, found = string.match(before, '^(.*)(' .. member .. ')$')
    before = shorter or before
    return found or ''
  end
  local since = cut(',"_dirtySince":[%d.eE+-]+')
  local at = cut(',"_persistedAt":"[%d.:TZ-]+"')
  local revision = cut(',"_persistedRevision":%d+')
  local head = string.sub(text, 1, #text - #last) .. before
  return head, revision .. at, since, stamp
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

