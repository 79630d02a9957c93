-- Lease; for each job: id, claim, whether there is a checkpoint, the checkpoint.
local flags, mine = held(5, 4)
local leased, gone = {}, {}
for i, job in ipairs(mine) do
    leased[2 * i - 1] = now + tonumber(ARGV[4])
    leased[2 * i] = job.member
    gone[i] = job.member
end
if #mine > 0 then
    redis.call('ZADD', leases, unpack(leased))
    -- A lease that had ended may have been put back.
    redis.call('ZREM', ready, unpack(gone))
end
for _, job in ipairs(mine) do
    if ARGV[job.at + 2] == '1' then
        redis.call('HSET', job.key, 'checkpoint', ARGV[job.at + 3])
    end
end
return flags
