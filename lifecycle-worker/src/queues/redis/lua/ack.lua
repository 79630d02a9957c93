-- For each job: id, claim.
local out, done = {}, 0
for i = 4, #ARGV, 2 do
    local mine = take_out(ARGV[i], ARGV[i + 1])
    if mine then
        redis.call('UNLINK', jobs .. ARGV[i])
        done = done + 1
    end
    out[#out + 1] = mine and 1 or 0
end
if done > 0 then
    redis.call('HINCRBY', counters, 'done', done)
end
return out
