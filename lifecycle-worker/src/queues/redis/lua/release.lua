-- For each job: id, claim, delay, whether there is a checkpoint, the checkpoint.
local flags, mine = held(4, 5)
for _, job in ipairs(mine) do
    local i, delay = job.at, tonumber(ARGV[job.at + 2])
    job.place = delay > 0 and moved(job.member, now + delay) or job.member
    redis.call('HSET', job.key, 'owner', '', 'member', job.place)
    redis.call('HINCRBY', job.key, 'attempts', -1)
    redis.call('HINCRBY', job.key, 'returns', 1)
    redis.call('HINCRBY', counters, 'attempts', -1)
    redis.call('HINCRBY', counters, 'returns', 1)
    if ARGV[i + 3] == '1' then
        redis.call('HSET', job.key, 'checkpoint', ARGV[i + 4])
    end
    put(job.place, now + delay)
end
take_out(mine)
return flags
