-- Ask with one token after the other, from the beginning again after the last.
--
-- wrk -t1 -cN -sTHIS URL -- TOKENS: a file with a token in each line.
local tokens, last = {}, 0

function init(arguments)
  for token in io.lines(arguments[1]) do
    tokens[#tokens + 1] = token
  end
end

function request()
  last = last % #tokens + 1
  wrk.headers["Authorization"] = "Bearer " .. tokens[last]
  return wrk.format()
end
