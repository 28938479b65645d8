-- What nearly every take is: one limit, its window runs and has room, no lease is wanted. It says the same as what
-- follows would, in a third of the time; everything else is left to that.

if #ARGV == 9 and ARGV[8] == '0' then
  local word = redis.call('HGET', KEYS[1], ARGV[4])
  local stop, count = string.match(word or '', '^(%d+) (%d+)$')
  if stop then
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    count = count + ARGV[7]
    if now < tonumber(stop) and count <= tonumber(ARGV[3]) then
      word = stop .. ' ' .. count
      redis.call('HSET', KEYS[1], ARGV[4], word)
      return '1 0 ' .. clock[1] .. ' ' .. clock[2] .. ' ' .. word
    end
  end
end
