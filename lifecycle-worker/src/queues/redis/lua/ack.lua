-- For each job: id, claim.
local flags, mine = held(4, 2)
take_out(mine)
for _, job in ipairs(mine) do
    redis.call('UNLINK', job.key)
end
if #mine > 0 then
    redis.call('HINCRBY', counters, 'done', #mine)
end
return flags
