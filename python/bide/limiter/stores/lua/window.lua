-- The window word's arithmetic, for a server that counts: the third counterpart of rust/core/src/window.rs and
-- _window.py, function by function; tests/vectors/window.json is read by all three. A change begins there.
--
-- Rules of this file: no clock, no state, no command of the server. A word is two numbers, end (Unix milliseconds)
-- and count (or a mark); a function returns the two that follow, or nothing when the word stays as it is. It stands
-- before each of the other scripts.

local FULL, ENDED, PROBING = 67000000, 67108863, 67108862
local LONGEST = 366 * 86400000
local PROBE_TIMEOUT = 30000
local floor, max, min = math.floor, math.max, math.min

local function is_live(stop, count, now)
  return now < stop and count ~= ENDED
end

local function has_phase(stop, count)
  return stop + count > 0 and count <= FULL
end

local function next_end(stop, count, now, rule)
  if rule.grid then
    return now + rule.window - (now + rule.offset) % rule.window
  end
  if has_phase(stop, count) then
    return stop + (floor((now - stop) / rule.window) + 1) * rule.window
  end
  return now + rule.window
end

local function take(stop, count, now, rule, cost)
  if is_live(stop, count, now) then
    if count + cost <= rule.limit then
      return stop, count + cost
    end
    return nil
  end
  if cost > rule.limit then
    return nil
  end
  if rule.learning then
    return now + min(rule.window, PROBE_TIMEOUT), PROBING
  end
  return next_end(stop, count, now, rule), cost
end

local function contact(stop, count, now, rule, cost, timeout)
  if is_live(stop, count, now) or (has_phase(stop, count) and not rule.learning) then
    return take(stop, count, now, rule, cost)
  end
  if cost > rule.limit then
    return nil
  end
  return now + min(max(timeout, 1), LONGEST), PROBING
end

-- reply: remaining and stop (nil: not stated), cost, taken (the end of the window that was taken from, or nil).
local function sync(stop, count, now, rule, reply)
  local remaining, stated = reply.remaining, reply.stop
  local live = is_live(stop, count, now)
  if stated and stated <= now then
    if not live or count ~= PROBING then
      return nil
    end
    remaining, stated = nil, nil
  end
  if stated then
    stated = min(stated, now + LONGEST)
  end
  local used = remaining and max(rule.limit - remaining, 0)
  local cost = min(reply.cost, rule.limit)

  if not live or count == PROBING then
    if not live and not used and not stated then
      return nil
    end
    if rule.learning and not used then
      if live then
        return now, PROBING
      end
      return nil
    end
    return stated or next_end(stop, count, now, rule), used or cost
  end
  if count >= FULL then
    return nil
  end
  local half, blur = floor(rule.window / 2), min(floor(rule.window / 4), 1000)
  stated = stated or stop
  if stated > stop + half then
    return stated, used or cost
  end
  if stop > stated + (rule.window - blur) then
    return nil
  end
  local charged = count
  if reply.taken and stated > reply.taken + half then
    charged = count + cost
  end
  local following_stop = stated
  if stop <= stated and stated <= stop + blur then
    following_stop = stop
  end
  local following_count = min(max(charged, used or 0), FULL)
  if following_stop == stop and following_count == count then
    return nil
  end
  return following_stop, following_count
end

local function penalize(stop, count, now, till)
  till = min(till, now + LONGEST)
  if till <= now then
    return nil
  end
  local following = till
  if is_live(stop, count, now) and count ~= PROBING then
    following = max(till, stop)
  end
  if following == stop and count == FULL then
    return nil
  end
  return following, FULL
end

local function settle(stop, count, now, taken, cost, actual)
  if not is_live(stop, count, now) or stop ~= taken then
    return nil
  end
  if count == PROBING then
    if actual == 0 then
      return now, PROBING
    end
    return nil
  end
  if count >= FULL then
    return nil
  end
  return stop, min(max(count + actual - cost, 0), FULL)
end
