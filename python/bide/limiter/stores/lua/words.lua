-- Where the words of a key lie: one hash, of one key of the server, so that no call ever crosses slots.
--
--     KEYS[1]          prefix + "{" + keyed fingerprint + "}"
--       <window, ms>   "<end> <count>", and "r" behind it in a window that was restored from what clients remember
--
-- Rules of this file: time is the server's alone. What is written expires in the same step: not before the words'
-- ends, and one longest window after them, so that an idle key keeps its phase for so long. A word that is absent
-- though a client knows that its window runs was lost (a failover, an eviction, a flush): it is put back as that
-- client saw it last, and raised by what others know, until its window ends.
--
-- ARGV: flags (1: windows on the grid of Unix time, 2: learning); how many limits; for each its number and its window
-- in ms; then for each the end and the count as this client saw them last (0 0: never).

local key = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local flags, limits = tonumber(ARGV[1]), tonumber(ARGV[2])
local grid, learning = flags % 2 == 1, flags >= 2
local rules, stops, counts, marks, names = {}, {}, {}, {}, {}
local longest, restored, moved = 1, false, false

for n = 1, limits do
  names[n] = ARGV[2 * n + 2]
  rules[n] = {limit = tonumber(ARGV[2 * n + 1]), window = tonumber(names[n]), grid = grid, learning = learning, offset = 0}
  if rules[n].window > rules[longest].window then
    longest = n
  end
end

local words = redis.call('HMGET', key, unpack(names))
for n = 1, limits do
  local stop, count, mark = 0, 0, ''
  local seen_stop, seen_count = tonumber(ARGV[2 * (limits + n) + 1]), tonumber(ARGV[2 * (limits + n) + 2])
  if words[n] then
    stop, count, mark = string.match(words[n], '^(%d+) (%d+)(r?)$')
    stop, count = tonumber(stop), tonumber(count)
    if mark == 'r' and seen_stop == stop and seen_count > count and count < FULL then
      count, restored = min(seen_count, FULL), true
    end
  elseif now < seen_stop and seen_count <= FULL then
    stop, count, mark = min(seen_stop, now + LONGEST), seen_count, 'r'
    restored, moved = true, true
  end
  stops[n], counts[n], marks[n] = stop, count, mark
end

local function put(n, stop, count)
  if stop ~= stops[n] then
    marks[n] = ''
  end
  moved = moved or stop ~= stops[n] or not words[n]
  stops[n], counts[n] = stop, count
end

-- Writes the words as they stand now.
local function write()
  local fields, furthest = {}, 0
  for n = 1, limits do
    if stops[n] + counts[n] > 0 then
      fields[#fields + 1] = names[n]
      fields[#fields + 1] = string.format('%.0f %.0f%s', stops[n], counts[n], marks[n])
      furthest = max(furthest, stops[n])
    end
  end
  if #fields == 0 then
    return
  end
  redis.call('HSET', key, unpack(fields))
  if moved then
    local wanted = max(furthest - now, 0) + rules[longest].window
    if redis.call('PTTL', key) < wanted then
      redis.call('PEXPIRE', key, string.format('%.0f', wanted))
    end
  end
end

-- "first second", the server's time as it tells it (seconds, microseconds), "end count end count ...": the words as the
-- client is to remember them.
local function reply(first, second)
  local said = {string.format('%.0f %.0f %s %s', first, second, clock[1], clock[2])}
  for n = 1, limits do
    said[n + 1] = string.format('%.0f %.0f', stops[n], counts[n])
  end
  return table.concat(said, ' ')
end
