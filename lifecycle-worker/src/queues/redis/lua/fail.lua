-- For each job: id, claim, error, delay or nothing, whether there is a checkpoint, the checkpoint.
local out = {}
for i = 4, #ARGV, 6 do
    local id, delay = ARGV[i], tonumber(ARGV[i + 3])
    local member = take_out(id, ARGV[i + 1])
    out[#out + 1] = member and 1 or 0
    if member then
        local key = jobs .. id
        if delay then
            member = moved(member, now + delay)
        end
        redis.call('HSET', key, 'owner', '', 'member', member, 'error', ARGV[i + 2])
        if ARGV[i + 4] == '1' then
            redis.call('HSET', key, 'checkpoint', ARGV[i + 5])
        end
        if delay then
            put(member, now + delay)
        else
            -- In the order in which they died, also within a millisecond.
            local death = redis.call('HINCRBY', counters, 'deaths', 1)
            redis.call('ZADD', dead, death, member)
        end
    end
end
return out
