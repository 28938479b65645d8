-- The secret that all clients of one prefix make their fingerprints with: the first one's stays. It does not expire.

redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
