-- For each job: id, claim, error, delay or nothing, whether there is a checkpoint, the checkpoint.
local flags, mine = held(4, 6)
for _, job in ipairs(mine) do
    local i, delay = job.at, tonumber(ARGV[job.at + 3])
    job.place = delay and moved(job.member, now + delay)
    redis.call('HSET', job.key, 'owner', '', 'member', job.place or job.member,
        'error', ARGV[i + 2])
    if ARGV[i + 4] == '1' then
        redis.call('HSET', job.key, 'checkpoint', ARGV[i + 5])
    end
    if delay then
        put(job.place, now + delay)
    else
        -- In the order in which they died, also within a millisecond.
        local death = redis.call('HINCRBY', counters, 'deaths', 1)
        redis.call('ZADD', dead, death, job.member)
    end
end
take_out(mine)
return flags
