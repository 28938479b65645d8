-- Takes a cost from every window, or from none; and, if asked, a lease: permits that the client spends by itself.
--
-- ARGV behind the limits: cost; the lease wanted; the time-out in ms of a first contact, -1 for a plain take.
-- Reply: whether it was taken, the lease granted, the time, the words. A refusal writes nothing.
--
-- A lease is at most a quarter of what is left, so that none starves the others and the last permits of a window
-- are counted one by one; near a window's end none is given, so that what it leaves unused is one lease at most.

local at = 2 + 4 * limits
local cost, wanted, timeout = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
local new_stops, new_counts = {}, {}

for n = 1, limits do
  local stop, count
  if timeout >= 0 and n == longest then
    stop, count = contact(stops[n], counts[n], now, rules[n], cost, timeout)
  else
    stop, count = take(stops[n], counts[n], now, rules[n], cost)
  end
  if not stop then
    if restored then
      write()
    end
    return reply(0, 0)
  end
  new_stops[n], new_counts[n] = stop, count
end

local granted = wanted
for n = 1, limits do
  local window, left = rules[n].window, new_stops[n] - now
  if new_counts[n] > FULL or left <= max(window / 50, 40) then
    granted = 0
  else
    granted = min(granted, floor((rules[n].limit - new_counts[n]) / 4))
  end
end
for n = 1, limits do
  put(n, new_stops[n], new_counts[n] + granted)
end
write()
return reply(1, granted)
