-- POST the bearer token to simplejwt's TokenVerifyView.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init()
  local token = string.match(wrk.headers["Authorization"], "Bearer (.+)")
  wrk.body = string.format('{"token":"%s"}', token)
end
