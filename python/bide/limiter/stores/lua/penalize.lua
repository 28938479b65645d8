-- Lets nobody pass for so long. ARGV behind the limits: ms.

local stop, count = penalize(stops[longest], counts[longest], now, now + tonumber(ARGV[3 + 4 * limits]))
if stop then
  put(longest, stop, count)
end
if stop or restored then
  write()
end
return reply(1, 0)
