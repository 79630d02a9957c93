-- For each job: id, claim, delay, whether there is a checkpoint, the checkpoint.
local out = {}
for i = 4, #ARGV, 5 do
    local id, delay = ARGV[i], tonumber(ARGV[i + 2])
    local member = take_out(id, ARGV[i + 1])
    out[#out + 1] = member and 1 or 0
    if member then
        local key = jobs .. id
        if delay > 0 then
            member = moved(member, now + delay)
        end
        redis.call('HSET', key, 'owner', '', 'member', member)
        redis.call('HINCRBY', key, 'attempts', -1)
        redis.call('HINCRBY', key, 'returns', 1)
        redis.call('HINCRBY', counters, 'attempts', -1)
        redis.call('HINCRBY', counters, 'returns', 1)
        if ARGV[i + 3] == '1' then
            redis.call('HSET', key, 'checkpoint', ARGV[i + 4])
        end
        put(member, now + delay)
    end
end
return out
