-- For wrk: counts the books of each page, which are its only list items, and says at the end how it went.

local threads = {}
expected = 0
wrong = 0

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  expected = tonumber(args[1])
end

function response(status, headers, body)
  local _, books = string.gsub(body, "<li>", "")
  if status ~= 200 or books ~= expected then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  for _, thread in ipairs(threads) do
    failed = failed + thread:get("wrong")
  end
  print(string.format('outcome {"requests":%d,"wrong":%d,"micros":%d,"median":%d,"p99":%d}',
    summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
