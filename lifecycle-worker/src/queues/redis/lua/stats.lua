local late = redis.call('ZCOUNT', scheduled, '-inf', now)
local ended = redis.call('ZCOUNT', leases, '-inf', now)
local seen = redis.call('HMGET', counters, 'done', 'attempts', 'returns')
return {
    redis.call('ZCARD', ready) + late + ended,
    redis.call('ZCARD', scheduled) - late,
    redis.call('ZCARD', leases) - ended,
    tonumber(seen[1] or 0),
    redis.call('ZCARD', dead),
    tonumber(seen[2] or 0),
    tonumber(seen[3] or 0),
}
