-- Turns a cost that was taken into what it really was, in the windows that still run.
--
-- ARGV behind the limits: cost, actual; then for each limit the end of the window that it was taken from.

local at = 2 + 4 * limits
local cost, actual = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
local settled = 0

for n = 1, limits do
  local stop, count = settle(stops[n], counts[n], now, tonumber(ARGV[at + 2 + n]), cost, actual)
  if stop then
    put(n, stop, count)
    settled = 1
  end
end
if settled == 1 or restored then
  write()
end
return reply(settled, 0)
