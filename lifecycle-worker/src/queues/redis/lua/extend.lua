-- Lease; for each job: id, claim, whether there is a checkpoint, the checkpoint.
local out = {}
for i = 5, #ARGV, 4 do
    local id = ARGV[i]
    local member = take_out(id, ARGV[i + 1])
    out[#out + 1] = member and 1 or 0
    if member then
        redis.call('ZADD', leases, now + tonumber(ARGV[4]), member)
        if ARGV[i + 2] == '1' then
            redis.call('HSET', jobs .. id, 'checkpoint', ARGV[i + 3])
        end
    end
end
return out
