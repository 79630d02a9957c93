-- For each job: id, rank, delay, dedupe period or nothing, dedupe key, kind, payload, headers.
local size = 8
local count = (#ARGV - 3) / size
local number = redis.call('HINCRBY', counters, 'pushed', count) - count
local out, scored = {}, {}
for i = 4, #ARGV, size do
    local id, period = ARGV[i], ARGV[i + 3]
    number = number + 1
    local new = period == ''
        or redis.call('SET', ARGV[i + 4], id, 'NX', 'PX', period)
    if new then
        local due = now + tonumber(ARGV[i + 2])
        local member = string.format('%05d%014d%016d', ARGV[i + 1], due, number) .. id
        redis.call('HSET', jobs .. id, 'kind', ARGV[i + 5], 'payload', ARGV[i + 6],
            'headers', ARGV[i + 7], 'member', member)
        if due > now then
            put(member, due)
        else
            scored[#scored + 1] = 0
            scored[#scored + 1] = member
        end
    end
    out[#out + 1] = new and 1 or 0
end
if #scored > 0 then
    redis.call('ZADD', ready, unpack(scored))
    rouse()
end
return out
