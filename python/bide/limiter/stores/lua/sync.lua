-- Aligns a key to what the limited server's reply said.
--
-- ARGV behind the limits: the limit that it speaks of (from 1); remaining, and ms until its window ends (-1: not
-- stated; they count from the reply's receipt); ms since the receipt; the cost of the answered request; the end of the
-- window that it was taken from (-1: none).

local at = 2 + 4 * limits
local chosen, remaining, reset = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
local age, cost, taken = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
local changed = restored

for n = 1, limits do
  local told = {cost = cost}
  if n == chosen then
    told.remaining = remaining >= 0 and remaining or nil
    told.stop = reset >= 0 and now - age + reset or nil
    told.taken = taken >= 0 and taken or nil
  end
  if n == chosen or (is_live(stops[n], counts[n], now) and counts[n] > FULL) then
    local stop, count = sync(stops[n], counts[n], now, rules[n], told)
    if stop then
      put(n, stop, count)
      changed = true
    end
  end
end
if changed then
  write()
end
return reply(1, 0)
