-- A mixed load of many users, each with a token of their own: how long each kind of request takes.
--
-- wrk -tN -cN -sTHIS URL -- TOKENS: a file with a token in each line. One connection per thread, so
-- that the answer that comes is that of the request that went.
local ffi = require("ffi")
ffi.cdef([[
  struct moment { long seconds, nanoseconds; };
  int clock_gettime(int clock, struct moment *moment);
]])
local MONOTONIC = 1
local moment = ffi.new("struct moment")
local function now()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) * 1e-9
end

local SAID = {
  "open Notes", "open the clock", "move it right by 40", "again", "list windows",
  "close the second one", "play SpinForge", "status", "help", "close Notes",
}
local JSON, MERGE = "application/json", "application/merge-patch+json"
-- Of a hundred requests, and what each is.
local KINDS = {
  { share = 60, name = "validate", method = "GET", path = "/api/v1/auth/validate/" },
  { share = 20, name = "canvas PATCH", method = "PATCH", path = "/api/v1/canvas/", type = MERGE,
    body = function()
      local place = '{"microApps":{"app-3":{"position":{"x":%d,"y":%d}}}}'
      return place:format(math.random(1200), math.random(720))
    end },
  { share = 10, name = "psyche", method = "GET", path = "/api/v1/klepsydra/psyche/" },
  { share = 5, name = "interaction", method = "POST", path = "/api/v1/klepsydra/interactions/",
    type = JSON, body = function() return '{"instrument":"spinforge","stake":1}' end },
  { share = 5, name = "BEEP", method = "POST", path = "/api/v1/beep/commands/", type = JSON,
    body = function() return ('{"text":"%s"}'):format(SAID[math.random(#SAID)]) end },
}

for number, each in ipairs(KINDS) do each.number = number end

local threads = {}
function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

local tokens, kind, began = {}, nil, 0
-- Of each request: the number of its kind, and seconds. wrk hands over no tables in tables.
kinds, seconds = {}, {}
-- What was no 2xx, by kind and status.
refused = {}

function init(arguments)
  for line in io.lines(arguments[1]) do tokens[#tokens + 1] = line end
  math.randomseed(number)
end

function request()
  local drawn = math.random(100)
  for _, each in ipairs(KINDS) do
    kind, drawn = each, drawn - each.share
    if drawn <= 0 then break end
  end
  local headers = {
    ["Authorization"] = "Bearer " .. tokens[math.random(#tokens)],
    ["Content-Type"] = kind.type,
    ["X-Forwarded-Proto"] = "https",
    ["X-Forwarded-For"] = "192.0.2.7",
  }
  local text = wrk.format(kind.method, kind.path, headers, kind.body and kind.body())
  began = now()
  return text
end

function response(status)
  seconds[#seconds + 1] = now() - began
  kinds[#kinds + 1] = kind.number
  if status < 200 or status > 299 then
    local what = kind.name .. " " .. status
    refused[what] = (refused[what] or 0) + 1
  end
end

-- Lines of: taken KIND SECONDS, refused KIND-AND-STATUS COUNT, errors COUNT, took SECONDS; with tabs
-- in between.
function done(summary)
  for _, thread in ipairs(threads) do
    local its_kinds, its_seconds = thread:get("kinds"), thread:get("seconds")
    for n, number in ipairs(its_kinds) do
      print("taken\t" .. KINDS[number].name .. "\t" .. its_seconds[n])
    end
    for what, count in pairs(thread:get("refused")) do print("refused\t" .. what .. "\t" .. count) end
  end
  local errors = summary.errors
  print("errors\t" .. errors.connect + errors.read + errors.write + errors.timeout)
  print("took\t" .. summary.duration / 1e6)
end
