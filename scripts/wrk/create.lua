-- wrk script: creates orders over HTTP, each with an external id of its own, for 1,000 users; with the argument `keys`
-- each under an Idempotency-Key of its own, too.
-- Promises: cheap, because it shares the machine with the server: a request is two joined strings and
-- a number, with a key three and two. Ends with one line `result ...` that scripts/bench reads. One wrk thread per run.

local USERS = 1000
-- External ids are ten digits long, so Content-Length never changes, and scattered over their range: ids in rising
-- order would save the server's index most of its work.
local RANGE, STEP = 1000000000, 387420489
local heads, middles, tail, count = {}, {}, nil, 0

local function random_prefix()
  local source = assert(io.open("/dev/urandom", "rb"))
  local bytes = source:read(6)
  source:close()
  return (bytes:gsub(".", function(byte) return string.format("%02x", byte:byte()) end))
end

function init(args)
  local prefix = random_prefix()
  local key = ""
  if args[1] == "keys" then
    key = "Idempotency-Key: " .. prefix:sub(1, 8) .. "-" .. prefix:sub(9) .. "-4000-8000-00@N\r\n"
  end
  local body = '{"order_id":"0","user_id":"@USER","payload":{"id":"' .. prefix .. '-@N",'
    .. '"items":[{"sku":"A-1001","price":12.50,"qty":2},{"sku":"B-2002","price":3.99,"qty":1}]}}'
  local length = #body:gsub("@USER", string.rep("0", 36)):gsub("@N", RANGE)
  local request = "POST /orders HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\n" .. key
    .. "Content-Type: application/json\r\nContent-Length: " .. length .. "\r\n\r\n" .. body
  local front, rest = request:match("^(.*)@N(.*)$")
  tail = rest
  for i = 1, USERS do
    local named = front:gsub("@USER", string.format("%08x-0000-4000-8000-%012x", i, i))
    local head, middle = named:match("^(.*)@N(.*)$")
    heads[i], middles[i] = head or named, middle
  end
end

function request()
  count = count + 1
  local i, number = count % USERS + 1, RANGE + count * STEP % RANGE
  if middles[i] then
    return heads[i] .. number .. middles[i] .. number .. tail
  end
  return heads[i] .. number .. tail
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "result requests=%d seconds=%.3f p50_ms=%.3f p99_ms=%.3f refused=%d broken=%d\n",
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
